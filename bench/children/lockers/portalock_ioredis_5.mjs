/** This package's locks in Redis, over ioredis 5. */

import { Redis } from "ioredis-5";
import { ours } from "./redis_ours.mjs";
import { oneLock } from "./redis_path.mjs";

/** @type {import("../types.ts").Connect} */
export function connect(url, library) {
  const client = new Redis(url);
  return ours(library, client, {
    pings: { ping: () => client.ping() },
    close: () => client.disconnect(),
  });
}

export const make = oneLock(connect);
