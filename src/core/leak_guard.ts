/** Locks that were collected instead of released. */

import process from "node:process";

/** What is held, and how to give it back. */
interface LeakedLock {
  readonly name: string;
  readonly release: () => void;
}

let warned = false;

const registry = new FinalizationRegistry<LeakedLock>(({ name, release }) => {
  if (!warned) {
    warned = true;
    process.emitWarning(
      `The lock on ${name} was collected, not released; ` +
        "release it, or acquire it with `await using`",
      "PortalockWarning",
    );
  }
  try {
    release();
  } catch {
    // Nobody is left who could be told.
  }
});

/**
 * Releases a lock when nobody can do so any more through `holder`, which
 * neither `release` nor `token` may know.
 */
export function releaseWhenCollected(
  holder: object,
  name: string,
  release: () => void,
  token: object = holder,
): void {
  registry.register(holder, { name, release }, token);
}

/** The lock is released in the ordinary way. */
export function untrack(token: object): void {
  registry.unregister(token);
}
