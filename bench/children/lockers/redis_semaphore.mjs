/** redis-semaphore on ioredis. */

import { Redis } from "ioredis";
import { Mutex } from "redis-semaphore";
import { parseRedisPath } from "./redis_path.mjs";

/** The default ends a wait after 10 s. */
const OPTIONS = { acquireTimeout: 60_000 };

/**
 * @param {string} path
 * @returns {import("../types.ts").Locker}
 */
export function make(path) {
  const { url, name } = parseRedisPath(path);
  const redis = new Redis(url);
  const client = new Redis(url);
  const mutex = new Mutex(redis, name, OPTIONS);
  return {
    acquire: () => mutex.acquire(),
    release: () => mutex.release(),
    pings: { ping: () => client.ping() },
    close() {
      redis.disconnect();
      client.disconnect();
    },
  };
}
