/** What the lockers of this package's locks in Redis have in common. */

/** Longer than any scenario. */
const TIMEOUT_MS = 600_000;

/**
 * @param {import("../types.ts").PortalockRedis} library
 * @param {unknown} client The client of the caller.
 * @param {Pick<import("../types.ts").RedisLocks, "pings" | "close">} rest
 * @returns {import("../types.ts").RedisLocks}
 */
export function ours({ RedisLock, RedisSemaphore }, client, rest) {
  const options = { client, timeout: TIMEOUT_MS };
  const locker = (
    /** @type {import("../types.ts").PortalockRedisLock} */ lock,
  ) => ({
    acquire: () => lock.acquire(),
    release: () => lock.release(),
  });
  return {
    ...rest,
    lock: (name) => locker(new RedisLock(name, options)),
    reader: (name) => locker(new RedisLock(name, { ...options, shared: true })),
    semaphore: (name, maximum) =>
      locker(new RedisSemaphore(name, maximum, options)),
  };
}
