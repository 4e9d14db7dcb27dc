/** Pauses that nothing ends. */

import { op } from "./gensync.ts";
import type { Gen } from "./gensync.ts";

/** Waits so many milliseconds. */
export function sleep(milliseconds: number): Gen<unknown> {
  return op<unknown>(
    () => new Promise<void>((resolve) => setTimeout(resolve, milliseconds)),
    () => sleepSync(milliseconds),
  );
}

/** {@linkcode sleep}, blocking the thread. */
export function sleepSync(milliseconds: number): void {
  const nobodyWakes = new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(nobodyWakes, 0, 0, milliseconds);
}
