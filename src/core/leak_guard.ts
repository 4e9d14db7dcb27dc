/**
 * Releases locks that were garbage-collected while held, and warns once for
 * each process.
 *
 * If the program drops its last reference to an object that holds a lock, no
 * code can release the lock anymore. A `FinalizationRegistry` then releases it.
 * The registry keeps the open file alive, never the object that the program
 * had. PID files are not registered: such a file says that the process is
 * running, so it is held until the process exits.
 *
 * @module
 */

import process from "node:process";
import { formatName } from "../options/validate.ts";

/** A held lock and the function that releases it. */
interface TrackedLock {
  readonly name: string;
  readonly release: () => void;
}

let warned = false;

const registry = new FinalizationRegistry<TrackedLock>(({ name, release }) => {
  if (!warned) {
    warned = true;
    process.emitWarning(
      `The lock on ${formatName(name)} was garbage-collected while held; ` +
        "release it, or acquire it with `await using`",
      "PortalockWarning",
    );
  }
  try {
    release();
  } catch {
    // The program does not have a caller left that could handle the error.
  }
});

/**
 * Calls `release` after `holder` was garbage-collected. Neither `release` nor
 * `token` may reference `holder`, because it would never be collected then.
 */
export function releaseWhenCollected(
  holder: object,
  name: string,
  release: () => void,
  token: object = holder,
): void {
  registry.register(holder, { name, release }, token);
}

/** Stops watching a lock that the program released. */
export function untrack(token: object): void {
  registry.unregister(token);
}
