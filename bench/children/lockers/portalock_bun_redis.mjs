/** This package's locks in Redis, over the client that is built into Bun. */

import { ours } from "./redis_ours.mjs";
import { oneLock } from "./redis_path.mjs";

/** @type {import("../types.ts").Connect} */
export async function connect(url, library) {
  // Only Bun has the module.
  const { RedisClient } = await import(`${"bun"}`);
  const client = new RedisClient(url);
  await client.connect();
  return ours(library, client, {
    pings: { ping: () => client.send("PING", []) },
    close: () => client.close(),
  });
}

export const make = oneLock(connect);
