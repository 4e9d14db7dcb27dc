/**
 * Scenario: a process that holds a lock in Redis is killed while another waits
 * for it. Samples are the times from the kill, and from the moment in which the
 * system has closed what the dead had open, to the other's acquire, as this
 * process sees them. The kill may fall anywhere into the waiter's pause.
 */

import { setTimeout as sleep } from "node:timers/promises";
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

/** What is measured in microseconds. */
const MILLISECOND = 1000;

export const COLUMNS = [
  { title: "", cell: ({ label }) => label },
  ...["kill", "end"].flatMap((since) => [
    {
      title: `from ${since}, median ms`,
      cell: (it) => short(it[since].median),
    },
    { title: "longest ms", cell: (it) => short(it[since].longest) },
  ]),
  { title: "PING ms", cell: ({ ping }) => short(ping) },
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
  return ["kill", "end"].map((since) => ({
    kind: "redis",
    onlyWithFfi: true,
    text: `a killed holder's lock is taken over within ${CHECK_INTERVAL} ms, ` +
      `the checkInterval, and two round trips from its ${since}`,
    figure: (result) =>
      Math.max(0, result[since].longest - CHECK_INTERVAL) / result.ping,
    most: 2,
    shown: (value) => `${short(value)} round trips more`,
  }));
}

async function takeOver(command, path) {
  const args = ["handover", path];
  const waiter = start(command, args, TIMEOUT);
  let holder;
  try {
    await waiter.hear();
    waiter.say(`${REFERENCES[0].name} ${PINGS}`);
    await waiter.hear();
    const samples = [];
    for (let i = 0; i < SAMPLES; i++) {
      holder = start(command, args, TIMEOUT);
      await holder.hear();
      await acquire(holder);
      await holder.hear();
      await acquire(waiter);
      await sleep(delay(CHECK_INTERVAL));
      const killed = performance.now();
      holder.kill();
      const [acquired, ended] = await Promise.all(
        [waiter.hear(), holder.hear().catch(() => {})]
          .map((event) => event.then(() => performance.now())),
      );
      samples.push({ kill: acquired - killed, end: acquired - ended });
      waiter.say("release");
    }
    const { pings: [{ taken }] } = await waiter.end();
    return { samples, taken };
  } finally {
    waiter.kill();
    holder?.kill();
  }
}

function pooled(runs) {
  const ascending = (values) => values.sort((a, b) => a - b);
  const since = (name) => {
    const all = runs.flatMap(({ samples }) => samples.map((it) => it[name]));
    const sorted = ascending(all);
    return { median: at(sorted, 0.5), longest: sorted.at(-1) };
  };
  const pings = ascending(runs.flatMap(({ taken }) => taken));
  return {
    kill: since("kill"),
    end: since("end"),
    ping: at(pings, 0.5) / MILLISECOND,
    count: runs.length * SAMPLES,
  };
}
