/**
 * The child's side of the scenario of that name: the lock and the round trips
 * it is compared with take turns, so that whatever else the machine does meets
 * them alike.
 */

import { Samples } from "./samples.mjs";

/** Milliseconds: of one turn, unless a single operation takes longer. */
const TURN = 5;

/** More than anybody manages within the time of a run. */
const CAPACITY = 1 << 18;

const PARTS = ["acquire", "release", "both"];

export default async function redisUncontended(
  { make },
  path,
  warmUp,
  milliseconds,
) {
  const locker = await make(path);
  const names = [...PARTS, ...Object.keys(locker.pings)];
  const samples = Object.fromEntries(
    names.map((name) => [name, new Samples(CAPACITY)]),
  );
  await measure(locker, samples, Number(warmUp));
  for (const taken of Object.values(samples)) taken.clear();
  await measure(locker, samples, Number(milliseconds));
  await locker.close();
  return {
    samples: Object.fromEntries(
      names.map((name) => [name, samples[name].histogram()]),
    ),
  };
}

async function measure({ acquire, release, pings }, samples, milliseconds) {
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
    for (const [name, ping] of Object.entries(pings)) {
      await turn(async () => {
        const start = performance.now();
        await ping();
        samples[name].add(performance.now() - start);
      });
    }
  } while (performance.now() < last);
}

async function turn(once) {
  const last = performance.now() + TURN;
  do await once(); while (performance.now() < last);
}
