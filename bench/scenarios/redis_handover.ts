/**
 * Scenario: two processes take turns with one lock in Redis, as in `handover`.
 * While the other waits, the holder also measures round trips: many in a row,
 * before the first sample, and every other time one alone, after a delay as
 * before a release.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { short, whole } from "../format.mjs";
import { REFERENCES, referred, timesPing } from "../pings.mjs";
import { redisVersion, withRedis } from "../redis_server.mjs";
import { inRounds } from "../rounds.mjs";
import {
  at,
  awakeIf,
  delay,
  method as methodOfTurns,
  pooled as pooledSamples,
  turns,
} from "../turns.mjs";
import { freshPath } from "../workspace.mjs";
import { probe } from "./redis_uncontended.mjs";

export const title = "A lock in Redis, hand-over from one process to another " +
  "that waits";
export const ROUNDS = 2;

/** Round trips in a row, per round, the first of them to warm up. */
const WARM_UP = 500;
const IN_A_ROW = 500;

/** Microseconds. */
const MILLISECOND = 1000;

const ALL = [...REFERENCES, { name: "pingAlone", title: "PING alone" }];

export const COLUMNS = [
  { title: "", cell: ({ label }) => label },
  { title: "median µs", cell: ({ median }) => short(median) },
  { title: "p99 µs", cell: ({ p99 }) => short(p99) },
  ...ALL.flatMap(({ name, title }) => [
    { title: `${title} µs`, cell: ({ pings }) => short(pings[name]) },
    { title: "×", cell: ({ times }) => short(times[name]) },
  ]),
  {
    title: "median by round",
    cell: ({ lowestMedian, highestMedian }) =>
      `${short(lowestMedian)} to ${short(highestMedian)}`,
  },
  { title: "samples", cell: ({ count }) => whole(count) },
];

export { probe };

export async function run(contenders, folder, { rounds, awake }) {
  return await withRedis(folder, (url) => {
    const once = (contender) => turnsIn(url, contender, folder);
    return awakeIf(
      awake,
      folder,
      () => inRounds(contenders, rounds, once, pooled),
    );
  });
}

export function method(options) {
  return `redis-server ${redisVersion()} on the same machine; ` +
    `${methodOfTurns(options)}; PING ${IN_A_ROW} times in a row, or alone ` +
    "after as long a delay as before a release; ×: times that PING";
}

export function aims() {
  return [
    ...ALL.map(({ name, title }) =>
      timesPing("hand-over", title, 3, ({ times }) => times[name])
    ),
    {
      kind: "redis",
      onlyWithFfi: true,
      text: "a released lock is taken within 1 ms",
      figure: ({ median }) => median,
      most: MILLISECOND,
      shown: (value) => `${short(value)} µs`,
    },
  ];
}

async function turnsIn(url, contender, folder) {
  const path = `${url}#${freshPath(folder)}`;
  return await turns(contender, path, async (holder, samples) => {
    if (samples === 0) {
      for (const { name } of REFERENCES) {
        await ping(holder, name, WARM_UP + IN_A_ROW);
      }
    }
    if (samples % 2 > 0) return;
    await sleep(delay());
    await ping(holder, REFERENCES[0].name, 1);
  });
}

async function ping(holder, name, count) {
  holder.say(`${name} ${count}`);
  await holder.hear();
}

function pooled(runs) {
  const told = runs.flatMap(({ told }) => told.flatMap(({ pings }) => pings));
  const median = (name, length) =>
    at(
      told.filter((one) => one.name === name && one.taken.length === length)
        .flatMap(({ taken }) => taken.slice(length > 1 ? WARM_UP : 0))
        .sort((a, b) => a - b),
      0.5,
    );
  const pings = {
    ...Object.fromEntries(
      REFERENCES.map(({ name }) => [name, median(name, WARM_UP + IN_A_ROW)]),
    ),
    pingAlone: median(REFERENCES[0].name, 1),
  };
  const result = pooledSamples(runs.map(({ samples }) => samples));
  const times = referred((ping) => result.median / ping, pings, ALL);
  return { ...result, pings, times };
}
