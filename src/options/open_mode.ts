/**
 * The modes of fopen(3), and how each of them opens a file under a lock.
 *
 * @module
 */

import type { OpenMode } from "../../ffi/types.ts";
import { formatList, formatValue, throwInvalid } from "./validate.ts";

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
 *
 * A `b`, as in Python's `"rb+"` or `"r+b"`, changes nothing: files hold bytes.
 * Python's `t` is refused, because the method chooses between text and bytes.
 */
export type FileMode = `${"r" | "w" | "a" | "x"}${
  | ""
  | "+"
  | "b"
  | "b+"
  | "+b"}`;

/** An {@linkcode OpenMode} with what happens under the lock. */
export interface LockedMode extends OpenMode {
  /** The name without `b`. */
  readonly name: FileMode;
  /** Whether the file is truncated once the lock is held. */
  readonly truncate: boolean;
}

const NAMES = ["r", "r+", "w", "w+", "a", "a+", "x", "x+"] as const;

/** Each mode by its names: `"r+"` is also `"rb+"` and `"r+b"`. */
const MODES: ReadonlyMap<unknown, LockedMode> = new Map(
  NAMES.flatMap((name) => {
    const [letter, plus = ""] = name;
    const mode: LockedMode = {
      name,
      read: letter === "r" || plus !== "",
      write: letter !== "r" || plus !== "",
      append: letter === "a",
      create: letter !== "r",
      exclusive: letter === "x",
      truncate: letter === "w",
    };
    const names = [name, `${letter}b${plus}`, `${letter}${plus}b`];
    return names.map((alias) => [alias, mode] as const);
  }),
);

/** A mode of Python that opens a file as text. */
const TEXT_MODE = /^[rwax](t|\+t|t\+)$/;

/**
 * Looks up a mode.
 *
 * @throws {TypeError} If `mode` is not a string.
 * @throws {RangeError} If `mode` is not the name of a mode.
 */
export function parseMode(mode: FileMode): LockedMode {
  const found = MODES.get(mode);
  if (found !== undefined) return found;
  if (typeof mode === "string" && TEXT_MODE.test(mode)) {
    throw new RangeError(
      `mode must not contain "t", not ${formatValue(mode)}: a file holds ` +
        "bytes, and the method chooses, such as readText() or readBytes(); " +
        `use ${formatValue(mode.replace("t", ""))}`,
    );
  }
  throwInvalid("mode", `one of ${formatList(NAMES)}`, mode, "string");
}
