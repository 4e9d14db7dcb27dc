/**
 * The child's side of the scenario of that name: `PATH ROLE WAITERS ...`, with
 * as many lockers, each on a file of its own.
 */

import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { hear, say } from "./talk.mjs";

const READINGS = 100;

/** So many milliseconds a reading may take before it counts as stuck. */
const PATIENCE = 2000;

/** The longest pause between two attempts, unless somebody asks for another. */
const CHECK_INTERVAL = 250;

const ROLES = { hold, spend, wake, read };

export default async function idle({ make }, path, role, waiters, ...args) {
  const lockers = Array.from(
    { length: Number(waiters) },
    (_, i) => make(`${path}.${i}`),
  );
  // Whatever is loaded with the first lock is loaded now.
  const first = make(`${path}.${process.pid}`);
  await first.acquire();
  await first.release();
  const result = await ROLES[role](lockers, path, ...args);
  for (const { release } of lockers) await release();
  return result;
}

/** Holds the locks until told otherwise. */
async function hold(lockers) {
  for (const { acquire } of lockers) await acquire();
  say("ready");
  await hear();
}

/** Measures what waiting for the locks costs in processor time. */
async function spend(lockers, _path, milliseconds) {
  const waits = lockers.map(({ acquire }) => acquire());
  say("ready");
  await hear();
  const before = process.cpuUsage();
  await sleep(Number(milliseconds));
  const after = process.cpuUsage();
  say("measured");
  await Promise.all(waits);
  return {
    milliseconds: (after.user + after.system - before.user - before.system) /
      1000,
  };
}

/** {@linkcode spend}, waking up as often as a waiter does, to do nothing. */
async function wake(lockers, path, milliseconds) {
  const timer = setInterval(() => {}, CHECK_INTERVAL);
  const spent = await spend(lockers, path, milliseconds);
  clearInterval(timer);
  return spent;
}

/** Measures how fast files are read, without and beside the waits. */
async function read(lockers, path) {
  const file = `${path}.${process.pid}`;
  await writeFile(file, "small");
  for (let i = 0; i < 5; i++) await readings(file);
  const alone = await readings(file);
  const waits = lockers.map(({ acquire }) => acquire());
  await sleep(200);
  const beside = await readings(file);
  say("measured");
  await Promise.all(waits);
  return { alone, beside };
}

/** Milliseconds, ascending; `null` if one took too long. */
async function readings(file) {
  const taken = [];
  for (let i = 0; i < READINGS; i++) {
    const start = performance.now();
    const late = new AbortController();
    const answered = await Promise.race([
      readFile(file).then(() => true),
      sleep(PATIENCE, false, { signal: late.signal }),
    ]);
    if (!answered) return null;
    taken.push(performance.now() - start);
    late.abort();
  }
  return taken.sort((a, b) => a - b);
}
