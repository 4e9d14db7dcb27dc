/**
 * Formats the file names of a semaphore's slots, from patterns in the syntax of
 * Python's `str.format`.
 *
 * @module
 */

import { formatValue } from "./validate.ts";

const FIELD = /\{\{|\}\}|\{(name)\}|\{number(?::(0?)(\d{0,2})d?)?\}|[{}]/g;

/** Each slot is a file, and a waiter has all of them open. */
const MAX_SLOTS = 65_536;

/**
 * Returns the file names of all slots, from number 0.
 *
 * @throws {RangeError} If `maximum` is too large, or if the pattern has an
 * unknown field or the same name for two slots.
 */
export function slotNames(
  pattern: string,
  name: string,
  maximum: number,
): string[] {
  if (maximum > MAX_SLOTS) {
    throw new RangeError(
      `maximum must be ${MAX_SLOTS} or less, not ${maximum}: ` +
        "each slot is a file",
    );
  }
  const names = Array.from(
    { length: maximum },
    (_, number) => format(pattern, name, number),
  );
  if (new Set(names).size < maximum) {
    throw new RangeError(
      `filenamePattern must contain {number}, not ${formatValue(pattern)}`,
    );
  }
  return names;
}

function format(pattern: string, name: string, number: number): string {
  return pattern.replace(FIELD, (text, isName, zero, width) => {
    if (text === "{{" || text === "}}") return text.slice(1);
    if (isName) return name;
    if (text.length > 1) {
      return String(number).padStart(Number(width || 0), zero ? "0" : " ");
    }
    throw new RangeError(
      "filenamePattern must contain only the fields {name} and {number}, " +
        "with an optional width as in {number:02d}, " +
        `not ${formatValue(pattern)}`,
    );
  });
}
