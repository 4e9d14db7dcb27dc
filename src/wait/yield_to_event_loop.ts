/** Keeps locks that never have to wait from starving everything else. */

import { setImmediate } from "node:timers";

/** So long the event loop may stand still, in milliseconds. */
const LONGEST_STANDSTILL = 8;

/** When the event loop is known to have stood last; 0 once it turned. */
let standing = 0;

/**
 * An uncontended lock is taken without leaving the thread, so a task that
 * locks in a loop would never let a timer or a socket through. Returns what to
 * await if the loop has stood too long.
 */
export function breather(time: number): Promise<void> | undefined {
  if (standing === 0) {
    standing = time;
    setImmediate(() => standing = 0);
  } else if (time - standing > LONGEST_STANDSTILL) {
    return new Promise((resolve) => setImmediate(resolve));
  }
}
