/**
 * The options `locker` and `range`. `docs/lockers.md` says which lock types
 * conflict with each other.
 *
 * `"lockf"` does not exclude within a process, and portalock does not add that:
 * any close of the file in the process would still release the lock.
 *
 * @module
 */

import type { LockerSettings } from "../../ffi/types.ts";
import type { LockedMode } from "./open_mode.ts";
import { flagsOption } from "./flags.ts";
import { formatList, rejectUnknownOptions, throwInvalid } from "./validate.ts";

const LOCKERS = [
  "flock",
  "ofd",
  "lockf",
] as const satisfies readonly LockerSettings["name"][];

/**
 * Checks the options `locker` and `range`.
 *
 * @throws {TypeError} If an option is of the wrong type.
 * @throws {RangeError} If an option has an invalid value, or if `range` is
 * given and the locker does not support ranges.
 */
export function resolveLocker(
  name: LockerSettings["name"] = "flock",
  range?: { start: number; length: number } | undefined,
): LockerSettings {
  if (!LOCKERS.includes(name)) {
    throwInvalid("locker", `one of ${formatList(LOCKERS)}`, name, "string");
  }
  if (range === undefined) return { name };
  rejectUnknownOptions(range, { start: true, length: true }, "range");
  if (name === "flock") {
    throw new RangeError(
      'range requires the locker "ofd" or "lockf": "flock" locks whole files',
    );
  }
  const { start, length } = range;
  checkByteCount("start", start, 0);
  checkByteCount("length", length, 1);
  if (!Number.isSafeInteger(start + length)) {
    throw new RangeError(
      `range must end at ${Number.MAX_SAFE_INTEGER} or before, not at ${
        start + length
      }`,
    );
  }
  return { name, range: { start, length } };
}

/**
 * Returns whether a lock covers all bytes from an offset on, however long the
 * file grows. No program has locked or written bytes beyond the largest offset.
 */
export function coversFrom(
  range: LockerSettings["range"],
  offset: number,
): boolean {
  return range === undefined ||
    range.start <= offset &&
      range.start + range.length === Number.MAX_SAFE_INTEGER;
}

/**
 * Checks that the mode does not truncate bytes that the lock does not cover.
 * Another holder may have locked them, or may write them at any time:
 *
 * - P.1 The first process locks bytes 0 to 99, and Q.2 the second one locks
 *   bytes 100 to 199.
 * - Q.3 The second process writes its bytes.
 * - P.4 The first process truncates the file, and with it the bytes of Q.
 *
 * @throws {RangeError} If it does.
 */
export function checkModeKeepsOthers(
  { range }: LockerSettings,
  mode: LockedMode,
): void {
  if (!mode.truncate || coversFrom(range, 0)) return;
  throw new RangeError(
    `mode "${mode.name}" truncates the file, also the bytes that range does ` +
      'not cover; use mode "r+" or "a+", or omit range',
  );
}

function checkByteCount(name: string, value: number, min: number): void {
  if (Number.isSafeInteger(value) && value >= min) return;
  const valid = `a whole number of bytes, ${min} or more`;
  throwInvalid(`range.${name}`, valid, value, "number");
}

/**
 * Checks that the mode permits the lock. fcntl(2) requires a file open for
 * writing for an exclusive record lock, and one open for reading for a shared
 * record lock. `option` is the option that requests it.
 *
 * @throws {RangeError} If the mode does not permit the lock.
 */
export function checkModeAllowsLock(
  { name }: LockerSettings,
  mode: LockedMode,
  exclusive: boolean,
  option: string = flagsOption(exclusive),
): void {
  if (name === "flock" || (exclusive ? mode.write : mode.read)) return;
  const verb = exclusive ? "write" : "read";
  throw new RangeError(
    `mode "${mode.name}" cannot ${verb}, which ${option} and the ` +
      `locker "${name}" require; use mode "${mode.name}+"`,
  );
}
