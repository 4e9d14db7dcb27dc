/** Pauses that nothing ends. */

import { step } from "./gensync.ts";
import type { Recipe } from "./gensync.ts";

/** Waits so many milliseconds. */
export function sleep(milliseconds: number): Recipe<unknown> {
  return step<unknown>(
    () => new Promise<void>((resolve) => setTimeout(resolve, milliseconds)),
    () => sleepSync(milliseconds),
  );
}

/** {@linkcode sleep}, blocking the thread. */
export function sleepSync(milliseconds: number): void {
  const nobodyWakes = new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(nobodyWakes, 0, 0, milliseconds);
}
