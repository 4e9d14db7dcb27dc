/** Releases locks when the process exits without a signal. */

import process from "node:process";
import { runSync } from "../core/gensync.ts";
import type { HeldLock } from "../file/held_file.ts";

const heldUntilExit = new Set<HeldLock>();

/**
 * Releases a lock when the process exits.
 *
 * @returns A function that cancels this.
 */
export function releaseOnExit(held: HeldLock): () => void {
  if (heldUntilExit.size === 0) process.on("exit", releaseAll);
  heldUntilExit.add(held);
  return () => {
    heldUntilExit.delete(held);
    if (heldUntilExit.size === 0) process.off("exit", releaseAll);
  };
}

function releaseAll(): void {
  for (const held of heldUntilExit) {
    try {
      runSync(held.release());
    } catch {
      // Goes on with the other locks.
    }
  }
}
