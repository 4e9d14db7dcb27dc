/**
 * The child's side of the scenario of that name: `PATH FORM REPEATS SIZE...`.
 * FORM is `shared`, one locker for all tasks, or `own`, one for each.
 */

import { setTimeout as sleep } from "node:timers/promises";

const WARM_UP = 250;

/** Resolves to the milliseconds per size and repeat, and all acquisitions. */
export default async function crowd(contender, path, form, repeats, ...sizes) {
  let acquisitions = 0;
  const once = async (size) => {
    acquisitions += 1 + size;
    return await handOver(contender, path, form, size);
  };
  await once(WARM_UP);
  const totals = [];
  for (const size of sizes.map(Number)) {
    const times = [];
    for (let i = 0; i < Number(repeats); i++) times.push(await once(size));
    totals.push(times);
  }
  return { totals, acquisitions };
}

async function handOver({ make }, path, form, size) {
  const holder = make(path);
  await holder.acquire();
  const tasks = Array.from({ length: size }, async () => {
    const locker = form === "shared" ? holder : make(path);
    await locker.acquire();
    await locker.release();
  });
  // Until all of them wait, also where they open the file in a thread pool.
  await sleep(Math.max(100, size / 10));
  const start = performance.now();
  await holder.release();
  await Promise.all(tasks);
  return performance.now() - start;
}
