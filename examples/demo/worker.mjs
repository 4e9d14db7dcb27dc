// @ts-check
/**
 * One worker of the demo, the same file for Deno, Bun and Node. Its argument is
 * the task as JSON. It reports that it is ready, waits for a line on stdin, and
 * reports its progress on stdout, each time in a line of JSON.
 */

import { writeSync } from "node:fs";
import { open } from "node:fs/promises";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const REPORT_INTERVAL_MS = 100;
/** The time of other work between two increments, without the lock. */
const OTHER_WORK_MS = 1;

/**
 * The part of this package that the worker uses.
 *
 * @typedef {{ Lock: new (path: string, options: object) => {
 *   run<Result>(
 *     body: (file: {
 *       readText(): Promise<string>;
 *       seek(offset: number): Promise<number>;
 *       writeText(text: string): Promise<void>;
 *     }) => Result | Promise<Result>,
 *   ): Promise<Result>;
 * } }} Portalock
 */

/**
 * Resolves to the milliseconds that it waited for the lock.
 *
 * @typedef {() => Promise<number>} Increment
 */

/** @typedef {import("./team.ts").Task & { module: string }} Task */

/** @type {Task} */
const task = JSON.parse(process.argv[2] ?? "");
const increment = task.locked ? await withLock(task) : withoutLock(task);
send({ ready: runtime() });
if (await started()) await work(task, increment);

/**
 * @param {Task} task
 * @returns {Promise<Increment>}
 */
async function withLock({ module, counter, checkInterval }) {
  /** @type {Portalock} */
  const { Lock } = await import(module);
  const lock = new Lock(counter, {
    mode: "r+",
    timeout: Infinity,
    checkInterval,
  });
  // The first lock loads libraries, which must not count as a wait.
  await lock.run(() => {});
  return async () => {
    const start = performance.now();
    return await lock.run(async (file) => {
      const waited = performance.now() - start;
      const count = Number(await file.readText());
      await file.seek(0);
      await file.writeText(digits(count + 1));
      return waited;
    });
  };
}

/**
 * @param {Task} task
 * @returns {Increment}
 */
function withoutLock({ counter }) {
  return async () => {
    const file = await open(counter, "r+");
    const count = Number(await file.readFile("utf8")) || 0;
    await file.write(digits(count + 1), 0);
    await file.close();
    return 0;
  };
}

/**
 * Formats with a fixed length, because without a lock 9 may overwrite 10.
 *
 * @param {number} count
 */
function digits(count) {
  return String(count).padStart(12, "0");
}

/**
 * @param {Task} task
 * @param {Increment} increment
 */
async function work({ increments }, increment) {
  const start = performance.now();
  let longestWait = 0;
  let reported = start;
  for (let done = 1; done <= increments; done++) {
    longestWait = Math.max(longestWait, await increment());
    const now = performance.now();
    if (done === increments || now - reported >= REPORT_INTERVAL_MS) {
      reported = now;
      send({ done, seconds: (now - start) / 1000, longestWait });
    }
    await sleep(OTHER_WORK_MS);
  }
}

/** Resolves to `false` if stdin ends without a line: the demo has ended. */
async function started() {
  for await (const _ of process.stdin) return true;
  return false;
}

function runtime() {
  const { deno, bun, node } = process.versions;
  return deno ? `Deno ${deno}` : bun ? `Bun ${bun}` : `Node ${node}`;
}

/** @param {object} message */
function send(message) {
  // Throws if the demo has ended, which Bun's process.stdout does not report.
  writeSync(1, `${JSON.stringify(message)}\n`);
}
