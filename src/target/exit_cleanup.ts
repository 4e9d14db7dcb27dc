/** What is released when the process ends in the ordinary way. */

import process from "node:process";
import type { Hold } from "../file/held_file.ts";
import { performSync } from "../core/gensync.ts";

const holds = new Set<Hold>();

/** Releases a hold when the process exits, unless that is forgotten before. */
export function onExit(hold: Hold): () => void {
  if (holds.size === 0) process.on("exit", releaseAll);
  holds.add(hold);
  return () => {
    holds.delete(hold);
    if (holds.size === 0) process.off("exit", releaseAll);
  };
}

function releaseAll(): void {
  for (const hold of holds) {
    try {
      performSync(hold.release());
    } catch {
      // The others have to be released as well.
    }
  }
}
