/** Locks while the clock stands still; returns what happened. */

import { AlreadyLocked, Lock } from "@x/portalock";
import fs from "node:fs";
import path from "node:path";
import { play } from "./roles.mjs";

/** Waits for a lock of another process, and for one of this thread. */
export async function lockWithFakeTimers(folder) {
  const waited = await play("wait", folder);
  const file = path.join(fs.mkdtempSync(path.join(folder, "own-")), "a.lock");
  const held = await new Lock(file).acquire();
  const isFree = await new Lock(file).tryAcquire() !== null;
  const waiting = new Lock(file, { timeout: Infinity }).run(() => "acquired");
  await held.close();
  // A timeout is a promise of real time.
  const blocker = await new Lock(file).acquire();
  const error = await new Lock(file).acquire({ timeout: 20 })
    .catch((error) => error);
  await blocker.close();
  return {
    ...waited,
    isFree,
    queued: await waiting,
    timeout: error instanceof AlreadyLocked,
  };
}
