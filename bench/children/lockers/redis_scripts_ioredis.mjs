/** The scripts of this package's locks in Redis, by ioredis 6 alone. */

import { Redis } from "ioredis";
import { bare } from "./redis_bare.mjs";
import { oneLock } from "./redis_path.mjs";

/** @type {import("../types.ts").Connect} */
export async function connect(url, library) {
  const client = new Redis(url);
  const scripts = new Redis(url);
  return {
    lock: await bare(
      library,
      ([name = "", ...args]) => scripts.call(name.toLowerCase(), args),
    ),
    pings: { ping: () => client.ping() },
    close() {
      client.disconnect();
      scripts.disconnect();
    },
  };
}

export const make = oneLock(connect);
