/** The scripts of this package's locks in Redis, by Bun's client alone. */

import { bare } from "./redis_bare.mjs";
import { oneLock } from "./redis_path.mjs";

/** @type {import("../types.ts").Connect} */
export async function connect(url, library) {
  // Only Bun has the module.
  const { RedisClient } = await import(`${"bun"}`);
  const client = new RedisClient(url);
  const scripts = new RedisClient(url);
  await Promise.all([client.connect(), scripts.connect()]);
  return {
    lock: await bare(
      library,
      ([name = "", ...args]) => scripts.send(name, args),
    ),
    pings: { ping: () => client.send("PING", []) },
    close() {
      client.close();
      scripts.close();
    },
  };
}

export const make = oneLock(connect);
