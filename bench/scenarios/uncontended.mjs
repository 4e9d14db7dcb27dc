/**
 * Scenario: one process acquires and releases while nobody else is there. The
 * child prints `{ runtime, clock, samples }`: who ran, the nanoseconds that
 * reading the clock takes, and a histogram of single operations.
 */

import process from "node:process";
import { merged, quantile, size } from "../histogram.mjs";
import { run as runChild } from "../run.mjs";
import { freshPath } from "../workspace.mjs";

/** Milliseconds, per contender and round. */
export const WARM_UP = 200;
export const MEASURED = 300;
const TIMEOUT = 30_000;

/** Whether the contender works at all; rejects if not. */
export async function probe(contender, folder) {
  const { samples } = await once(contender, folder, 0, 1);
  if (size(samples) === 0) throw new Error("measured nothing");
}

/**
 * Every contender in every round, one at a time and in random order, so that
 * what else the machine does meets them all alike.
 *
 * @returns One result per contender, in their order.
 */
export async function run(contenders, folder, rounds) {
  const runs = new Map(contenders.map((contender) => [contender, []]));
  for (let round = 1; round <= rounds; round++) {
    if (process.stderr.isTTY) {
      process.stderr.write(`\rRound ${round} of ${rounds}`);
    }
    for (const contender of shuffled(contenders)) {
      const result = await once(contender, folder, WARM_UP, MEASURED)
        .catch((error) => {
          throw new Error(`${contender.name}: ${error.message}`);
        });
      runs.get(contender).push(result);
    }
  }
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  const results = contenders.map((contender) =>
    pooled(contender, runs.get(contender))
  );
  const c = results.find(({ name }) => name === "c")?.median;
  return results.map((result) => ({
    ...result,
    timesC: c === undefined ? null : result.median / c,
  }));
}

function once(contender, folder, warmUp, measured) {
  const args = ["uncontended", freshPath(folder), warmUp, measured];
  return runChild(contender, args, TIMEOUT);
}

/** Times in microseconds, but for the samples, which are as they came. */
function pooled({ name, label, ours, aim }, runs) {
  const samples = merged(runs.map((run) => run.samples));
  const medians = runs.map((run) => quantile(run.samples, 0.5) / 1000);
  return {
    name,
    label,
    ours,
    aim,
    runtime: runs[0].runtime,
    clock: Math.max(...runs.map(({ clock }) => clock)) / 1000,
    median: quantile(samples, 0.5) / 1000,
    p99: quantile(samples, 0.99) / 1000,
    timesC: null,
    lowestMedian: Math.min(...medians),
    highestMedian: Math.max(...medians),
    count: size(samples),
    samples,
  };
}

/** Fisher and Yates. */
function shuffled(items) {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}
