/**
 * The child's side of the scenario of that name: acquires and releases when
 * told to, and keeps the times, of the clock common to all processes, to
 * itself until the end, so that nobody is disturbed in between.
 */

import { commonClock } from "./clock.mjs";
import { hear, say } from "./talk.mjs";

export default async function handover({ isSync, make }, path) {
  const locker = make(path);
  const now = commonClock();
  const acquired = [];
  const released = [];
  say("ready");
  for (let command; (command = await hear()) !== undefined;) {
    if (command === "acquire") {
      say("waiting");
      if (isSync) locker.acquire();
      else await locker.acquire();
      acquired.push(now());
      say("acquired");
    } else {
      released.push(now());
      if (isSync) locker.release();
      else await locker.release();
    }
  }
  return { acquired, released };
}
