/**
 * The modes of fopen(3), and how each of them opens a file under a lock.
 *
 * @module
 */

import type { OpenMode } from "../../ffi/types.ts";
import { formatList, throwInvalid } from "./validate.ts";

/**
 * How a file is opened, as in fopen(3).
 *
 * - `"r"` reads an existing file.
 * - `"w"` truncates the file once the lock is held, never before, and writes.
 * - `"a"` appends.
 * - `"x"` creates a file that must not exist, and writes.
 *
 * A `+` adds the other direction. Except for `"r"` and `"r+"`, a missing file
 * is created.
 */
export type FileMode = "r" | "r+" | "w" | "w+" | "a" | "a+" | "x" | "x+";

/** An {@linkcode OpenMode} with what happens under the lock. */
export interface LockedMode extends OpenMode {
  readonly name: FileMode;
  /** Whether the file is truncated once the lock is held. */
  readonly truncate: boolean;
}

const NAMES = ["r", "r+", "w", "w+", "a", "a+", "x", "x+"] as const;

const MODES: ReadonlyMap<unknown, LockedMode> = new Map(
  NAMES.map((name) => {
    const [letter, plus] = name;
    return [name, {
      name,
      read: letter === "r" || plus !== undefined,
      write: letter !== "r" || plus !== undefined,
      append: letter === "a",
      create: letter !== "r",
      exclusive: letter === "x",
      truncate: letter === "w",
    }];
  }),
);

/**
 * Looks up a mode.
 *
 * @throws {TypeError} If `mode` is not a string.
 * @throws {RangeError} If `mode` is not the name of a mode.
 */
export function parseMode(mode: FileMode): LockedMode {
  const found = MODES.get(mode);
  if (found !== undefined) return found;
  throwInvalid("mode", `one of ${formatList(NAMES)}`, mode, "string");
}
