/**
 * The child's side of the scenario `uncontended`. Each sample includes one
 * reading of the clock, as in C and Python. `performance.now` has nanoseconds
 * on all runtimes and, unlike `process.hrtime.bigint`, does not allocate.
 */

import { clockCost } from "./clock.mjs";
import { Samples } from "./samples.mjs";

/**
 * @param {import("./types.ts").LockContender} contender
 * @param {string} path
 * @param {string} warmUp In milliseconds.
 * @param {string} milliseconds
 */
export default async function uncontended(
  { isSync, make },
  path,
  warmUp,
  milliseconds,
) {
  const locker = await make(path);
  const samples = new Samples();
  const run = isSync ? measureSync : measure;
  await run(locker, samples, Number(warmUp));
  samples.clear();
  await run(locker, samples, Number(milliseconds));
  return { clock: clockCost(), samples: samples.histogram() };
}

/**
 * Acquires and releases repeatedly until the time is over.
 *
 * @param {import("./types.ts").Locker} locker
 * @param {Samples} samples
 * @param {number} milliseconds
 */
export function measureSync({ acquire, release }, samples, milliseconds) {
  let end = performance.now();
  const last = end + milliseconds;
  while (end < last && !samples.full) {
    const start = performance.now();
    acquire();
    release();
    end = performance.now();
    samples.add(end - start);
  }
}

/**
 * The same, awaiting both calls.
 *
 * @param {import("./types.ts").Locker} locker
 * @param {Samples} samples
 * @param {number} milliseconds
 */
export async function measure({ acquire, release }, samples, milliseconds) {
  let end = performance.now();
  const last = end + milliseconds;
  while (end < last && !samples.full) {
    const start = performance.now();
    await acquire();
    await release();
    end = performance.now();
    samples.add(end - start);
  }
}
