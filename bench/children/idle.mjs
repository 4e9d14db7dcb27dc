/**
 * The child's side of the scenario `idle`: `PATH ROLE WAITERS ...`. It makes
 * WAITERS lockers, each on its own file.
 */

import { readFile, writeFile } from "node:fs/promises";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { receive, send } from "./messages.mjs";

const READINGS = 100;

/** A reading that takes longer counts as stuck. */
const READ_TIMEOUT_MS = 2000;

/** The default of `checkInterval`: the longest pause between two attempts. */
const CHECK_INTERVAL_MS = 250;

/** @typedef {import("./types.ts").Locker} Locker */

/**
 * @type {Record<
 *   string,
 *   (lockers: Locker[], path: string, milliseconds: string) => Promise<unknown>
 * >}
 */
const ROLES = { hold, spend, wake, read };

/**
 * @param {import("./types.ts").LockContender} contender
 * @param {string} path
 * @param {string} role
 * @param {string} waiters
 * @param {string} milliseconds
 */
export default async function idle(
  { make },
  path,
  role,
  waiters,
  milliseconds,
) {
  const lockers = await Promise.all(
    Array.from({ length: Number(waiters) }, (_, i) => make(`${path}.${i}`)),
  );
  // Loads now what the first lock of a process loads.
  const first = await make(`${path}.${process.pid}`);
  await first.acquire();
  await first.release();
  const result = await ROLES[role]?.(lockers, path, milliseconds);
  for (const { release } of lockers) await release();
  return result;
}

/**
 * Holds the locks until a line arrives.
 *
 * @param {Locker[]} lockers
 */
async function hold(lockers) {
  for (const { acquire } of lockers) await acquire();
  send("ready");
  await receive();
}

/**
 * Measures the processor time of waiting for the locks.
 *
 * @param {Locker[]} lockers
 * @param {string} _path
 * @param {string} milliseconds
 */
async function spend(lockers, _path, milliseconds) {
  const waits = lockers.map(({ acquire }) => acquire());
  send("ready");
  await receive();
  const before = process.cpuUsage();
  await sleep(Number(milliseconds));
  const after = process.cpuUsage();
  send("measured");
  await Promise.all(waits);
  return {
    milliseconds: (after.user + after.system - before.user - before.system) /
      1000,
  };
}

/**
 * Measures the same while a timer wakes the process as often as a waiter wakes.
 *
 * @param {Locker[]} lockers
 * @param {string} path
 * @param {string} milliseconds
 */
async function wake(lockers, path, milliseconds) {
  const timer = setInterval(() => {}, CHECK_INTERVAL_MS);
  const spent = await spend(lockers, path, milliseconds);
  clearInterval(timer);
  return spent;
}

/**
 * Measures how fast files are read, without and beside the waits.
 *
 * @param {Locker[]} lockers
 * @param {string} path
 */
async function read(lockers, path) {
  const file = `${path}.${process.pid}`;
  await writeFile(file, "small");
  for (let i = 0; i < 5; i++) await readings(file);
  const alone = await readings(file);
  const waits = lockers.map(({ acquire }) => acquire());
  await sleep(200);
  const beside = await readings(file);
  send("measured");
  await Promise.all(waits);
  return { alone, beside };
}

/**
 * Resolves to milliseconds in ascending order, or to `null` if a reading is
 * stuck.
 *
 * @param {string} file
 */
async function readings(file) {
  const taken = [];
  for (let i = 0; i < READINGS; i++) {
    const start = performance.now();
    const late = new AbortController();
    const answered = await Promise.race([
      readFile(file).then(() => true),
      sleep(READ_TIMEOUT_MS, false, { signal: late.signal }),
    ]);
    if (!answered) return null;
    taken.push(performance.now() - start);
    late.abort();
  }
  return taken.sort((a, b) => a - b);
}
