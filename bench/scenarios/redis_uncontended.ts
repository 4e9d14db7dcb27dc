/**
 * Scenario: one process acquires and releases a lock in Redis while nobody else
 * is there. The child prints `{ runtime, samples }`: who ran, and histograms by
 * what was measured, the round trips of the same client among them.
 */

import { short, whole } from "../format.mjs";
import { merged, quantile, size } from "../histogram.mjs";
import { REFERENCES, referred, timesPing } from "../pings.mjs";
import { redisVersion, withRedis } from "../redis_server.mjs";
import { inRounds } from "../rounds.mjs";
import { run as runChild } from "../run.mjs";
import { freshPath } from "../workspace.mjs";

/** Milliseconds, per contender and round. */
const WARM_UP = 500;
const MEASURED = 1000;
const TIMEOUT = 60_000;

export const title = "A lock in Redis, acquire and release, nobody else there";
export const ROUNDS = 3;

const PARTS = ["acquire", "release", "both"];

export const COLUMNS = [
  { title: "", cell: ({ label }) => label },
  ...PARTS.map((part) => ({
    title: `${part} µs`,
    cell: (result) => short(result[part].median),
  })),
  { title: "p99 µs", cell: ({ both }) => short(both.p99) },
  ...REFERENCES.flatMap(({ name, title }) => [
    { title: `${title} µs`, cell: (result) => short(result[name]?.median) },
    ...PARTS.map((part) => ({
      title: `× ${part}`,
      cell: ({ times }) => short(times[name]?.[part]),
    })),
  ]),
  { title: "samples", cell: ({ both }) => whole(both.count) },
];

/** Which runtime runs a command; rejects if it cannot lock at all. */
export async function probe(command, folder) {
  return await withRedis(folder, async (url) => {
    const { runtime } = await once(command, url, folder, 0, 1);
    return runtime;
  });
}

export async function run(contenders, folder, { rounds }) {
  return await withRedis(folder, (url) =>
    inRounds(
      contenders,
      rounds,
      ({ command }) => once(command, url, folder, WARM_UP, MEASURED),
      pooled,
    ));
}

export function method({ rounds }) {
  return `redis-server ${redisVersion()} on the same machine; rounds: ` +
    `${rounds}, in each every contender a process of its own with ${WARM_UP} ` +
    `ms to warm up and ${MEASURED} ms measured, PING by turns with the lock; ` +
    "×: times that PING";
}

export function aims() {
  return REFERENCES.flatMap(({ name, title }) =>
    ["acquire", "release"].map((part) =>
      timesPing(part, title, 1.5, ({ times }) => times[name][part])
    )
  );
}

async function once(command, url, folder, warmUp, measured) {
  const path = `${url}#${freshPath(folder)}`;
  const args = ["redis_uncontended", path, warmUp, measured];
  const result = await runChild(command, args, TIMEOUT);
  if (size(result.samples.both) === 0) throw new Error("measured nothing");
  return result;
}

/** Times in microseconds. */
function pooled(runs) {
  const names = Object.keys(runs[0].samples);
  const figures = Object.fromEntries(names.map((name) => {
    const samples = merged(runs.map((run) => run.samples[name]));
    return [name, {
      median: quantile(samples, 0.5) / 1000,
      p99: quantile(samples, 0.99) / 1000,
      count: size(samples),
      samples,
    }];
  }));
  const times = referred(({ median }) =>
    Object.fromEntries(
      PARTS.map((part) => [part, figures[part].median / median]),
    ), figures);
  return { runtime: runs[0].runtime, ...figures, times };
}
