/** What is released when the process ends in the ordinary way. */

import process from "node:process";
import type { HeldLock } from "../file/held_file.ts";
import { runSync } from "../core/gensync.ts";

const heldUntilExit = new Set<HeldLock>();

/** Releases a hold when the process exits, unless that is forgotten before. */
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
      // The others have to be released as well.
    }
  }
}
