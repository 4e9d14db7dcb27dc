/** Releases locks when the process exits without a signal. */

import process from "node:process";
import { runSync } from "../core/gensync.ts";
import type { HeldLock } from "../file/held_file.ts";

/** What to do at exit. A `Set` runs it in the order in which it was added. */
const cleanUps = new Set<() => void>();

/**
 * Calls a function, which must not wait, when the thread exits. Its errors are
 * ignored.
 *
 * @returns A function that cancels this.
 */
export function onExit(cleanUp: () => void): () => void {
  if (cleanUps.size === 0) process.on("exit", cleanUpAll);
  cleanUps.add(cleanUp);
  return () => {
    cleanUps.delete(cleanUp);
    if (cleanUps.size === 0) process.off("exit", cleanUpAll);
  };
}

/**
 * Releases a lock when the thread exits.
 *
 * @returns A function that cancels this.
 */
export function releaseOnExit(held: HeldLock): () => void {
  return onExit(() => runSync(held.release()));
}

function cleanUpAll(): void {
  for (const cleanUp of cleanUps) {
    try {
      cleanUp();
    } catch {
      // Goes on with the others.
    }
  }
}
