/** Locks that were collected instead of released. */

import process from "node:process";
import type { Hold } from "./hold.ts";
import { performSync } from "./recipe.ts";

let warned = false;

const registry = new FinalizationRegistry<Hold>((hold) => {
  if (!warned) {
    warned = true;
    process.emitWarning(
      `The lock on ${hold.path} was collected, not released; ` +
        "close the file, or acquire it with `await using`",
      "PortalockWarning",
    );
  }
  try {
    performSync(hold.release());
  } catch {
    // Nobody is left who could be told.
  }
});

/** Releases a hold when nobody can do so any more through that object. */
export function keep(holder: object, hold: Hold): void {
  registry.register(holder, hold, holder);
}

/** The hold is released in the ordinary way. */
export function abandon(holder: object): void {
  registry.unregister(holder);
}
