/**
 * The child's side of the scenario of that name. Every sample holds one reading
 * of the clock, as in C and Python; `performance.now` has nanoseconds on all
 * runtimes and, unlike `process.hrtime.bigint`, allocates nothing.
 */

import { clockCost } from "./clock.mjs";
import { Samples } from "./samples.mjs";

export default async function uncontended(
  { isSync, make },
  path,
  warmUp,
  milliseconds,
) {
  const locker = make(path);
  const samples = new Samples();
  const run = isSync ? measureSync : measure;
  await run(locker, samples, Number(warmUp));
  samples.clear();
  await run(locker, samples, Number(milliseconds));
  return { clock: clockCost(), samples: samples.histogram() };
}

/** Acquires and releases, one after the other, until the time is over. */
function measureSync({ acquire, release }, samples, milliseconds) {
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

/** The same, waiting for either half. */
async function measure({ acquire, release }, samples, milliseconds) {
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
