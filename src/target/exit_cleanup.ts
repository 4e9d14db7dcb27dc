/** Releases locks when the process exits without a signal. */

import { onThreadExit, shared } from "../../ffi/mod.ts";
import { runSync } from "../core/gensync.ts";
import type { HeldLock } from "../file/held_file.ts";

const exit = shared("exit", () => ({
  /** What to do, in the order in which it was added. */
  cleanUps: new Set<() => void>(),
  stopWaiting: () => {},
}));

/**
 * Calls a function once, which must not wait, when the thread ends and can still
 * run JavaScript. Its errors are ignored.
 *
 * @returns A function that cancels this.
 */
export function onExit(cleanUp: () => void): () => void {
  const { cleanUps } = exit;
  if (cleanUps.size === 0) exit.stopWaiting = onThreadExit(cleanUpAll);
  cleanUps.add(cleanUp);
  return () => {
    cleanUps.delete(cleanUp);
    if (cleanUps.size === 0) exit.stopWaiting();
  };
}

/**
 * Releases a lock when the thread ends and can still run JavaScript.
 *
 * @returns A function that cancels this.
 */
export function releaseOnExit(held: HeldLock): () => void {
  return onExit(() => runSync(held.release()));
}

function cleanUpAll(): void {
  const all = [...exit.cleanUps];
  exit.cleanUps.clear();
  exit.stopWaiting();
  for (const cleanUp of all) {
    try {
      cleanUp();
    } catch {
      // Goes on with the others.
    }
  }
}
