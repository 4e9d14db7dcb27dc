/**
 * Scenario: one process acquires and releases while nobody else is there. The
 * child prints `{ runtime, clock, samples }`: who ran, the nanoseconds that
 * reading the clock takes, and a histogram of single operations.
 */

import { merged, quantile, size } from "../histogram.mjs";
import { besideC, inRounds } from "../rounds.mjs";
import { run as runChild } from "../run.mjs";
import { COLUMNS, withinTimesC } from "../times.mjs";
import { freshPath } from "../workspace.mjs";

/** Milliseconds, per contender and round. */
const WARM_UP = 200;
const MEASURED = 300;
const TIMEOUT = 30_000;

export const title = "Acquire and release, nobody else there";
export const ROUNDS = 5;

export { COLUMNS };

/** Which runtime runs a command; rejects if it cannot lock at all. */
export async function probe(command, folder) {
  const { runtime } = await once(command, folder, 0, 1);
  return runtime;
}

export async function run(contenders, folder, { rounds }) {
  const { results, failed } = await inRounds(
    contenders,
    rounds,
    ({ command }) => once(command, folder, WARM_UP, MEASURED),
    pooled,
  );
  return {
    results: besideC(results, (one, c) => one.median / c.median),
    failed,
  };
}

export function method({ rounds }, results) {
  const clocks = results.map(({ clock }) => clock);
  return `rounds: ${rounds}, in each every contender a process of its own ` +
    `with ${WARM_UP} ms to warm up and ${MEASURED} ms measured; the clock's ` +
    `share of a sample is ${Math.min(...clocks)} to ${Math.max(...clocks)} ns`;
}

export function aims() {
  return [withinTimesC("sync", 2), withinTimesC("async", 10)];
}

async function once(command, folder, warmUp, measured) {
  const args = ["uncontended", freshPath(folder), warmUp, measured];
  const result = await runChild(command, args, TIMEOUT);
  if (size(result.samples) === 0) throw new Error("measured nothing");
  return result;
}

/** Times in microseconds, but for the clock and the samples. */
function pooled(runs) {
  const samples = merged(runs.map((run) => run.samples));
  const medians = runs.map((run) => quantile(run.samples, 0.5) / 1000);
  return {
    runtime: runs[0].runtime,
    clock: Math.max(...runs.map(({ clock }) => clock)),
    median: quantile(samples, 0.5) / 1000,
    p99: quantile(samples, 0.99) / 1000,
    lowestMedian: Math.min(...medians),
    highestMedian: Math.max(...medians),
    count: size(samples),
    samples,
  };
}
