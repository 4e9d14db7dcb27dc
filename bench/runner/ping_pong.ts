/**
 * What the scenarios have in common in which two processes take turns with one
 * lock. While one holds it, the other says that it is about to acquire it and
 * waits. After a random delay the holder is told to let go; the sample is the
 * time from just before its release to just after the other's acquire. Then
 * they change roles.
 *
 * The delay makes the release fall anywhere into the pause of those who poll.
 * Those who are woken wait 2 to 5 ms, but one time in fifty up to 300 ms, in
 * case waiting for longer makes them slower.
 */

import { cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { compileC } from "./peers.mjs";
import { start } from "./run.mjs";

/** Per round; pollers get as many as fit into the time. */
const SAMPLES = 150;
/** Without a delay, until compilers are done with what runs here. */
const WARM_UP = 1_500;
const TIME = 3_000;
const TIMEOUT = 90_000;
const FOREVER = 2 ** 31 - 1;

/** Milliseconds. */
const SHORTEST_DELAY = 2;
const SHORT_DELAY = 5;
const LONG_DELAY = 300;
const LONG_DELAYS = 1 / 50;

/**
 * Lets two processes take turns.
 *
 * @param contender Its `command` and, of those who poll, the `period`.
 * @param path What to lock.
 * @param between Called before each delay, with the holder and how many samples
 * there are already, while the other waits.
 * @returns The `samples` in microseconds, ascending, and what the two `told`.
 */
export async function turns({ command, period }, path, between = () => {}) {
  const pair = [1, 2].map(() => start(command, ["handover", path], TIMEOUT));
  try {
    for (const child of pair) await child.hear();
    const handOvers = await takeTurns(pair, period, between);
    const told = await Promise.all(pair.map((child) => child.end()));
    const samples = differences(told, handOvers).slice(period ? 0 : WARM_UP)
      .sort((a, b) => a - b);
    return { samples, told };
  } finally {
    for (const child of pair) child.kill();
  }
}

/** Does something while the processors are kept awake, if that is wanted. */
export async function awakeIf(wanted, folder, body) {
  const spinners = wanted ? await keepAwake(folder) : [];
  const result = await body();
  for (const spinner of spinners) await spinner.end();
  return result;
}

/** How it was measured. */
export function method({ rounds, awake }) {
  return `rounds: ${rounds}, in each every contender two processes of its own ` +
    `with ${WARM_UP} hand-overs to warm up and ${SAMPLES} measured, pollers ` +
    `as many as fit into ${TIME / 1000} s; the processors ` +
    (awake ? "are kept awake" : "sleep when they are idle");
}

/** One result of the samples of all rounds. */
export function pooled(runs) {
  const all = runs.flat().sort((a, b) => a - b);
  const medians = runs.map((run) => at(run, 0.5));
  return {
    median: at(all, 0.5),
    p99: at(all, 0.99),
    lowestMedian: Math.min(...medians),
    highestMedian: Math.max(...medians),
    count: all.length,
    samples: all.map((sample) => Number(sample.toFixed(3))),
  };
}

/** The value below which the given share of all ascending values lies. */
export function at(values, share) {
  return values[Math.max(0, Math.ceil(share * values.length) - 1)];
}

/** In milliseconds. */
export function delay(period) {
  const longest = period ??
    (Math.random() < LONG_DELAYS ? LONG_DELAY : SHORT_DELAY);
  return SHORTEST_DELAY + Math.random() * (longest - SHORTEST_DELAY);
}

/** Resolves to the number of hand-overs. */
async function takeTurns([holder, waiter], period, between) {
  let last = performance.now() + TIME;
  await acquire(holder);
  await holder.hear();
  const skipped = period ? 0 : WARM_UP;
  let count = 0;
  do {
    await acquire(waiter);
    if (count >= skipped) {
      const start = performance.now();
      await between(holder, count - skipped);
      last += performance.now() - start;
      await sleep(delay(period));
    }
    holder.say("release");
    await waiter.hear();
    [holder, waiter] = [waiter, holder];
    count++;
  } while (
    count < WARM_UP + SAMPLES && (!period || performance.now() < last)
  );
  holder.say("release");
  return count;
}

/** Resolves when the child is about to wait. */
export async function acquire(child) {
  child.say("acquire");
  await child.hear();
}

/** The times at which the two took turns, subtracted. */
function differences(told, handOvers) {
  const result = Array.from({ length: handOvers }, (_, i) => {
    const released = told[i % 2].released[i >> 1];
    const acquired = told[(i + 1) % 2].acquired[(i + 1) >> 1];
    return acquired - released;
  });
  if (result.length > 0 && result.every((sample) => sample > 0)) return result;
  throw new Error("two holders at a time, or clocks that differ");
}

/** A process for each processor that spins whenever nobody else runs. */
async function keepAwake(folder) {
  const program = compileC(folder);
  if (!program) throw new Error("--awake needs a C compiler");
  const spinners = cpus().map(() => start([program], ["awake"], FOREVER));
  for (const spinner of spinners) await spinner.hear();
  return spinners;
}
