/** This package's locks in Redis, over ioredis 6. */

import { Redis } from "ioredis";
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
