/**
 * The child's side of the scenario `contention`: from the start that all four
 * processes share, counts in a file under the lock until the time is over.
 */

import { openSync, readSync, writeSync } from "node:fs";
import process from "node:process";
import { startTogether } from "./messages.mjs";
import { Samples } from "./samples.mjs";

/**
 * @param {import("./types.ts").LockContender} contender
 * @param {string} path
 * @param {string} milliseconds
 */
export default async function contention({ isSync, make }, path, milliseconds) {
  // Loads now what the first lock of a process loads.
  const first = await make(`${path}.${process.pid}`);
  await first.acquire();
  await first.release();
  const locker = await make(path);
  const addOne = counter(`${path}.count`);
  await startTogether();
  const run = isSync ? countSync : count;
  return await run(locker, addOne, Number(milliseconds));
}

/**
 * @param {import("./types.ts").Locker} locker
 * @param {() => void} addOne
 * @param {number} milliseconds
 */
async function count({ acquire, release }, addOne, milliseconds) {
  const samples = new Samples();
  let count = 0;
  let start;
  const last = performance.now() + milliseconds;
  while ((start = performance.now()) < last && !samples.full) {
    await acquire();
    const end = performance.now();
    samples.add(end - start);
    // An acquire that ends too late does not count.
    if (end < last) addOne(), count++;
    await release();
  }
  return { count, samples: samples.histogram() };
}

/**
 * The same, blocking the thread.
 *
 * @param {import("./types.ts").Locker} locker
 * @param {() => void} addOne
 * @param {number} milliseconds
 */
function countSync({ acquire, release }, addOne, milliseconds) {
  const samples = new Samples();
  let count = 0;
  let start;
  const last = performance.now() + milliseconds;
  while ((start = performance.now()) < last && !samples.full) {
    acquire();
    const end = performance.now();
    samples.add(end - start);
    if (end < last) addOne(), count++;
    release();
  }
  return { count, samples: samples.histogram() };
}

/**
 * Returns a function that adds one to the 32-bit number in a file.
 *
 * @param {string} path
 */
function counter(path) {
  const fd = openSync(path, "r+");
  const number = new Int32Array(1);
  const bytes = new Uint8Array(number.buffer);
  return () => {
    readSync(fd, bytes, 0, bytes.length, 0);
    number[0] = (number[0] ?? 0) + 1;
    writeSync(fd, bytes, 0, bytes.length, 0);
  };
}
