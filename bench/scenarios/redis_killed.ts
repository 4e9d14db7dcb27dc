/**
 * Scenario: a process that holds a lock in Redis is killed while another
 * process waits for the lock. One sample is the time from the kill, another the
 * time from when the kernel has closed the killed process's files, both to the
 * acquire of the waiter, as this process sees it. The kill falls at a random
 * time within the waiter's pause.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { LABEL } from "../report/columns.ts";
import { short, whole } from "../report/format.ts";
import { start } from "../runner/child_process.ts";
import type { Child } from "../runner/child_process.ts";
import { quantileOf } from "../runner/histogram.ts";
import { beginAcquire, releaseDelay } from "../runner/ping_pong.ts";
import type { HandOverTimes } from "../runner/ping_pong.ts";
import { PING } from "../runner/redis_ping.ts";
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
import { probe } from "./redis_uncontended.ts";

export const title = "A lock in Redis whose holder is killed";
export const ROUNDS = 2;

/** Per round. */
const SAMPLES = 20;
const PINGS = 100;
const TIMEOUT_MS = 120_000;

/** The default of `checkInterval`. */
const CHECK_INTERVAL_MS = 250;

const MICROSECONDS_PER_MS = 1000;

/** The starts of the two samples. */
const STARTS = ["kill", "end"] as const;

type Start = typeof STARTS[number];

interface Round {
  /** Milliseconds. */
  readonly samples: readonly Readonly<Record<Start, number>>[];
  /** Microseconds of each PING. */
  readonly taken: readonly number[];
}

/** Milliseconds. */
type Figures =
  & Readonly<Record<Start, { readonly median: number; longest: number }>>
  & { readonly ping: number; readonly count: number };

type Result = ContenderInfo & Figures;

export const COLUMNS: readonly Column<Result>[] = [
  LABEL,
  ...STARTS.flatMap((since): Column<Result>[] => [
    {
      title: `from ${since}, median ms`,
      cell: (result) => short(result[since].median),
    },
    { title: "longest ms", cell: (result) => short(result[since].longest) },
  ]),
  { title: "PING ms", cell: ({ ping }) => short(ping) },
  { title: "samples", cell: ({ count }) => whole(count) },
];

export { probe };

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds }: RunOptions,
): Promise<Measured<Result>> {
  return await withRedis(folder, (url) =>
    inRounds(
      contenders,
      rounds,
      ({ command }) => measureRound(command, `${url}#${freshPath(folder)}`),
      summarize,
    ));
}

export function method({ rounds }: RunOptions): string {
  return `redis-server ${redisVersion()} on the same machine; rounds: ` +
    `${rounds}, in each per contender one process that waits and ${SAMPLES} ` +
    "others, one after the other, that are killed while they hold the lock; " +
    `PING ${PINGS} times in a row`;
}

export function thresholds(): Threshold<Result>[] {
  return STARTS.map((since) => ({
    kind: "redis",
    onlyWithFfi: true,
    text:
      `a killed holder's lock is acquired within ${CHECK_INTERVAL_MS} ms, ` +
      `the checkInterval, and two round trips from its ${since}`,
    figure: (result: Result) =>
      Math.max(0, result[since].longest - CHECK_INTERVAL_MS) / result.ping,
    atMost: 2,
    format: (value: number) => `${short(value)} round trips more`,
  }));
}

async function measureRound(command: Command, path: string): Promise<Round> {
  const args = ["handover", path];
  const waiter = start(command, args, TIMEOUT_MS);
  let holder: Child | undefined;
  try {
    await waiter.receive();
    waiter.send(`${PING.name} ${PINGS}`);
    await waiter.receive();
    const samples = [];
    for (let i = 0; i < SAMPLES; i++) {
      holder = start(command, args, TIMEOUT_MS);
      await holder.receive();
      await beginAcquire(holder);
      await holder.receive();
      await beginAcquire(waiter);
      await sleep(releaseDelay(CHECK_INTERVAL_MS));
      const killed = performance.now();
      holder.kill();
      const [acquired, ended] = await Promise.all([
        waiter.receive().then(() => performance.now()),
        // The process is killed, so its output ends.
        holder.receive().catch(() => {}).then(() => performance.now()),
      ]);
      samples.push({ kill: acquired - killed, end: acquired - ended });
      waiter.send("release");
    }
    const { pings } = await waiter.end<HandOverTimes>();
    return { samples, taken: pings?.[0]?.taken ?? [] };
  } finally {
    waiter.kill();
    holder?.kill();
  }
}

function summarize(rounds: readonly Round[]): Figures {
  const ascending = (values: number[]) => values.sort((a, b) => a - b);
  const since = (name: Start) => {
    const sorted = ascending(
      rounds.flatMap(({ samples }) => samples.map((sample) => sample[name])),
    );
    return {
      median: quantileOf(sorted, 0.5),
      longest: sorted.at(-1) ?? NaN,
    };
  };
  const pings = ascending(rounds.flatMap(({ taken }) => taken));
  return {
    kill: since("kill"),
    end: since("end"),
    ping: quantileOf(pings, 0.5) / MICROSECONDS_PER_MS,
    count: rounds.length * SAMPLES,
  };
}
