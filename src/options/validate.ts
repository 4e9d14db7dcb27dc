/**
 * Checks the values of options and arguments. A message names the option, what
 * it must be and what it is.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { inspect } from "node:util";

/** Formats a value for a message, a string in double quotes. */
export function formatValue(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : inspect(value);
}

/** Formats the strings that an option accepts: `"flock", "ofd"`. */
export function formatList(values: Iterable<string>): string {
  return Array.from(values, (value) => JSON.stringify(value)).join(", ");
}

/**
 * Checks the path of a file and converts a URL to a path.
 *
 * @throws {TypeError} If the path is neither a string nor a `file:` URL.
 * @throws {RangeError} If the path is empty or contains a NUL character.
 */
export function filePath(path: string | URL, what = "path"): string {
  if (typeof path !== "string" && !(path instanceof URL)) {
    throw new TypeError(
      `${what} must be a string or a file: URL, not ${formatValue(path)}`,
    );
  }
  const name = typeof path === "string" ? path : fileURLToPath(path);
  if (name === "") throw new RangeError(`${what} must not be empty`);
  if (name.includes("\0")) {
    throw new RangeError(
      `${what} must not contain a NUL character, not ${formatValue(name)}`,
    );
  }
  return name;
}

/**
 * Rejects unknown option names, so that a typo, or Python's `check_interval`,
 * does not silently disable an option.
 *
 * @throws {TypeError} If `options` is not an object or has an unknown name.
 */
export function rejectUnknownOptions(
  options: object,
  known: readonly string[],
  what = "options",
): void {
  if (options === null || typeof options !== "object") {
    throw new TypeError(
      `${what} must be an object, not ${formatValue(options)}`,
    );
  }
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new TypeError(
      `unknown option ${JSON.stringify(unknown)}` +
        (what === "options" ? "" : ` in ${what}`) +
        ` (expected one of ${known.join(", ")})`,
    );
  }
}

/** Checks a number of milliseconds; `wanted` describes the valid ones. */
export function checkDuration(
  name: string,
  value: number,
  valid: boolean,
  wanted: string,
): void {
  if (typeof value === "number" && valid) return;
  const message = `${name} must be a number of milliseconds, ${wanted}, not ${
    formatValue(value)
  }`;
  throw typeof value === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

/** Checks permission bits, as in chmod(2). */
export function checkPermissions(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= 0o7777) return;
  const message = `${name} must be permission bits from 0 to 0o7777, not ${
    formatValue(value)
  }`;
  throw typeof value === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

/** Checks a boolean option. */
export function checkBoolean(name: string, value: boolean): void {
  if (typeof value !== "boolean") {
    throw new TypeError(`${name} must be a boolean, not ${formatValue(value)}`);
  }
}

/** Checks a callback. */
export function checkFunction(name: string, value: unknown): void {
  if (typeof value !== "function") {
    throw new TypeError(
      `${name} must be a function, not ${formatValue(value)}`,
    );
  }
}

/** Checks a string that becomes a part of a file name. */
export function checkFileNamePart(name: string, value: string): void {
  if (typeof value !== "string") {
    throw new TypeError(`${name} must be a string, not ${formatValue(value)}`);
  }
  if (value === "" || /[/\\\0]/.test(value)) {
    throw new RangeError(
      `${name} must be part of a file name, not ${formatValue(value)}`,
    );
  }
}

/** Checks the number of slots of a semaphore. */
export function checkMaximum(maximum: number): number {
  if (Number.isSafeInteger(maximum) && maximum > 0) return maximum;
  const message = `maximum must be a whole number, 1 or more, not ${
    formatValue(maximum)
  }`;
  throw typeof maximum === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

/**
 * Returns whether a value is an `AbortSignal`. Does not use `instanceof`,
 * because the signal may come from another realm or a polyfill.
 */
export function isAbortSignal(value: AbortSignal): boolean {
  return typeof value?.aborted === "boolean" &&
    typeof value.addEventListener === "function";
}
