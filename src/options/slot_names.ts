/** The names of a semaphore's files: patterns as Python's `str.format` has. */

import { inspect } from "node:util";

const FIELD = /\{\{|\}\}|\{(name)\}|\{number(?::(0?)(\d{0,2})d?)?\}|[{}]/g;

/** Each slot is a file, and who waits has all of them open. */
const MOST_SLOTS = 65_536;

/**
 * The names of all slots, from number 0.
 *
 * @throws {RangeError} If there are too many, or the pattern has fields that
 * are not known, or gives two slots one name.
 */
export function slotNames(
  pattern: string,
  name: string,
  maximum: number,
): string[] {
  if (maximum > MOST_SLOTS) {
    throw new RangeError(
      `maximum must be ${MOST_SLOTS} or less, for each slot is a file, not ` +
        maximum,
    );
  }
  const names = Array.from(
    { length: maximum },
    (_, number) => format(pattern, name, number),
  );
  if (new Set(names).size < maximum) {
    throw new RangeError(
      `filenamePattern must contain {number}, not ${inspect(pattern)}`,
    );
  }
  return names;
}

function format(pattern: string, name: string, number: number): string {
  return pattern.replace(FIELD, (text, isName, zero, width) => {
    if (text === "{{" || text === "}}") return text[0];
    if (isName) return name;
    if (text.length > 1) {
      return String(number).padStart(Number(width || 0), zero ? "0" : " ");
    }
    throw new RangeError(
      "filenamePattern may contain {name} and {number}, which may have a " +
        `width as in {number:02d}, not ${inspect(pattern)}`,
    );
  });
}
