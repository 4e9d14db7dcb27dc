/**
 * The hidden subcommand of the processes that `portalock doctor` starts.
 *
 * @module
 */

import { runProbe } from "./probe.ts";

/** Runs the subcommand and returns the exit status. */
export async function run(): Promise<number> {
  await runProbe();
  return 0;
}
