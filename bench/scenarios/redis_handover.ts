/**
 * Scenario: two processes hand one lock in Redis back and forth, as in
 * `handover`. While the other process waits, the holder also measures round
 * trips: many in a row before the first sample, and every other time one alone,
 * after the same delay as before a release.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { LABEL, MEDIAN_BY_ROUND } from "../report/columns.ts";
import { short, whole } from "../report/format.ts";
import type { Child } from "../runner/child_process.ts";
import { quantileOf } from "../runner/histogram.ts";
import {
  awakeIf,
  method as pingPongMethod,
  pingPong,
  releaseDelay,
  summarizeHandOvers,
} from "../runner/ping_pong.ts";
import type { HandOverFigures, HandOverTimes } from "../runner/ping_pong.ts";
import {
  PING,
  PING_REFERENCES,
  ratiosToPing,
  withinTimesPing,
} from "../runner/redis_ping.ts";
import type { PingReference } from "../runner/redis_ping.ts";
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
import { probe } from "./redis_uncontended.ts";

export const title = "A lock in Redis, hand-over from one process to another " +
  "that waits";
export const ROUNDS = 2;

/** Round trips in a row, per round, the first of them to warm up. */
const WARM_UP = 500;
const IN_A_ROW = 500;

const MICROSECONDS_PER_MS = 1000;

const PING_ALONE: PingReference = { name: "pingAlone", title: "PING alone" };

const ALL: readonly PingReference[] = [...PING_REFERENCES, PING_ALONE];

/** What two processes report in a round. */
interface Round {
  readonly samples: readonly number[];
  readonly reported: readonly HandOverTimes[];
}

type Figures = HandOverFigures & {
  /** Medians in microseconds, by the name of a kind of PING. */
  readonly pings: Readonly<Record<string, number | undefined>>;
  /** The ratio to each of them. */
  readonly times: Readonly<Record<string, number>>;
};

type Result = ContenderInfo & Figures;

export const COLUMNS: readonly Column<Result>[] = [
  LABEL,
  { title: "median µs", cell: ({ median }) => short(median) },
  { title: "p99 µs", cell: ({ p99 }) => short(p99) },
  ...ALL.flatMap(({ name, title }): Column<Result>[] => [
    { title: `${title} µs`, cell: ({ pings }) => short(pings[name]) },
    { title: "×", cell: ({ times }) => short(times[name]) },
  ]),
  MEDIAN_BY_ROUND,
  { title: "samples", cell: ({ count }) => whole(count) },
];

export { probe };

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds, awake }: RunOptions,
): Promise<Measured<Result>> {
  return await withRedis(folder, (url) => {
    const once = (contender: Contender) => measureRound(url, contender, folder);
    return awakeIf(
      awake,
      folder,
      () => inRounds(contenders, rounds, once, summarize),
    );
  });
}

export function method(options: RunOptions): string {
  return `redis-server ${redisVersion()} on the same machine; ` +
    `${pingPongMethod(options)}; PING ${IN_A_ROW} times in a row, or alone ` +
    "after the same delay as before a release; ×: times that PING";
}

export function thresholds(): Threshold<Result>[] {
  return [
    // As cold as a hand-over finds processors and caches.
    withinTimesPing(
      "hand-over",
      PING_ALONE.title,
      3.5,
      ({ times }: Result) => times[PING_ALONE.name] ?? NaN,
    ),
    {
      kind: "redis",
      onlyWithFfi: true,
      text: "a released lock is acquired within 1 ms",
      figure: ({ median }) => median,
      atMost: MICROSECONDS_PER_MS,
      format: (value) => `${short(value)} µs`,
    },
  ];
}

async function measureRound(
  url: string,
  contender: Contender,
  folder: string,
): Promise<Round> {
  const path = `${url}#${freshPath(folder)}`;
  return await pingPong(contender, path, async (holder, samples) => {
    if (samples === 0) {
      for (const { name } of PING_REFERENCES) {
        await measurePings(holder, name, WARM_UP + IN_A_ROW);
      }
    }
    if (samples % 2 > 0) return;
    await sleep(releaseDelay());
    await measurePings(holder, PING.name, 1);
  });
}

/** Resolves when the holder has measured. It reports the times at the end. */
async function measurePings(
  holder: Child,
  name: string,
  count: number,
): Promise<void> {
  holder.send(`${name} ${count}`);
  await holder.receive();
}

function summarize(rounds: readonly Round[]): Figures {
  const measured = rounds.flatMap(({ reported }) =>
    reported.flatMap(({ pings }) => pings ?? [])
  );
  const median = (name: string, length: number) =>
    quantileOf(
      measured.filter((one) => one.name === name && one.taken.length === length)
        .flatMap(({ taken }) => taken.slice(length > 1 ? WARM_UP : 0))
        .sort((a, b) => a - b),
      0.5,
    );
  const pings: Record<string, number | undefined> = {
    ...Object.fromEntries(
      PING_REFERENCES.map(({ name }) => {
        const found = median(name, WARM_UP + IN_A_ROW);
        return [name, Number.isNaN(found) ? undefined : found];
      }),
    ),
    pingAlone: median(PING.name, 1),
  };
  const result = summarizeHandOvers(rounds.map(({ samples }) => samples));
  const times = ratiosToPing(pings, (ping) => result.median / ping, ALL);
  return { ...result, pings, times };
}
