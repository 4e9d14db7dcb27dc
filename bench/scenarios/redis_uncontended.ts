/**
 * Scenario: one process acquires and releases a lock in Redis that no other
 * process wants. The child prints `{ runtime, samples }`: the runtime, and
 * histograms by what was measured, including round trips of the same client.
 */

import { LABEL } from "../report/columns.ts";
import { short, whole } from "../report/format.ts";
import { run as runChild } from "../runner/child_process.ts";
import { merge, quantile, size } from "../runner/histogram.ts";
import type { Histogram } from "../runner/histogram.ts";
import {
  PING,
  PING_REFERENCES,
  ratiosToPing,
  withinTimesPing,
} from "../runner/redis_ping.ts";
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

/** Per contender and round. */
const WARM_UP_MS = 500;
const MEASURED_MS = 1000;
const TIMEOUT_MS = 60_000;

export const title = "A lock in Redis, acquire and release, uncontended";
export const ROUNDS = 3;

/** What this package should be ahead of. */
const PEERS = ["redlock", "redis-semaphore"];

const PARTS = ["acquire", "release", "both"] as const;

type Part = typeof PARTS[number];

/** What the child prints. The kinds of PING depend on the client library. */
interface Reported {
  readonly runtime: string;
  readonly samples:
    & Readonly<Record<Part, Histogram>>
    & Readonly<Record<string, Histogram | undefined>>;
}

/** Times in microseconds. */
interface Times {
  readonly median: number;
  readonly p99: number;
  readonly count: number;
  readonly samples: Histogram;
}

/** The times of a part, or of a kind of PING, are below its name. */
type Figures = Readonly<Record<Part, Times>> & {
  readonly runtime: string;
  readonly ping?: Times | undefined;
  readonly pingWithoutTimer?: Times | undefined;
  /** By the name of a kind of PING. */
  readonly times: Readonly<Record<string, Record<Part, number> | undefined>>;
};

type Result = ContenderInfo & Figures;

export const COLUMNS: readonly Column<Result>[] = [
  LABEL,
  ...PARTS.map((part): Column<Result> => ({
    title: `${part} µs`,
    cell: (result) => short(result[part].median),
  })),
  { title: "p99 µs", cell: ({ both }) => short(both.p99) },
  ...PING_REFERENCES.flatMap(({ name, title }): Column<Result>[] => [
    { title: `${title} µs`, cell: (result) => short(result[name]?.median) },
    ...PARTS.map((part): Column<Result> => ({
      title: `× ${part}`,
      cell: ({ times }) => short(times[name]?.[part]),
    })),
  ]),
  { title: "samples", cell: ({ both }) => whole(both.count) },
];

/** Resolves to the runtime of a command, or rejects if it cannot lock. */
export async function probe(command: Command, folder: string): Promise<string> {
  return await withRedis(folder, async (url) => {
    const { runtime } = await once(command, url, folder, 0, 1);
    return runtime;
  });
}

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds }: RunOptions,
): Promise<Measured<Result>> {
  return await withRedis(folder, (url) =>
    inRounds(
      contenders,
      rounds,
      ({ command }) => once(command, url, folder, WARM_UP_MS, MEASURED_MS),
      summarize,
    ));
}

export function method({ rounds }: RunOptions): string {
  return `redis-server ${redisVersion()} on the same machine; rounds: ` +
    `${rounds}, in each one process per contender, with ${WARM_UP_MS} ms to ` +
    `warm up and ${MEASURED_MS} ms measured, alternating between PING and ` +
    "the lock; ×: times that PING";
}

export function thresholds(results: readonly Result[]): Threshold<Result>[] {
  return [
    withinTimesPing(
      "acquire and release",
      PING.title,
      3,
      ({ times }: Result) => times[PING.name]?.both ?? NaN,
    ),
    ...PEERS.map((name): Threshold<Result> => {
      const peer = results.find((result) => result.name === name);
      return {
        kind: "redis",
        onlyWithFfi: true,
        text: `acquire and release in no more PINGs than ${name}`,
        figure: ({ times }) =>
          (times[PING.name]?.both ?? NaN) /
          (peer?.times[PING.name]?.both ?? NaN),
        atMost: 1,
        format: (ratio) => `${short(ratio)} times as many`,
      };
    }),
  ];
}

async function once(
  command: Command,
  url: string,
  folder: string,
  warmUp: number,
  measured: number,
): Promise<Reported> {
  const path = `${url}#${freshPath(folder)}`;
  const args = ["redis_uncontended", path, warmUp, measured];
  const result = await runChild<Reported>(command, args, TIMEOUT_MS);
  if (size(result.samples.both) === 0) throw new Error("measured nothing");
  return result;
}

function summarize(rounds: readonly Reported[]): Figures {
  const timesOf = (name: string): Times | undefined => {
    const histograms = rounds.flatMap(({ samples }) => {
      const histogram = samples[name];
      return histogram ? [histogram] : [];
    });
    if (histograms.length === 0) return undefined;
    const samples = merge(histograms);
    return {
      median: quantile(samples, 0.5) / 1000,
      p99: quantile(samples, 0.99) / 1000,
      count: size(samples),
      samples,
    };
  };
  const [acquire, release, both] = PARTS.map(timesOf);
  if (!acquire || !release || !both) throw new Error("measured nothing");
  const pings = {
    ping: timesOf("ping"),
    pingWithoutTimer: timesOf("pingWithoutTimer"),
  };
  return {
    runtime: rounds[0]?.runtime ?? "",
    acquire,
    release,
    both,
    ...pings,
    times: ratiosToPing(pings, ({ median }) => ({
      acquire: acquire.median / median,
      release: release.median / median,
      both: both.median / median,
    })),
  };
}
