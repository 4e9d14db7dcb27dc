/** redlock on ioredis: a key that expires. */

import { Redis } from "ioredis";
import Redlock from "redlock";
import { oneLock } from "./redis_path.mjs";

/** The time until the lock expires, which the caller has to choose. */
const EXPIRY_MS = 60_000;

/** By default it gives up after 10 attempts. */
const OPTIONS = { retryCount: 1000 };

/** @type {import("../types.ts").Connect} */
export function connect(url) {
  const redis = new Redis(url);
  const client = new Redis(url);
  const redlock = new Redlock([redis], OPTIONS);
  return {
    lock(name) {
      /** @type {Awaited<ReturnType<typeof redlock.lock>>} */
      let held;
      return {
        acquire: async () => held = await redlock.lock(name, EXPIRY_MS),
        release: () => held.unlock(),
      };
    },
    pings: { ping: () => client.ping() },
    close() {
      redis.disconnect();
      client.disconnect();
    },
  };
}

export const make = oneLock(connect);
