/**
 * The child's side of the scenario `handover`: acquires and releases on
 * command. It records the times, of the clock that all processes share, and
 * prints them only at the end, so that the output does not disturb the
 * measurement.
 */

import { commonClock } from "./clock.mjs";
import { receive, send } from "./messages.mjs";

/**
 * @param {import("./types.ts").LockContender} contender
 * @param {string} path
 */
export default async function handover({ isSync, make }, path) {
  const locker = await make(path);
  const now = commonClock();
  const acquired = [];
  const released = [];
  const pings = [];
  send("ready");
  for (let command; (command = await receive()) !== undefined;) {
    if (command === "acquire") {
      send("waiting");
      if (isSync) locker.acquire();
      else await locker.acquire();
      acquired.push(now());
      send("acquired");
    } else if (command === "release") {
      released.push(now());
      if (isSync) locker.release();
      else await locker.release();
    } else {
      const [name = "", count] = command.split(" ");
      const taken = await measurePings(locker, name, Number(count));
      pings.push({ name, taken });
      send("pinged");
    }
  }
  await locker.close?.();
  return { acquired, released, pings };
}

/**
 * Measures round trips of a client, in microseconds. The result is empty if the
 * contender does not have that client.
 *
 * @param {import("./types.ts").Locker} locker
 * @param {string} name
 * @param {number} count
 */
async function measurePings({ pings }, name, count) {
  const ping = pings?.[name];
  const taken = [];
  while (ping && taken.length < count) {
    const start = performance.now();
    await ping();
    taken.push((performance.now() - start) * 1000);
  }
  return taken;
}
