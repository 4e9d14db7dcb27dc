/**
 * Scenario: one client holds 20,000 locks in Redis. Counts the leases that are
 * lost, and the longest time without a turn of its event loop.
 */

import { LABEL } from "../report/columns.ts";
import { short, whole } from "../report/format.ts";
import { measureCrowd } from "../runner/redis_crowd.ts";
import type { Crowd } from "../runner/redis_crowd.ts";
import { redisVersion, withRedis } from "../runner/redis_server.ts";
import { inRounds } from "../runner/rounds.ts";
import { freshPath } from "../runner/workspace.ts";
import type {
  Column,
  Contender,
  ContenderInfo,
  Measured,
  RunOptions,
  Threshold,
} from "../types.ts";

export const title = "20,000 locks in Redis held by one client";
export const ROUNDS = 1;

const COUNT = 20_000;

/** A user notices a longer one. */
const LONGEST_STALL_MS = 20;

type Result = ContenderInfo & Crowd;

export const COLUMNS: readonly Column<Result>[] = [
  LABEL,
  { title: "leases lost", cell: ({ lost }) => whole(lost) },
  { title: "longest stall ms", cell: ({ stall }) => short(stall) },
  { title: "server CPU %", cell: ({ processor }) => short(processor) },
  { title: "scripts/s", cell: ({ scripts }) => short(scripts) },
];

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds, seconds }: RunOptions,
): Promise<Measured<Result>> {
  return await withRedis(folder, (url) =>
    inRounds(
      contenders,
      rounds,
      ({ command }) => {
        const path = `${url}#${freshPath(folder)}`;
        return measureCrowd(command, path, ["held", COUNT], seconds);
      },
      worst,
    ));
}

export function method({ seconds }: RunOptions): string {
  return `redis-server ${redisVersion()} on the same machine; one process, ` +
    `from when it holds all locks, for ${seconds} s`;
}

export function thresholds(): Threshold<Result>[] {
  return [
    {
      kind: "redis",
      onlyWithFfi: true,
      text: "no lease is lost",
      figure: ({ lost }) => lost,
      atMost: 0,
      format: (value) => `${whole(value)} lost`,
    },
    {
      kind: "redis",
      onlyWithFfi: true,
      text: `the event loop stalls for at most ${LONGEST_STALL_MS} ms`,
      figure: ({ stall }) => stall,
      atMost: LONGEST_STALL_MS,
      format: (value) => `${short(value)} ms`,
    },
  ];
}

function worst(rounds: readonly Crowd[]): Crowd {
  const largest = (name: keyof Crowd) =>
    Math.max(...rounds.map((one) => one[name]));
  return {
    scripts: largest("scripts"),
    messages: largest("messages"),
    processor: largest("processor"),
    stall: largest("stall"),
    lost: largest("lost"),
  };
}
