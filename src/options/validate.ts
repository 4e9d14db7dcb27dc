/** What options and arguments are held against. */

import { fileURLToPath } from "node:url";
import { inspect } from "node:util";

/**
 * Checks the path of a lock and resolves a URL.
 *
 * @throws {TypeError} If it is neither a string nor a `file:` URL.
 * @throws {RangeError} If it is empty or has a NUL.
 */
export function filePath(path: string | URL, what = "path"): string {
  if (typeof path !== "string" && !(path instanceof URL)) {
    throw new TypeError(
      `${what} must be a string or a file: URL, not ${inspect(path)}`,
    );
  }
  const name = typeof path === "string" ? path : fileURLToPath(path);
  if (name === "") throw new RangeError(`${what} must not be empty`);
  if (name.includes("\0")) {
    throw new RangeError(`${what} must not contain a NUL: ${inspect(name)}`);
  }
  return name;
}

/** A mistyped option would otherwise be a promise that nobody keeps. */
export function rejectUnknownOptions(
  options: object,
  known: readonly string[],
): void {
  if (options === null || typeof options !== "object") {
    throw new TypeError(`options must be an object, not ${inspect(options)}`);
  }
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new TypeError(
      `unknown option ${unknown}; the options are ${known.join(", ")}`,
    );
  }
}

export function checkDuration(
  name: string,
  value: number,
  valid: boolean,
  wanted: string,
): void {
  if (typeof value === "number" && valid) return;
  const message = `${name} must be a number of milliseconds, ${wanted}, not ${
    inspect(value)
  }`;
  throw typeof value === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

/** Checks permission bits as chmod(2) takes them. */
export function checkPermissions(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= 0o7777) return;
  const message = `${name} must be permission bits from 0 to 0o7777, not ${
    inspect(value)
  }`;
  throw typeof value === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

export function checkBoolean(name: string, value: boolean): void {
  if (typeof value !== "boolean") {
    throw new TypeError(`${name} must be a boolean, not ${inspect(value)}`);
  }
}

export function checkFunction(name: string, value: unknown): void {
  if (typeof value !== "function") {
    throw new TypeError(`${name} must be a function, not ${inspect(value)}`);
  }
}

export function checkFileNamePart(name: string, value: string): void {
  if (typeof value !== "string") {
    throw new TypeError(`${name} must be a string, not ${inspect(value)}`);
  }
  if (value === "" || /[/\\\0]/.test(value)) {
    throw new RangeError(
      `${name} must be part of a file name, not ${inspect(value)}`,
    );
  }
}

/** Checks how many may hold a semaphore. */
export function checkMaximum(maximum: number): number {
  if (Number.isSafeInteger(maximum) && maximum > 0) return maximum;
  const message = `maximum must be a whole number, 1 or more, not ${
    inspect(maximum)
  }`;
  throw typeof maximum === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

/** Not `instanceof`: a signal may come from another realm or a polyfill. */
export function isAbortSignal(value: AbortSignal): boolean {
  return typeof value?.aborted === "boolean" &&
    typeof value.addEventListener === "function";
}
