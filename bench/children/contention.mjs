/**
 * The child's side of the scenario of that name: from the moment it is told,
 * counts in a file under the lock, without a pause, until the time is over.
 */

import { openSync, readSync, writeSync } from "node:fs";
import process from "node:process";
import { Samples } from "./samples.mjs";
import { startTogether } from "./talk.mjs";

export default async function contention({ isSync, make }, path, milliseconds) {
  // Whatever is loaded with the first lock is loaded now.
  const first = make(`${path}.${process.pid}`);
  await first.acquire();
  await first.release();
  const locker = make(path);
  const addOne = counter(`${path}.count`);
  await startTogether();
  const run = isSync ? countSync : count;
  return await run(locker, addOne, Number(milliseconds));
}

async function count({ acquire, release }, addOne, milliseconds) {
  const samples = new Samples();
  let count = 0;
  let start;
  const last = performance.now() + milliseconds;
  while ((start = performance.now()) < last && !samples.full) {
    await acquire();
    const end = performance.now();
    samples.add(end - start);
    // What is acquired too late does not count.
    if (end < last) addOne(), count++;
    await release();
  }
  return { count, samples: samples.histogram() };
}

/** The same, blocking the thread. */
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

/** Adds one to the 32-bit number that a file holds. */
function counter(path) {
  const fd = openSync(path, "r+");
  const number = new Int32Array(1);
  const bytes = new Uint8Array(number.buffer);
  return () => {
    readSync(fd, bytes, 0, bytes.length, 0);
    number[0]++;
    writeSync(fd, bytes, 0, bytes.length, 0);
  };
}
