/** Keeps a loop of uncontended locks from starving the event loop. */

import { setImmediate } from "node:timers";

/** The longest time without a turn of the event loop, in milliseconds. */
const MAX_BLOCKED_MS = 8;

/** Since when the event loop has not turned; 0 after a turn. */
let blockedSince = 0;

/**
 * Returns a promise to await if the event loop has not turned for too long.
 * An uncontended lock is acquired without a turn of the loop, so a task that
 * locks in a loop would block every timer and socket.
 */
export function yieldToEventLoop(time: number): Promise<void> | undefined {
  if (blockedSince === 0) {
    blockedSince = time;
    setImmediate(() => blockedSince = 0);
  } else if (time - blockedSince > MAX_BLOCKED_MS) {
    return new Promise((resolve) => setImmediate(resolve));
  }
}
