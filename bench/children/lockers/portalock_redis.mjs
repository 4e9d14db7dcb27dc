/**
 * This package's locks in Redis, over node-redis. As in every locker for Redis,
 * `pings` are round trips by the client library on separate connections, and
 * `close` closes the clients of the caller.
 */

import { createClient } from "redis";
import { ours } from "./redis_ours.mjs";
import { oneLock } from "./redis_path.mjs";

/** @type {import("../types.ts").Connect} */
export async function connect(url, library) {
  const client = createClient({ url });
  await client.connect();
  const withoutTimer = createClient({
    url,
    // @ts-expect-error: the type does not allow the value that disables it.
    commandOptions: { timeout: undefined },
  });
  const connected = () => withoutTimer.isOpen || withoutTimer.connect();
  return ours(library, client, {
    pings: {
      ping: () => client.ping(),
      pingWithoutTimer: async () => {
        await connected();
        return await withoutTimer.ping();
      },
    },
    close() {
      client.destroy();
      if (withoutTimer.isOpen) withoutTimer.destroy();
    },
  });
}

export const make = oneLock(connect);
