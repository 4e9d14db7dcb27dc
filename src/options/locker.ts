/** The kinds of locks that a system has, and what each needs. */

import { inspect } from "node:util";
import type { LockerSettings } from "../../ffi/types.ts";
import type { LockedMode } from "./open_mode.ts";

const LOCKERS: readonly unknown[] = [
  "flock",
  "ofd",
  "lockf",
] satisfies LockerSettings["name"][];

/**
 * Checks the options `locker` and `range`.
 *
 * @throws {TypeError} If one of them is of the wrong type.
 * @throws {RangeError} If one has an impossible value, or the locker no ranges.
 */
export function resolveLocker(
  name: LockerSettings["name"] = "flock",
  range?: LockerSettings["range"],
): LockerSettings {
  if (!LOCKERS.includes(name)) {
    const message = `locker must be one of ${LOCKERS.join(", ")}, not ${
      inspect(name)
    }`;
    throw typeof name === "string"
      ? new RangeError(message)
      : new TypeError(message);
  }
  if (range === undefined) return { name };
  if (range === null || typeof range !== "object") {
    throw new TypeError(
      `range must be an object with start and length, not ${inspect(range)}`,
    );
  }
  if (name === "flock") {
    throw new RangeError(
      'range needs the locker "ofd" or "lockf"; "flock" locks whole files',
    );
  }
  return { name, range: checkRange(range) };
}

function checkRange(
  range: NonNullable<LockerSettings["range"]>,
): LockerSettings["range"] {
  const unknown = Object.keys(range).find((key) =>
    key !== "start" && key !== "length"
  );
  if (unknown !== undefined) {
    throw new TypeError(`range has start and length, not ${unknown}`);
  }
  const { start, length } = range;
  checkBytes("start", start, 0);
  checkBytes("length", length, 1);
  if (!Number.isSafeInteger(start + length)) {
    throw new RangeError(
      `range must end at ${Number.MAX_SAFE_INTEGER} or before, not ${
        inspect(range)
      }`,
    );
  }
  return { start, length };
}

function checkBytes(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  const message =
    `range.${name} must be a whole number of bytes, ${least} or more, not ${
      inspect(value)
    }`;
  throw typeof value === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

/**
 * Record locks go by how the file is open: who cannot write can exclude nobody,
 * and who cannot read can share with nobody.
 *
 * @throws {RangeError} If the mode and the kind of lock do not go together.
 */
export function checkModeAllowsLock(
  { name }: LockerSettings,
  mode: LockedMode,
  exclusive: boolean,
): void {
  if (name === "flock" || (exclusive ? mode.write : mode.read)) return;
  const [flag, verb] = exclusive ? ["LOCK_EX", "write"] : ["LOCK_SH", "read"];
  throw new RangeError(
    `mode "${mode.name}" cannot ${verb}, which flags with ${flag} and the ` +
      `locker "${name}" need; use mode "${mode.name[0]}+"`,
  );
}
