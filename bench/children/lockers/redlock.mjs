/** redlock on ioredis: a key that expires. */

import { Redis } from "ioredis";
import Redlock from "redlock";
import { parseRedisPath } from "./redis_path.mjs";

/** The time until the lock expires, which the caller has to choose. */
const EXPIRY_MS = 60_000;

/** By default it gives up after 10 attempts. */
const OPTIONS = { retryCount: 1000 };

/**
 * @param {string} path
 * @returns {import("../types.ts").Locker}
 */
export function make(path) {
  const { url, name } = parseRedisPath(path);
  const redis = new Redis(url);
  const client = new Redis(url);
  const redlock = new Redlock([redis], OPTIONS);
  /** @type {Awaited<ReturnType<typeof redlock.lock>>} */
  let lock;
  return {
    acquire: async () => lock = await redlock.lock(name, EXPIRY_MS),
    release: () => lock.unlock(),
    pings: { ping: () => client.ping() },
    close() {
      redis.disconnect();
      client.disconnect();
    },
  };
}
