/** What the scenarios have in common in which four processes contend. */

import { short } from "./format.mjs";
import { merged, quantile } from "./histogram.mjs";
import { start } from "./run.mjs";

const PROCESSES = 4;

/** Milliseconds: for the start to reach everybody, and for stragglers. */
const HEAD_START = 100;
const PATIENCE = 60_000;

/** The columns of `pooled` that all of them have. */
export const COLUMNS = [
  { title: "least/most", cell: ({ share }) => short(share) },
  { title: "p50 µs", cell: ({ median }) => short(median) },
  { title: "p99 µs", cell: ({ p99 }) => short(p99) },
];

/**
 * Lets four processes do the same from one moment on, for some seconds.
 *
 * @param commands Theirs, in turn.
 * @param scenario What they play, with the `path` and the milliseconds.
 * @param meanwhile Is given the moment, of `Date.now`, and a signal that they
 * have ended.
 * @returns What the four `told`, `count` and `samples`, and what came of
 * `meanwhile`.
 */
export async function four(commands, [scenario, path, seconds], meanwhile) {
  const args = [scenario, path, seconds * 1000];
  const over = new AbortController();
  const children = Array.from({ length: PROCESSES }, (_, i) => {
    const command = commands[i % commands.length];
    return start(command, args, seconds * 1000 + PATIENCE);
  });
  try {
    for (const child of children) await child.hear();
    const moment = Date.now() + HEAD_START;
    for (const child of children) child.say(moment);
    const [seen, ...told] = await Promise.all([
      meanwhile?.(moment, over.signal),
      ...children.map((child) => child.end()),
    ]);
    return { told, seen };
  } finally {
    over.abort();
    for (const child of children) child.kill();
  }
}

/** How the reason begins for which a contender fails that loses updates. */
export const LOST = "LOST UPDATES";

/** Under mutual exclusion the number is what the four say they counted. */
export function mustAddUp(told, number) {
  const sum = told.reduce((sum, { count }) => sum + count, 0);
  if (number !== sum) {
    throw new Error(`${LOST}: ${sum} counted, but ${number} in the file`);
  }
  if (sum === 0) throw new Error("measured nothing");
}

/**
 * Times in microseconds. The fairness is that of the worst round.
 *
 * @param runs What the four told in each round.
 */
export function pooled(runs, seconds) {
  const counts = runs.map((told) => told.map(({ count }) => count));
  const times = merged(runs.flat().map(({ samples }) => samples));
  return {
    rate: counts.flat().reduce((a, b) => a + b) / runs.length / seconds,
    share: Math.min(
      ...counts.map((four) => Math.min(...four) / Math.max(...four)),
    ),
    median: quantile(times, 0.5) / 1000,
    p99: quantile(times, 0.99) / 1000,
    longest: times.at(-1)[0] / 1000,
    counts,
  };
}
