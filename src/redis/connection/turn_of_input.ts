/** Lets the event loop read what has arrived. */

import { setImmediate } from "node:timers";

/**
 * Resolves after the event loop has read its sockets. A timer that is late may
 * fire before that, in the same turn, so one turn is not enough.
 */
export function turnOfInput(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(() => setImmediate(resolve));
  });
}
