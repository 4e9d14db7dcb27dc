/**
 * One worker of the demo, the same file for Deno, Bun and Node. Its argument
 * is the task as JSON. It says that it is ready, waits for a line on stdin,
 * and reports its progress on stdout, each time in a line of JSON.
 */

import { writeSync } from "node:fs";
import { open } from "node:fs/promises";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const REPORT_INTERVAL = 100;
/** What the worker does between two increments, when others have a turn. */
const OTHER_WORK = 1;

const task = JSON.parse(process.argv[2]);
const increment = task.locked ? await withLock(task) : withoutLock(task);
send({ ready: runtime() });
if (await started()) await work(task, increment);

/** An increment that resolves with how long it waited for the lock. */
async function withLock({ module, counter, checkInterval }) {
  const { Lock } = await import(module);
  const lock = new Lock(counter, {
    mode: "r+",
    timeout: Infinity,
    checkInterval,
  });
  // The first lock loads libraries, which must not pass for a wait.
  await lock.run(() => {});
  return async () => {
    const asked = performance.now();
    return await lock.run(async (file) => {
      const waited = performance.now() - asked;
      const count = Number(await file.readText());
      await file.replaceContents(digits(count + 1));
      return waited;
    });
  };
}

function withoutLock({ counter }) {
  return async () => {
    const file = await open(counter, "r+");
    const count = Number(await file.readFile("utf8")) || 0;
    await file.write(digits(count + 1), 0);
    await file.close();
    return 0;
  };
}

/** Always as long: without a lock 9 may be written over 10. */
function digits(count) {
  return String(count).padStart(12, "0");
}

async function work({ increments }, increment) {
  const start = performance.now();
  let longestWait = 0;
  let reported = start;
  for (let done = 1; done <= increments; done++) {
    longestWait = Math.max(longestWait, await increment());
    const now = performance.now();
    if (done === increments || now - reported >= REPORT_INTERVAL) {
      reported = now;
      send({ done, seconds: (now - start) / 1000, longestWait });
    }
    await sleep(OTHER_WORK);
  }
}

/** Whether the line came: stdin ends without one when the demo has died. */
async function started() {
  for await (const _ of process.stdin) return true;
  return false;
}

function runtime() {
  const { deno, bun, node } = process.versions;
  return deno ? `Deno ${deno}` : bun ? `Bun ${bun}` : `Node ${node}`;
}

function send(message) {
  // Throws when the demo has died; process.stdout of Bun would not say.
  writeSync(1, `${JSON.stringify(message)}\n`);
}
