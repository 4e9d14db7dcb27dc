/**
 * Scenario: one process acquires and releases 1 to 1000 locks in Redis through
 * one client, one loop for each lock. The child prints the pairs of acquire and
 * release per second.
 */

import { LABEL } from "../report/columns.ts";
import { short, whole } from "../report/format.ts";
import { run as runChild } from "../runner/child_process.ts";
import { redisVersion, withRedis } from "../runner/redis_server.ts";
import { inRounds } from "../runner/rounds.ts";
import { freshPath } from "../runner/workspace.ts";
import type {
  Column,
  Command,
  Contender,
  ContenderInfo,
  Measured,
  RunOptions,
  Threshold,
} from "../types.ts";

/** For each number of locks. */
const WARM_UP_MS = 500;
const MEASURED_MS = 1000;
const TIMEOUT_MS = 60_000;

const COUNTS = [1, 10, 100, 1000] as const;

/** What this package should be ahead of. */
const PEER = "redlock";

export const title = "Locks in Redis, acquired and released in parallel";
export const ROUNDS = 3;

type Result = ContenderInfo & {
  /** Pairs a second for each of the counts, the median of all rounds. */
  readonly pairs: readonly number[];
};

export const COLUMNS: readonly Column<Result>[] = [
  LABEL,
  ...COUNTS.map((count, i): Column<Result> => ({
    title: `pairs/s, ${count} lock${count > 1 ? "s" : ""}`,
    cell: ({ pairs }) => whole(pairs[i] ?? NaN),
  })),
];

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds }: RunOptions,
): Promise<Measured<Result>> {
  return await withRedis(folder, (url) =>
    inRounds(
      contenders,
      rounds,
      ({ command }) => once(command, `${url}#${freshPath(folder)}`),
      (measured) => ({
        pairs: COUNTS.map((_, i) => median(measured.map((one) => one[i]))),
      }),
    ));
}

export function method({ rounds }: RunOptions): string {
  return `redis-server ${redisVersion()} on the same machine; rounds: ` +
    `${rounds}, in each one process per contender, with ${WARM_UP_MS} ms to ` +
    `warm up and ${MEASURED_MS} ms measured for each number of locks`;
}

export function thresholds(results: readonly Result[]): Threshold<Result>[] {
  const peer = results.find(({ name }) => name === PEER);
  return COUNTS.map((count, i) => ({
    kind: "redis",
    onlyWithFfi: true,
    text: `as many pairs a second as ${PEER} with ${count} locks`,
    figure: ({ pairs }: Result) =>
      peer ? (pairs[i] ?? NaN) / (peer.pairs[i] ?? NaN) : null,
    atLeast: 1,
    format: (ratio: number) => `${short(ratio)} times`,
  }));
}

async function once(command: Command, path: string): Promise<number[]> {
  const args = [path, COUNTS.join(), WARM_UP_MS, MEASURED_MS];
  const { pairs } = await runChild<{ pairs: number[] }>(
    command,
    ["redis_throughput", ...args],
    TIMEOUT_MS,
  );
  return pairs;
}

function median(values: readonly (number | undefined)[]): number {
  const sorted = values.map((value) => value ?? NaN).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}
