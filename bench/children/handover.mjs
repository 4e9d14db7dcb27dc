/**
 * The child's side of the scenario of that name: acquires and releases when
 * told to, and keeps the times, of the clock common to all processes, to
 * itself until the end, so that nobody is disturbed in between.
 */

import { commonClock } from "./clock.mjs";
import { hear, say } from "./talk.mjs";

export default async function handover({ isSync, make }, path) {
  const locker = await make(path);
  const now = commonClock();
  const acquired = [];
  const released = [];
  const pings = [];
  say("ready");
  for (let command; (command = await hear()) !== undefined;) {
    if (command === "acquire") {
      say("waiting");
      if (isSync) locker.acquire();
      else await locker.acquire();
      acquired.push(now());
      say("acquired");
    } else if (command === "release") {
      released.push(now());
      if (isSync) locker.release();
      else await locker.release();
    } else {
      const [name, count] = command.split(" ");
      pings.push({ name, taken: await pinged(locker, name, Number(count)) });
      say("pinged");
    }
  }
  await locker.close?.();
  return { acquired, released, pings };
}

/** How long round trips of a client took, none if it is not there. */
async function pinged({ pings }, name, count) {
  const ping = pings[name];
  const taken = [];
  while (ping && taken.length < count) {
    const start = performance.now();
    await ping();
    taken.push((performance.now() - start) * 1000);
  }
  return taken;
}
