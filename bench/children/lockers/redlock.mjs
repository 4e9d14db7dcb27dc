/** redlock on ioredis: a key that expires; see `portalock_redis.mjs`. */

import { Redis } from "ioredis";
import Redlock from "redlock";

/** Milliseconds until the lock expires, which is for the caller to choose. */
const LIFE = 60_000;

/** By default it would give up after 10 attempts. */
const OPTIONS = { retryCount: 1000 };

export function make(path) {
  const [url, name] = path.split("#");
  const redis = new Redis(url);
  const client = new Redis(url);
  const redlock = new Redlock([redis], OPTIONS);
  let lock;
  return {
    acquire: async () => lock = await redlock.lock(name, LIFE),
    release: () => lock.unlock(),
    pings: { ping: () => client.ping() },
    close() {
      redis.disconnect();
      client.disconnect();
    },
  };
}
