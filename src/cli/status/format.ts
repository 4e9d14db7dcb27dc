/** How the states of locks are printed. */

import { formatName } from "../../options/validate.ts";

/**
 * Formats the line of a lock.
 *
 * @param maximum The largest number of holders, for a semaphore.
 */
export function formatState(
  name: string,
  maximum: number | undefined,
  holders: number,
): string {
  const state = maximum !== undefined
    ? `${holders} of ${maximum} held`
    : holders > 0
    ? "locked"
    : "not locked";
  return `${formatName(name)}: ${state}\n`;
}
