/** Checks the arguments of the operations on an open file. */

import type { PlatformFile } from "../../ffi/types.ts";
import { FileTooLarge, formatSubject } from "../core/errors.ts";
import { formatValue, throwInvalid } from "../options/validate.ts";

/** Where an offset starts: the numbers of lseek(2) and `Deno.SeekMode`. */
export const SeekMode: {
  /** From the start of the file. */
  readonly Start: 0;
  /** From the current position. */
  readonly Current: 1;
  /** From the end of the file. */
  readonly End: 2;
} = Object.freeze({ Start: 0, Current: 1, End: 2 });
/** One of the numbers of {@linkcode SeekMode}. */
export type SeekMode = 0 | 1 | 2;

/**
 * Encodes a text as UTF-8.
 *
 * @throws {TypeError} If it is not a string.
 * @throws {RangeError} If it contains a lone surrogate, which `TextEncoder`
 * would replace by U+FFFD.
 */
export function encode(text: string): Uint8Array {
  if (typeof text !== "string") {
    throwInvalid("text", "a string", text);
  }
  if (!(text as WellFormable).isWellFormed()) {
    throw new RangeError(
      `text must not contain a lone surrogate (index ${
        text.search(/\p{Surrogate}/u)
      }), which UTF-8 cannot encode; use text.toWellFormed(), or write bytes`,
    );
  }
  return new TextEncoder().encode(text);
}

/** A string of ECMAScript 2024. */
type WellFormable = string & { isWellFormed(): boolean };

export function checkBytes(name: string, bytes: Uint8Array): Uint8Array {
  if (bytes instanceof Uint8Array) return bytes;
  throwInvalid(name, "a Uint8Array", bytes);
}

export function tooLarge(
  path: string,
  size: number,
  cause?: unknown,
): FileTooLarge {
  return new FileTooLarge(
    `Cannot read ${
      formatSubject({ path })
    }: ${size} bytes are more than fit; ` +
      "read it in parts",
    { path, cause },
  );
}

export function seek(
  file: PlatformFile,
  offset: number | bigint,
  whence: SeekMode,
): number {
  if (whence !== 0 && whence !== 1 && whence !== 2) {
    throw new RangeError(
      `whence must be a SeekMode, not ${formatValue(whence)}`,
    );
  }
  if (typeof offset !== "number" && typeof offset !== "bigint") {
    throwInvalid("offset", "a number", offset);
  }
  const least = whence === SeekMode.Start ? 0 : Number.MIN_SAFE_INTEGER;
  return file.seek(checkOffset("offset", Number(offset), least), whence);
}

export function checkOffset(
  name: string,
  value: number,
  least: number,
): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new RangeError(
    `${name} must be a whole number of bytes${
      least === 0 ? ", 0 or more" : ""
    }, not ${formatValue(value)}`,
  );
}
