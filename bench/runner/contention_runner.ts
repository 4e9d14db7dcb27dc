/** Runs the scenarios in which four processes contend. */

import { short } from "../report/format.ts";
import type { Column, Commands } from "../types.ts";
import { start } from "./child_process.ts";
import { merge, quantile } from "./histogram.ts";
import type { Histogram } from "./histogram.ts";

const PROCESSES = 4;

/** The time for the start to reach all processes. */
const START_DELAY_MS = 100;

/** How much longer than the measurement a process may take. */
const GRACE_MS = 60_000;

/** What one of the four processes reports. */
export interface Counted {
  readonly count: number;
  readonly samples: Histogram;
}

/** What {@linkcode summarizeContention} makes of all rounds. */
export interface ContentionFigures {
  /** Of all four processes, per second. */
  readonly rate: number;
  /** The smallest count of the four over the largest, in the worst round. */
  readonly share: number;
  /** Microseconds. */
  readonly median: number;
  readonly p99: number;
  readonly longest: number;
  readonly counts: readonly (readonly number[])[];
}

/** The columns that these scenarios share. */
export const CONTENTION_COLUMNS: readonly Column<ContentionFigures>[] = [
  { title: "least/most", cell: ({ share }) => short(share) },
  { title: "p50 µs", cell: ({ median }) => short(median) },
  { title: "p99 µs", cell: ({ p99 }) => short(p99) },
];

/**
 * Runs four processes that start at one moment and measure for some seconds.
 *
 * @param commands The processes use them in turn.
 * @param scenario What the processes run, the path and the seconds.
 * @param meanwhile Gets the moment of the start, in the time of `Date.now`, and
 * a signal that is aborted when the processes have ended.
 * @returns What the four processes `reported` and what `meanwhile` `observed`.
 */
export async function contend<Observed = undefined>(
  commands: Commands,
  [scenario, path, seconds]: readonly [string, string, number],
  meanwhile?: (startTime: number, ended: AbortSignal) => Promise<Observed>,
): Promise<{ reported: Counted[]; observed: Observed | undefined }> {
  const args = [scenario, path, seconds * 1000];
  const ended = new AbortController();
  const children = Array.from({ length: PROCESSES }, (_, i) => {
    const command = commands[i % commands.length] ?? commands[0];
    return start(command, args, seconds * 1000 + GRACE_MS);
  });
  try {
    for (const child of children) await child.receive();
    const startTime = Date.now() + START_DELAY_MS;
    for (const child of children) child.send(startTime);
    const [observed, reported] = await Promise.all([
      meanwhile?.(startTime, ended.signal),
      Promise.all(children.map((child) => child.end<Counted>())),
    ]);
    return { reported, observed };
  } finally {
    ended.abort();
    for (const child of children) child.kill();
  }
}

/** How the reason starts if a contender loses updates. */
export const LOST_UPDATES = "LOST UPDATES";

/**
 * Compares the number in the file with what the four processes counted.
 *
 * @throws {Error} If they differ, because then the lock did not exclude.
 */
export function assertNoLostUpdates(
  reported: readonly Counted[],
  number: number,
): void {
  const sum = reported.reduce((sum, { count }) => sum + count, 0);
  if (number !== sum) {
    throw new Error(
      `${LOST_UPDATES}: ${sum} counted, but ${number} in the file`,
    );
  }
  if (sum === 0) throw new Error("measured nothing");
}

/**
 * Makes one result of all rounds.
 *
 * @param rounds What the four processes reported in each round.
 */
export function summarizeContention(
  rounds: readonly (readonly Counted[])[],
  seconds: number,
): ContentionFigures {
  const counts = rounds.map((round) => round.map(({ count }) => count));
  const times = merge(rounds.flat().map(({ samples }) => samples));
  return {
    rate: counts.flat().reduce((a, b) => a + b) / rounds.length / seconds,
    share: Math.min(
      ...counts.map((four) => Math.min(...four) / Math.max(...four)),
    ),
    median: quantile(times, 0.5) / 1000,
    p99: quantile(times, 0.99) / 1000,
    longest: (times.at(-1)?.[0] ?? NaN) / 1000,
    counts,
  };
}
