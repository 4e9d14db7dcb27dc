/** The one waiting loop: attempts, paced, until the lock or the end of time. */

import type { Wait } from "../options.ts";
import { step } from "../recipe.ts";
import type { Recipe } from "../recipe.ts";

/** The first pause of a wait, in milliseconds. */
const FIRST_PAUSE = 1;
/** Each pause is so much longer than the one before. */
const GROWTH = 1.6;
/** The longest delay that `setTimeout` understands, in milliseconds. */
export const LONGEST_SLEEP = 2 ** 31 - 1;

/** A moment on the clock that never jumps, in milliseconds. */
export function now(): number {
  return performance.now();
}

/**
 * Attempts until one succeeds (`true`) or the wait is over (`false`). `start`
 * is when the wait began. While the thread is blocked no signal can end it.
 *
 * @throws The reason of the signal, once it is aborted.
 */
export function* waitFor(
  attempt: () => boolean,
  wait: Wait,
  start: number,
): Recipe<boolean> {
  if (attempt()) return true;
  for (const pause of pauses(wait, start)) {
    yield* step(() => sleep(pause, wait.signal), () => sleepSync(pause));
    if (attempt()) return true;
  }
  return false;
}

/**
 * The pauses between attempts, the last one ending with the wait. They grow up
 * to `checkInterval` and are jittered, lest waiters that were shut out
 * together come back together.
 */
export function* pauses(wait: Wait, start: number): Generator<number, void> {
  let longest = FIRST_PAUSE;
  for (let left; (left = remaining(wait, start)) > 0;) {
    longest = Math.min(longest, wait.checkInterval, LONGEST_SLEEP);
    yield Math.min(longest * (0.5 + Math.random() / 2), left);
    longest *= GROWTH;
  }
}

/** What is left of a wait that began at `start`: 0 or less when it is over. */
export function remaining(wait: Wait, start: number): number {
  return wait.failWhenLocked ? 0 : start + wait.timeout - now();
}

/** Sleeps, unless the signal ends it: then rejects with its reason. */
function sleep(
  milliseconds: number,
  signal?: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const wake = () => {
      signal?.removeEventListener("abort", abort);
      resolve();
    };
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(wake, milliseconds);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

function sleepSync(milliseconds: number): void {
  const nobodyWakes = new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(nobodyWakes, 0, 0, milliseconds);
}
