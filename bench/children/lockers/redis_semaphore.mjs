/** redis-semaphore on ioredis, likewise; see `portalock_redis.mjs`. */

import { Redis } from "ioredis";
import { Mutex } from "redis-semaphore";

/** The default would end a wait after 10 s. */
const OPTIONS = { acquireTimeout: 60_000 };

export function make(path) {
  const [url, name] = path.split("#");
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
