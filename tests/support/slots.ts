/** Semaphores of tests. */

import { join } from "node:path";
import { BoundedSemaphore } from "../../mod.ts";
import type { BoundedSemaphoreOptions } from "../../mod.ts";
import { openDescriptors } from "./descriptors.ts";
import { lockOutsideLibrary } from "./platform.ts";
import { tempDir } from "./temp_dir.ts";

/** Longer than any test. JSON does not have `Infinity`. */
export const LONG_MS = 600_000;

/** Creates a directory, and semaphores of one name with slots there. */
export function slots() {
  const dir = tempDir();
  const { path: directory } = dir;
  return {
    directory,
    options: { name: "s", directory, timeout: LONG_MS },
    semaphore: (maximum: number, options: BoundedSemaphoreOptions = {}) =>
      new BoundedSemaphore(maximum, {
        name: "s",
        directory,
        timeout: LONG_MS,
        ...options,
      }),
    path: (slot: number) => join(directory, `s.0${slot}.lock`),
    lockOutside: (slot: number) =>
      lockOutsideLibrary(join(directory, `s.0${slot}.lock`)),
    open: () => openDescriptors(directory),
    [Symbol.dispose]: () => dir[Symbol.dispose](),
  };
}
