/**
 * Scenario: the processor time of the server while readers hold a lock in Redis
 * and do nothing, and while a semaphore is full and as many wait for it. Each
 * has a client of its own.
 */

import { LABEL } from "../report/columns.ts";
import { short } from "../report/format.ts";
import { measureCrowd } from "../runner/redis_crowd.ts";
import type { Crowd, Role } from "../runner/redis_crowd.ts";
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

export const title = "What idle holders of a lock in Redis cost the server";
export const ROUNDS = 1;

const CASES: readonly (readonly [Role, number])[] = [
  ["readers", 100],
  ["readers", 300],
  ["readers", 1000],
  ["semaphore", 300],
];

/** Percent of a processor. */
const MOST = 5;

type Result = ContenderInfo & {
  readonly crowds: readonly (Crowd | undefined)[];
};

const titleOf = ([role, count]: readonly [Role, number]) =>
  role === "readers" ? `${count} readers` : `${count} of ${count} + ${count}`;

export const COLUMNS: readonly Column<Result>[] = [
  LABEL,
  ...CASES.flatMap((one, i): Column<Result>[] => [
    {
      title: `${titleOf(one)}: CPU %`,
      cell: ({ crowds }) => short(crowds[i]?.processor),
    },
    { title: "scripts/s", cell: ({ crowds }) => short(crowds[i]?.scripts) },
    { title: "messages/s", cell: ({ crowds }) => short(crowds[i]?.messages) },
    { title: "lost", cell: ({ crowds }) => `${crowds[i]?.lost ?? "-"}` },
  ]),
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
      async ({ command, ours }) => {
        const crowds = [];
        for (const one of CASES) {
          // The others do not have shared locks.
          const exists = ours || one[0] === "semaphore";
          const path = `${url}#${freshPath(folder)}`;
          crowds.push(
            exists
              ? await measureCrowd(command, path, one, seconds)
              : undefined,
          );
        }
        return crowds;
      },
      ([crowds = []]) => ({ crowds }),
    ));
}

export function method({ seconds }: RunOptions): string {
  return `redis-server ${redisVersion()} on the same machine; one process ` +
    `with a client for each holder, user and system time over ${seconds} s`;
}

export function thresholds(): Threshold<Result>[] {
  return CASES.map((one, i) => ({
    kind: "redis",
    onlyWithFfi: true,
    text: `${titleOf(one)} take less than ${MOST} % of a processor`,
    figure: ({ crowds }: Result) => crowds[i]?.processor ?? null,
    atMost: MOST,
    format: (value: number) => `${short(value)} %`,
  }));
}
