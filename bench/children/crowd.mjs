/**
 * The child's side of the scenario `crowd`: `PATH FORM REPEATS SIZE...`. FORM
 * is `shared`, one locker for all tasks, or `own`, one for each.
 */

import { setTimeout as sleep } from "node:timers/promises";

const WARM_UP = 250;

/**
 * Resolves to the milliseconds per size and repeat, and to the number of all
 * acquisitions.
 *
 * @param {import("./types.ts").LockContender} contender
 * @param {string} path
 * @param {string} form
 * @param {string} repeats
 * @param {...string} sizes
 */
export default async function crowd(contender, path, form, repeats, ...sizes) {
  let acquisitions = 0;
  /** @param {number} size */
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

/**
 * @param {import("./types.ts").LockContender} contender
 * @param {string} path
 * @param {string} form
 * @param {number} size
 */
async function handOver({ make }, path, form, size) {
  const holder = await make(path);
  await holder.acquire();
  const tasks = Array.from({ length: size }, async () => {
    const locker = form === "shared" ? holder : await make(path);
    await locker.acquire();
    await locker.release();
  });
  // All tasks wait by then, even if they open the file in a thread pool.
  await sleep(Math.max(100, size / 10));
  const start = performance.now();
  await holder.release();
  await Promise.all(tasks);
  return performance.now() - start;
}
