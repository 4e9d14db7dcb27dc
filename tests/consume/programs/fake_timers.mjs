/** Locks while a test runner controls the clock. */

import { AlreadyLocked, Lock } from "@x/portalock";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { play } from "./roles.mjs";

/**
 * Waits for another process and for a task of this thread; returns what
 * happened.
 *
 * @param advance Advances the clock by a number of milliseconds.
 */
export async function lockWithFakeTimers(folder, advance) {
  const file = path.join(fs.mkdtempSync(path.join(folder, "own-")), "a.lock");
  const held = await new Lock(file).acquire();
  const isFree = await new Lock(file).tryAcquire() !== null;
  const waiting = new Lock(file, { timeout: Infinity }).run(() => "acquired");
  await held.close();
  const queued = await waiting;
  const start = Date.now();
  const blocker = await new Lock(file).acquire();
  const refused = await whileAdvancing(
    new Lock(file).acquire({ timeout: 60_000 }).catch((error) => error),
    () => advance(30_000),
  );
  await blocker.close();
  const elapsed = Date.now() - start;
  // onWait is called after 100 ms of this clock.
  const { error } = await whileAdvancing(
    play("wait", folder),
    () => advance(20),
  );
  return {
    error,
    isFree,
    queued,
    refused: refused instanceof AlreadyLocked,
    followsFakeClock: elapsed >= 60_000,
  };
}

/** Advances the clock until a promise is settled. */
async function whileAdvancing(promise, advance) {
  let isSettled = false;
  const settle = () => isSettled = true;
  promise.then(settle, settle);
  while (!isSettled) {
    await advance();
    await sleep(1);
  }
  return await promise;
}
