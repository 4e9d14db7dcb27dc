/**
 * Lock flags. Their values are those of flock(2) on Linux and macOS, and of
 * Python's portalocker.
 *
 * @module
 */

import { checkBoolean, throwInvalid } from "./validate.ts";

/**
 * One of {@linkcode LOCK_EX}, {@linkcode LOCK_SH} and {@linkcode LOCK_UN},
 * alone or combined with {@linkcode LOCK_NB}.
 */
export type LockFlags = number;

/** Requests a shared lock: several readers may hold it at the same time. */
export const LOCK_SH: LockFlags = 1;
/** Requests an exclusive lock: one holder at a time. */
export const LOCK_EX: LockFlags = 2;
/**
 * Requests a non-blocking lock, as in flock(2).
 *
 * - {@linkcode lock} makes a single attempt.
 * - {@linkcode Lock} and {@linkcode RLock} time out after 5000 ms instead of
 *   never, unless `timeout` is given.
 * - {@linkcode TemporaryFileLock} and {@linkcode PidFileLock} make a single
 *   attempt, unless `timeout` or `failWhenLocked` is given.
 */
export const LOCK_NB: LockFlags = 4;
/** Releases the lock. Only {@linkcode lock} accepts it. */
export const LOCK_UN: LockFlags = 8;

/** The flags, by their names in Python's `portalocker.LockFlags`. */
export const LockFlags: {
  /** {@linkcode LOCK_SH} */
  readonly SHARED: LockFlags;
  /** {@linkcode LOCK_EX} */
  readonly EXCLUSIVE: LockFlags;
  /** {@linkcode LOCK_NB} */
  readonly NON_BLOCKING: LockFlags;
  /** {@linkcode LOCK_UN} */
  readonly UNBLOCK: LockFlags;
} = Object.freeze({
  SHARED: LOCK_SH,
  EXCLUSIVE: LOCK_EX,
  NON_BLOCKING: LOCK_NB,
  UNBLOCK: LOCK_UN,
});

/** The meaning of valid flags. */
export interface LockRequest {
  readonly kind: "exclusive" | "shared" | "unlock";
  readonly blocking: boolean;
}

/** The options that say which lock to acquire. */
export interface LockTypeOptions {
  readonly flags?: LockFlags | undefined;
  readonly shared?: boolean | undefined;
}

/** The lock that options request. */
export interface LockType {
  readonly exclusive: boolean;
  readonly blocking: boolean;
  /** The option that requests it, for messages. */
  readonly option: string;
}

/**
 * Checks the options `flags` and `shared`.
 *
 * @throws {TypeError} If an option has the wrong type, or both are given.
 * @throws {RangeError} If `flags` do not request a lock.
 */
export function resolveLockType({ flags, shared }: LockTypeOptions): LockType {
  if (shared !== undefined) {
    checkBoolean("shared", shared);
    if (flags !== undefined) throw sharedWithFlags();
    return {
      exclusive: !shared,
      blocking: false,
      option: `shared: ${shared}`,
    };
  }
  const { kind, blocking } = parseFlags(flags ?? LOCK_EX | LOCK_NB);
  if (kind === "unlock") {
    throw new RangeError("flags must be LOCK_EX or LOCK_SH, not LOCK_UN");
  }
  const exclusive = kind === "exclusive";
  return { exclusive, blocking, option: flagsOption(exclusive) };
}

/** Names the flags of a lock in a message. */
export function flagsOption(exclusive: boolean): string {
  return `flags with ${exclusive ? "LOCK_EX" : "LOCK_SH"}`;
}

/** Returns the error for `shared` beside `flags`. */
function sharedWithFlags(): TypeError {
  return new TypeError(
    "shared and flags exclude each other; pass shared alone, or flags with " +
      "LOCK_SH or LOCK_EX alone",
  );
}

/**
 * Parses flags.
 *
 * @throws {TypeError} If `flags` is not a number.
 * @throws {RangeError} If `flags` is not a valid combination.
 */
export function parseFlags(flags: LockFlags): LockRequest {
  if (typeof flags !== "number") throwInvalid("flags", "a number", flags);
  const blocking = (flags & LOCK_NB) === 0;
  // Bitwise operators would drop fractions and the bits above 2^32.
  const kind = {
    [LOCK_EX]: "exclusive",
    [LOCK_SH]: "shared",
    [LOCK_UN]: "unlock",
  }[blocking ? flags : flags - LOCK_NB] as LockRequest["kind"] | undefined;
  if (kind === undefined) {
    const valid = "LOCK_EX, LOCK_SH or LOCK_UN, alone or with LOCK_NB";
    throwInvalid("flags", valid, flags, "number");
  }
  return { kind, blocking };
}
