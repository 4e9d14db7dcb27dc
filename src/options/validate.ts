/**
 * Checks the values of options and arguments. A message names the option, what
 * it must be and what it is.
 *
 * @module
 */

import { builtin } from "../../ffi/mod.ts";
import { printable } from "./printable.ts";

export { printable };

const LONE_SURROGATE = /\p{Surrogate}/u;

/** How many characters of a text of the caller a message shows. */
const MAX_SHOWN = 200;

/** How many characters of a name a message shows: more than any path has. */
const MAX_NAME = 5000;

/** Cuts a text off that would fill the message, and says how long it was. */
export function shorten(text: string, longest: number = MAX_SHOWN): string {
  return text.length <= longest
    ? text
    : `${text.slice(0, longest)}… (${text.length} characters)`;
}

/** Formats a string for a message, in double quotes. */
export function quote(text: string, longest: number = MAX_SHOWN): string {
  const quoted = printable(JSON.stringify(text.slice(0, longest)));
  return text.length <= longest
    ? quoted
    : `${quoted}… (${text.length} characters)`;
}

/**
 * Formats a name for a message. It is quoted if it contains a character that
 * could be mistaken for a part of the sentence.
 */
export function formatName(name: string): string {
  const isPlain = name.length <= MAX_NAME &&
    /^[\p{L}\p{N}._\-+@~%/\\:]+$/u.test(name);
  return isPlain ? name : quote(name, MAX_NAME);
}

/**
 * Formats a value for a message: a string in double quotes, and an object by
 * the name of its class. The text is short, and no code of the value runs, such
 * as a getter, a trap of a proxy, or `toString()`.
 */
export function formatValue(value: unknown): string {
  switch (typeof value) {
    case "string":
      return quote(value);
    case "symbol":
      return printable(shorten(String(value)));
    case "bigint":
      return `${shorten(String(value))}n`;
    case "function":
      return "a function";
    case "object":
      return value === null ? "null" : describeObject(value);
    default:
      return Object.is(value, -0) ? "-0" : String(value);
  }
}

function describeObject(value: object): string {
  if (nodeTypes().isPromise(value)) return "a Promise: await it first";
  const name = className(value);
  if (name === undefined || name === "Object") return "an object";
  const article = /^[AEIO]/i.test(name) ? "an" : "a";
  return `${article} ${printable(shorten(name))}`;
}

/** Returns the name of the class of an object, without reading a getter. */
function className(value: object): string | undefined {
  const types = nodeTypes();
  for (
    let object: object | null = value;
    object !== null;
    object = Object.getPrototypeOf(object)
  ) {
    if (types.isProxy(object)) return "Proxy";
    if (object === value) continue;
    const constructor = ownValue(object, "constructor");
    if (typeof constructor !== "function") continue;
    if (types.isProxy(constructor)) return "Proxy";
    const name = ownValue(constructor, "name");
    if (typeof name === "string" && name !== "") return name;
  }
  return undefined;
}

/** Only error messages need it, and it takes long to load. */
function nodeTypes(): typeof import("node:util").types {
  return builtin<typeof import("node:util")>("node:util")!.types;
}

function ownValue(object: object, name: string): unknown {
  return Object.getOwnPropertyDescriptor(object, name)?.value;
}

/** Formats the strings that an option accepts: `"flock", "ofd"`. */
export function formatList(values: Iterable<string>): string {
  return Array.from(values, quote).join(", ");
}

/**
 * Throws the error for an invalid value: a `RangeError` if the value is of the
 * right `type`, or else a `TypeError`.
 */
export function throwInvalid(
  name: string,
  expected: string,
  value: unknown,
  type?: "number" | "string",
): never {
  const message = `${name} must be ${expected}, not ${formatValue(value)}`;
  const actual = typeof value;
  throw actual === type ? new RangeError(message) : new TypeError(message);
}

function pathOf(url: URL): string {
  return builtin<typeof import("node:url")>("node:url")!.fileURLToPath(url);
}

/**
 * Checks the path of a file and converts a URL to a path.
 *
 * @throws {TypeError} If the path is neither a string nor a `file:` URL.
 * @throws {RangeError} If the path is empty, or contains a NUL character or a
 * lone surrogate.
 */
export function filePath(path: string | URL, what = "path"): string {
  if (typeof path !== "string" && !(path instanceof URL)) {
    throwInvalid(what, "a string or a file: URL", path);
  }
  const name = typeof path === "string" ? path : pathOf(path);
  if (name === "") throw new RangeError(`${what} must not be empty`);
  if (name.includes("\0")) {
    throw new RangeError(
      `${what} must not contain a NUL character, not ${formatValue(name)}`,
    );
  }
  // The runtimes would replace it by U+FFFD, which is the name of another file.
  if (LONE_SURROGATE.test(name)) {
    throw new RangeError(
      `${what} must not contain a lone surrogate, not ${formatValue(name)}`,
    );
  }
  return name;
}

/**
 * Rejects unknown option names, so that a typo, or Python's `check_interval`,
 * does not silently disable an option. Also rejects an object of a class that
 * does not have any of the options, such as a promise, a `URL` or an `AbortSignal`: all
 * options would be the defaults.
 *
 * @throws {TypeError} If `options` is not an object or has an unknown name.
 */
export function rejectUnknownOptions(
  options: object,
  known: Readonly<Record<string, true>>,
  what = "options",
): void {
  if (options === null || typeof options !== "object") {
    throwInvalid(what, "an object", options);
  }
  if (!isPlain(options) && !Object.keys(known).some((key) => key in options)) {
    throwInvalid(what, "an object with options", options);
  }
  const unknown = Object.keys(options).find((name) =>
    !Object.hasOwn(known, name)
  );
  if (unknown !== undefined) {
    throw new TypeError(
      `unknown option ${quote(unknown)}` +
        (what === "options" ? "" : ` in ${what}`) +
        ` (expected one of ${Object.keys(known).join(", ")})`,
    );
  }
}

/** Whether an object is one that `{}` creates, in any realm, or like one. */
function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype ||
    className(value) === "Object";
}

/** Checks a number of milliseconds that may be 0 or `Infinity`. */
export function checkTimeout(name: string, value: number): void {
  if (typeof value === "number" && value >= 0) return;
  throwInvalid(
    name,
    "a number of milliseconds, 0 or more, or Infinity",
    value,
    "number",
  );
}

/** Checks a number of milliseconds that is neither 0 nor `Infinity`. */
export function checkPeriod(name: string, value: number): void {
  if (typeof value === "number" && value > 0 && value < Infinity) return;
  throwInvalid(
    name,
    "a number of milliseconds, more than 0 and finite",
    value,
    "number",
  );
}

/** Checks permission bits, as in chmod(2). */
export function checkPermissions(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= 0o7777) return;
  throwInvalid(name, "permission bits from 0 to 0o7777", value, "number");
}

/** Checks a boolean option. */
export function checkBoolean(name: string, value: boolean): void {
  if (typeof value !== "boolean") throwInvalid(name, "a boolean", value);
}

/** Checks a callback. */
export function checkFunction(name: string, value: unknown): void {
  if (typeof value !== "function") throwInvalid(name, "a function", value);
}

/** Checks a string that becomes a part of a file name. */
export function checkFileNamePart(name: string, value: string): void {
  if (typeof value !== "string") throwInvalid(name, "a string", value);
  if (value === "" || /[/\\\0]/.test(value)) {
    throwInvalid(name, "a part of a file name", value, "string");
  }
}

/** Checks the number of slots of a semaphore. */
export function checkMaximum(maximum: number): number {
  if (Number.isSafeInteger(maximum) && maximum > 0) return maximum;
  throwInvalid("maximum", "a whole number, 1 or more", maximum, "number");
}

/**
 * Returns whether a value is an `AbortSignal`. Does not use `instanceof`,
 * because the signal may come from another realm or a polyfill.
 */
export function isAbortSignal(value: AbortSignal): boolean {
  return typeof value?.aborted === "boolean" &&
    typeof value.addEventListener === "function";
}
