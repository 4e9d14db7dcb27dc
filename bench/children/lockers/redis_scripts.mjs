/**
 * The two scripts that an uncontended acquire and release send, by node-redis
 * alone: what this package's locks in Redis cannot be faster than.
 */

import { createClient } from "redis";
import { oneLock } from "./redis_path.mjs";

/** @type {import("../types.ts").Connect} */
export async function connect(url, { commandOf, LOCK_SCRIPT }) {
  const client = createClient({ url });
  const scripts = createClient({
    url,
    // @ts-expect-error: the type does not allow the value that disables it.
    commandOptions: { timeout: undefined },
  });
  await Promise.all([client.connect(), scripts.connect()]);
  await scripts.sendCommand(["SCRIPT", "LOAD", LOCK_SCRIPT.text]);
  const session = "0".repeat(32);
  let count = 0;
  return {
    lock(name) {
      const key = `portalock:v1:{${name}}`;
      const keys = [key, `${key}:queue`, "portalock:v1:clock", `${key}:info`];
      let member = "";
      const send = (/** @type {string} */ operation) =>
        scripts.sendCommand(commandOf(
          LOCK_SCRIPT,
          keys,
          [operation, member, name],
        ));
      return {
        acquire() {
          member = `x:${session}:${++count}:1`;
          return send("wait");
        },
        release: () => send("release"),
      };
    },
    pings: { ping: () => client.ping() },
    close() {
      client.destroy();
      scripts.destroy();
    },
  };
}

export const make = oneLock(connect);
