/**
 * The child's side of the scenario `redis-uncontended`. The lock and the round
 * trips that it is compared with alternate, so that other load on the machine
 * affects both alike.
 */

import { Samples } from "./samples.mjs";

/** The time before the other is measured, or one operation if that is longer. */
const TURN_MS = 5;

/** More than any contender takes within the time of a run. */
const CAPACITY = 1 << 18;

/**
 * @param {import("./types.ts").LockContender} contender
 * @param {string} path
 * @param {string} warmUp In milliseconds.
 * @param {string} milliseconds
 */
export default async function redisUncontended(
  { make },
  path,
  warmUp,
  milliseconds,
) {
  const locker = await make(path);
  const samples = {
    acquire: new Samples(CAPACITY),
    release: new Samples(CAPACITY),
    both: new Samples(CAPACITY),
  };
  const pings = Object.entries(locker.pings ?? {}).map(([name, ping]) => ({
    name,
    ping,
    samples: new Samples(CAPACITY),
  }));
  const all = [...Object.values(samples), ...pings.map((one) => one.samples)];
  await measure(locker, samples, pings, Number(warmUp));
  for (const recorded of all) recorded.clear();
  await measure(locker, samples, pings, Number(milliseconds));
  await locker.close?.();
  return {
    samples: {
      acquire: samples.acquire.histogram(),
      release: samples.release.histogram(),
      both: samples.both.histogram(),
      ...Object.fromEntries(
        pings.map(({ name, samples }) => [name, samples.histogram()]),
      ),
    },
  };
}

/**
 * @param {import("./types.ts").Locker} locker
 * @param {Record<"acquire" | "release" | "both", Samples>} samples
 * @param {{ ping: import("./types.ts").Ping; samples: Samples }[]} pings
 * @param {number} milliseconds
 */
async function measure({ acquire, release }, samples, pings, milliseconds) {
  const last = performance.now() + milliseconds;
  do {
    await turn(async () => {
      const start = performance.now();
      await acquire();
      const middle = performance.now();
      await release();
      const end = performance.now();
      samples.acquire.add(middle - start);
      samples.release.add(end - middle);
      samples.both.add(end - start);
    });
    for (const { ping, samples } of pings) {
      await turn(async () => {
        const start = performance.now();
        await ping();
        samples.add(performance.now() - start);
      });
    }
  } while (performance.now() < last);
}

/** @param {() => Promise<void>} once */
async function turn(once) {
  const last = performance.now() + TURN_MS;
  do await once(); while (performance.now() < last);
}
