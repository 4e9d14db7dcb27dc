/**
 * Scenario: what the waiters of one lock in Redis cost the server while nothing
 * happens: 10, 100 and 1000 of them, each with a client of its own, without and
 * with a waiter of Python's portalocker.
 */

import { pythonWaiter } from "../contenders/redis.ts";
import { LABEL } from "../report/columns.ts";
import { short } from "../report/format.ts";
import { start } from "../runner/child_process.ts";
import { beginAcquire } from "../runner/ping_pong.ts";
import { measureCrowd } from "../runner/redis_crowd.ts";
import type { ServerRates } from "../runner/redis_crowd.ts";
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

export const title = "What the waiters of a lock in Redis cost the server";
export const ROUNDS = 1;

const COUNTS = [10, 100, 1000] as const;
const TIMEOUT_MS = 300_000;

/** A thousand waiters may cost this many times as much as ten. */
const FLAT = 3;

/** What is measured, by its title. Others than this package lack some. */
type Rates = Readonly<Record<string, ServerRates | undefined>>;

type Result = ContenderInfo & { readonly rates: Rates };

const CASES = COUNTS.flatMap((count) => [
  { title: `${count}`, count, python: false },
  { title: `${count} + Python`, count, python: true },
]);

export const COLUMNS: readonly Column<Result>[] = [
  LABEL,
  ...CASES.flatMap(({ title }): Column<Result>[] => [
    {
      title: `${title}: scripts/s`,
      cell: ({ rates }) => short(rates[title]?.scripts),
    },
    {
      title: "messages/s",
      cell: ({ rates }) => short(rates[title]?.messages),
    },
    {
      title: "CPU %",
      cell: ({ rates }) => short(rates[title]?.processor),
    },
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
      async (contender) => {
        const rates: Record<string, ServerRates> = {};
        for (const { title, count, python } of CASES) {
          // Python shares locks with this package only.
          if (python && !contender.ours) continue;
          const name = `${url}#${freshPath(folder)}`;
          const measure = (whenReady?: () => unknown) =>
            measureCrowd(
              contender.command,
              name,
              ["waiters", count],
              seconds,
              whenReady,
            );
          rates[title] =
            await (python ? besidePython(name, measure) : measure());
        }
        return rates;
      },
      ([rates = {}]) => ({ rates }),
    ));
}

export function method({ seconds }: RunOptions): string {
  return `redis-server ${redisVersion()} on the same machine; one process ` +
    `with a client for each waiter, over ${seconds} s, from INFO`;
}

export function thresholds(): Threshold<Result>[] {
  return [false, true].flatMap((python) =>
    (["scripts", "messages"] as const).map((what) => ({
      kind: "redis",
      onlyWithFfi: true,
      text: `1000 waiters${python ? " and one of Python" : ""} cause at most ` +
        `${FLAT} times as many ${what} as 10, or one per waiter in 10 s`,
      figure: ({ rates }: Result) => growth(rates, python, what),
      atMost: FLAT,
      format: (value: number) => `${short(value)} times`,
    }))
  );
}

/** How much more 1000 waiters cost than 10. */
function growth(
  rates: Rates,
  python: boolean,
  what: "scripts" | "messages",
): number | null {
  const [few, many] = [10, 1000].map((count) =>
    rates[`${count}${python ? " + Python" : ""}`]?.[what]
  );
  if (few === undefined || many === undefined) return null;
  return many <= 100 ? 1 : many / Math.max(few, 1);
}

/** Measures while a process of Python's portalocker waits, too. */
async function besidePython<Measured>(
  path: string,
  measure: (whenReady?: () => unknown) => Promise<Measured>,
): Promise<Measured> {
  const command = pythonWaiter();
  if (command === undefined) return await measure();
  const child = start(command, ["handover", path], TIMEOUT_MS);
  try {
    await child.receive();
    return await measure(() => beginAcquire(child));
  } finally {
    child.kill();
  }
}
