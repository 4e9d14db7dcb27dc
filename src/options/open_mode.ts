/** The modes of fopen(3), and how each opens a file that is to be locked. */

import { inspect } from "node:util";
import type { OpenMode } from "../../ffi/types.ts";

/**
 * How a file is opened: `"r"` reads, `"w"` empties and writes, `"a"` appends,
 * `"x"` writes a file that must not exist; `+` adds the other direction. Only
 * `"r"` and `"r+"` need an existing file. `"w"` and `"w+"` empty the file once
 * the lock is held, never before.
 */
export type FileMode = "r" | "r+" | "w" | "w+" | "a" | "a+" | "x" | "x+";

/** An {@linkcode OpenMode} with what happens under the lock. */
export interface LockedMode extends OpenMode {
  readonly name: FileMode;
  /** Whether the content goes once the lock is held. */
  readonly truncate: boolean;
}

const MODES: Record<string, LockedMode> = Object.fromEntries(
  (["r", "r+", "w", "w+", "a", "a+", "x", "x+"] as const).map((name) => {
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
 * Looks a mode up.
 *
 * @throws {RangeError} If there is no such mode.
 */
export function parseMode(mode: FileMode): LockedMode {
  if (typeof mode === "string" && Object.hasOwn(MODES, mode)) {
    return MODES[mode];
  }
  const message = `mode must be one of ${Object.keys(MODES).join(", ")}, not ${
    inspect(mode)
  }`;
  throw typeof mode === "string"
    ? new RangeError(message)
    : new TypeError(message);
}
