/**
 * This package's lock in Redis. As in every locker for Redis, `pings` are round
 * trips by the client library on separate connections, and `close` closes all
 * connections.
 */

import { createClient } from "redis";
import { parseRedisPath } from "./redis_path.mjs";

/**
 * @param {string} path
 * @param {import("../types.ts").PortalockRedis} library
 * @returns {Promise<import("../types.ts").Locker>}
 */
export async function make(path, { RedisLock }) {
  const { url, name } = parseRedisPath(path);
  const client = createClient({ url });
  await client.connect();
  const withoutTimer = createClient({
    url,
    // @ts-expect-error: the type does not allow the value that disables it.
    commandOptions: { timeout: undefined },
  });
  await withoutTimer.connect();
  const lock = new RedisLock(name, { client, timeout: 60_000 });
  return {
    acquire: () => lock.acquire(),
    release: () => lock.release(),
    pings: {
      ping: () => client.ping(),
      pingWithoutTimer: () => withoutTimer.ping(),
    },
    async close() {
      await lock[Symbol.asyncDispose]();
      client.destroy();
      withoutTimer.destroy();
    },
  };
}
