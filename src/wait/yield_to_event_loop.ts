/** Keeps locks that never have to wait from starving everything else. */

import { setImmediate } from "node:timers";

/** So long the event loop may stand still, in milliseconds. */
const MAX_BLOCKED_MS = 8;

/** When the event loop is known to have stood last; 0 once it turned. */
let blockedSince = 0;

/**
 * An uncontended lock is taken without leaving the thread, so a task that
 * locks in a loop would never let a timer or a socket through. Returns what to
 * await if the loop has stood too long.
 */
export function yieldToEventLoop(time: number): Promise<void> | undefined {
  if (blockedSince === 0) {
    blockedSince = time;
    setImmediate(() => blockedSince = 0);
  } else if (time - blockedSince > MAX_BLOCKED_MS) {
    return new Promise((resolve) => setImmediate(resolve));
  }
}
