/**
 * Scenario: a process that holds a lock in Redis is killed while another waits
 * for it. The sample is the time from just before the kill to just after the
 * other's acquire. The kill may fall anywhere into the waiter's pause.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { commonClock } from "../children/clock.mjs";
import { short, whole } from "../format.mjs";
import { REFERENCES } from "../pings.mjs";
import { redisVersion, withRedis } from "../redis_server.mjs";
import { inRounds } from "../rounds.mjs";
import { start } from "../run.mjs";
import { acquire, at, delay } from "../turns.mjs";
import { freshPath } from "../workspace.mjs";
import { probe } from "./redis_uncontended.mjs";

export const title = "A lock in Redis whose holder is killed";
export const ROUNDS = 2;

/** Per round. */
const SAMPLES = 20;
const PINGS = 100;
const TIMEOUT = 120_000;

/** The default, in milliseconds. */
const CHECK_INTERVAL = 250;

/** Microseconds. */
const MILLISECOND = 1000;

const inMilliseconds = (time) => short(time / MILLISECOND);

export const COLUMNS = [
  { title: "", cell: ({ label }) => label },
  { title: "median ms", cell: ({ median }) => inMilliseconds(median) },
  { title: "longest ms", cell: ({ longest }) => inMilliseconds(longest) },
  { title: "PING ms", cell: ({ ping }) => inMilliseconds(ping) },
  { title: "samples", cell: ({ count }) => whole(count) },
];

export { probe };

export async function run(contenders, folder, { rounds }) {
  return await withRedis(folder, (url) =>
    inRounds(
      contenders,
      rounds,
      ({ command }) => takeOver(command, `${url}#${freshPath(folder)}`),
      pooled,
    ));
}

export function method({ rounds }) {
  return `redis-server ${redisVersion()} on the same machine; rounds: ` +
    `${rounds}, in each every contender a process that waits and ${SAMPLES} ` +
    "others, one after the other, that are killed while they hold the lock; " +
    `PING ${PINGS} times in a row`;
}

export function aims() {
  return [{
    kind: "redis",
    onlyWithFfi: true,
    text: `a killed holder's lock is taken over within ${CHECK_INTERVAL} ms, ` +
      "the checkInterval, and two round trips",
    figure: ({ longest, ping }) =>
      Math.max(0, longest - CHECK_INTERVAL * MILLISECOND) / ping,
    most: 2,
    shown: (value) => `${short(value)} round trips late`,
  }];
}

async function takeOver(command, path) {
  const args = ["handover", path];
  const now = commonClock();
  const waiter = start(command, args, TIMEOUT);
  let holder;
  try {
    await waiter.hear();
    waiter.say(`${REFERENCES[0].name} ${PINGS}`);
    await waiter.hear();
    const killed = [];
    for (let i = 0; i < SAMPLES; i++) {
      holder = start(command, args, TIMEOUT);
      await holder.hear();
      await acquire(holder);
      await holder.hear();
      await acquire(waiter);
      await sleep(delay(CHECK_INTERVAL));
      killed.push(now());
      holder.kill();
      await waiter.hear();
      waiter.say("release");
    }
    const { acquired, pings: [{ taken }] } = await waiter.end();
    return { samples: acquired.map((time, i) => time - killed[i]), taken };
  } finally {
    waiter.kill();
    holder?.kill();
  }
}

function pooled(runs) {
  const ascending = (values) => values.sort((a, b) => a - b);
  const samples = ascending(runs.flatMap(({ samples }) => samples));
  return {
    median: at(samples, 0.5),
    longest: samples.at(-1),
    ping: at(ascending(runs.flatMap(({ taken }) => taken)), 0.5),
    count: samples.length,
  };
}
