/** redis-semaphore on ioredis. */

import { Redis } from "ioredis";
import { Mutex, Semaphore } from "redis-semaphore";
import { oneLock } from "./redis_path.mjs";

/** The default ends a wait after 10 s. */
const OPTIONS = { acquireTimeout: 600_000 };

/** @type {import("../types.ts").Connect} */
export function connect(url) {
  const redis = new Redis(url);
  const client = new Redis(url);
  const locker = (/** @type {Mutex} */ lock) => ({
    acquire: () => lock.acquire(),
    release: () => lock.release(),
  });
  return {
    lock: (name) => locker(new Mutex(redis, name, OPTIONS)),
    semaphore: (name, maximum) =>
      locker(new Semaphore(redis, name, maximum, OPTIONS)),
    pings: { ping: () => client.ping() },
    close() {
      redis.disconnect();
      client.disconnect();
    },
  };
}

export const make = oneLock(connect);
