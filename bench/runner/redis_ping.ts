/**
 * What locks in Redis are compared with: PING by the contender's client library
 * on a separate connection, in the same process.
 *
 * By default node-redis sets a timer for each command. So there are two
 * references: a client with the defaults, and one without that timer.
 */

import { short } from "../report/format.ts";
import type { Threshold } from "../types.ts";

/** A kind of PING: its name in commands and results, and its title. */
export interface PingReference {
  readonly name: string;
  readonly title: string;
}

export const PING = { name: "ping", title: "PING" } as const;

export const PING_REFERENCES = [
  PING,
  { name: "pingWithoutTimer", title: "PING without timer" },
] as const;

/** Returns the ratio to each reference that was measured, by its name. */
export function ratiosToPing<Figures, Ratio>(
  figures: Readonly<Record<string, Figures | undefined>>,
  ratio: (ping: Figures) => Ratio,
  references: readonly PingReference[] = PING_REFERENCES,
): Record<string, Ratio> {
  return Object.fromEntries(
    references.flatMap(({ name }) => {
      const ping = figures[name];
      return ping ? [[name, ratio(ping)]] : [];
    }),
  );
}

/** The threshold that an operation takes at most some multiple of PING. */
export function withinTimesPing<Result>(
  operation: string,
  reference: string,
  atMost: number,
  figure: (result: Result) => number | null,
): Threshold<Result> {
  return {
    kind: "redis",
    onlyWithFfi: true,
    text: `${operation} within ${atMost} times ${reference}`,
    figure,
    atMost,
    format: short,
  };
}
