/**
 * The child's side of the scenario `redis-throughput`: one loop for each lock
 * acquires and releases it, all through one client.
 */

/**
 * @param {import("./types.ts").RedisContender} contender
 * @param {string} path
 * @param {string} counts How many locks, separated by commas.
 * @param {string} warmUp In milliseconds.
 * @param {string} milliseconds
 */
export default async function redisThroughput(
  { connect },
  path,
  counts,
  warmUp,
  milliseconds,
) {
  const [url = "", name = ""] = path.split("#");
  const { lock, close } = await connect(url);
  const pairs = [];
  for (const count of counts.split(",").map(Number)) {
    const locks = Array.from({ length: count }, (_, i) => lock(`${name}.${i}`));
    await loops(locks, Number(warmUp));
    pairs.push(await loops(locks, Number(milliseconds)));
  }
  await close();
  return { pairs };
}

/**
 * Resolves to the pairs of acquire and release per second.
 *
 * @param {import("./types.ts").Locker[]} locks
 * @param {number} milliseconds
 */
async function loops(locks, milliseconds) {
  const start = performance.now();
  let pairs = 0;
  await Promise.all(locks.map(async ({ acquire, release }) => {
    do {
      await acquire();
      await release();
      pairs++;
    } while (performance.now() - start < milliseconds);
  }));
  return pairs / (performance.now() - start) * 1000;
}
