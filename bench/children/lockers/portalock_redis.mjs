/**
 * This package's lock in Redis. As of all lockers in Redis the path is the URL
 * of the server and, after `#`, what is locked; `pings` are round trips by the
 * client library on connections of their own, and `close` ends everything.
 */

import { createClient } from "redis";

export async function make(path, { RedisLock }) {
  const [url, name] = path.split("#");
  const client = await createClient({ url }).connect();
  const withoutTimer = await createClient({
    url,
    commandOptions: { timeout: undefined },
  }).connect();
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
