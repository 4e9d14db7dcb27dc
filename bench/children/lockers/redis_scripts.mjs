/** The scripts of this package's locks in Redis, by node-redis alone. */

import { createClient } from "redis";
import { bare } from "./redis_bare.mjs";
import { oneLock } from "./redis_path.mjs";

/** @type {import("../types.ts").Connect} */
export async function connect(url, library) {
  const client = createClient({ url });
  const scripts = createClient({
    url,
    // @ts-expect-error: the type does not allow the value that disables it.
    commandOptions: { timeout: undefined },
  });
  await Promise.all([client.connect(), scripts.connect()]);
  return {
    lock: await bare(library, (command) => scripts.sendCommand(command)),
    pings: { ping: () => client.ping() },
    close() {
      client.destroy();
      scripts.destroy();
    },
  };
}

export const make = oneLock(connect);
