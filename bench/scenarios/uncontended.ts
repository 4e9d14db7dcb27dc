/**
 * Scenario: one process acquires and releases a lock that no other process
 * wants. The child prints `{ runtime, clock, samples }`: the runtime, the
 * nanoseconds that one reading of the clock takes, and a histogram of single
 * operations.
 */

import { TIME_COLUMNS, withinTimesC } from "../report/columns.ts";
import { run as runChild } from "../runner/child_process.ts";
import { merge, quantile, size } from "../runner/histogram.ts";
import type { Histogram } from "../runner/histogram.ts";
import { besideC, inRounds } from "../runner/rounds.ts";
import type { BesideC } from "../runner/rounds.ts";
import { freshPath } from "../runner/workspace.ts";
import type {
  Command,
  Contender,
  ContenderInfo,
  Measured,
  RunOptions,
  Threshold,
} from "../types.ts";

/** Per contender and round. */
const WARM_UP_MS = 200;
const MEASURED_MS = 300;
const TIMEOUT_MS = 30_000;

export const title = "Acquire and release, uncontended";
export const ROUNDS = 5;
export const COLUMNS = TIME_COLUMNS;

/** What the child prints. */
interface Reported {
  readonly runtime: string;
  readonly clock: number;
  readonly samples: Histogram;
}

/** Times in microseconds, except for the clock and the samples. */
interface Figures {
  readonly runtime: string;
  readonly clock: number;
  readonly median: number;
  readonly p99: number;
  readonly lowestMedian: number;
  readonly highestMedian: number;
  readonly count: number;
  readonly samples: Histogram;
}

type Result = BesideC<ContenderInfo & Figures>;

/** Resolves to the runtime of a command, or rejects if it cannot lock. */
export async function probe(command: Command, folder: string): Promise<string> {
  const { runtime } = await measureOnce(command, folder, 0, 1);
  return runtime;
}

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds }: RunOptions,
): Promise<Measured<Result>> {
  const { results, failed } = await inRounds(
    contenders,
    rounds,
    ({ command }) => measureOnce(command, folder, WARM_UP_MS, MEASURED_MS),
    summarize,
  );
  return {
    results: besideC(results, (one, c) => one.median / c.median),
    failed,
  };
}

export function method(
  { rounds }: RunOptions,
  results: readonly Result[],
): string {
  const clocks = results.map(({ clock }) => clock);
  return `rounds: ${rounds}, in each one process per contender, with ` +
    `${WARM_UP_MS} ms to warm up and ${MEASURED_MS} ms measured; reading the ` +
    `clock takes ${Math.min(...clocks)} to ${Math.max(...clocks)} ns of a ` +
    "sample";
}

export function thresholds(): Threshold<Result>[] {
  return [withinTimesC("sync", 2), withinTimesC("async", 10)];
}

async function measureOnce(
  command: Command,
  folder: string,
  warmUp: number,
  measured: number,
): Promise<Reported> {
  const args = ["uncontended", freshPath(folder), warmUp, measured];
  const reported = await runChild<Reported>(command, args, TIMEOUT_MS);
  if (size(reported.samples) === 0) throw new Error("measured nothing");
  return reported;
}

function summarize(rounds: readonly Reported[]): Figures {
  const samples = merge(rounds.map((round) => round.samples));
  const medians = rounds.map((round) => quantile(round.samples, 0.5) / 1000);
  return {
    runtime: rounds[0]?.runtime ?? "",
    clock: Math.max(...rounds.map(({ clock }) => clock)),
    median: quantile(samples, 0.5) / 1000,
    p99: quantile(samples, 0.99) / 1000,
    lowestMedian: Math.min(...medians),
    highestMedian: Math.max(...medians),
    count: size(samples),
    samples,
  };
}
