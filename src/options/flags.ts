/** Lock flags, with the numbers of flock(2), which Python's portalocker uses too. */

/** A combination of {@linkcode LOCK_EX}, {@linkcode LOCK_SH}, {@linkcode LOCK_NB} and {@linkcode LOCK_UN}. */
export type LockFlags = number;

/** Shared: any number of holders at a time, none of them exclusive. */
export const LOCK_SH: LockFlags = 1;
/** Exclusive: one holder at a time. */
export const LOCK_EX: LockFlags = 2;
/** Non-blocking: one attempt instead of waiting. */
export const LOCK_NB: LockFlags = 4;
/** Unlock. */
export const LOCK_UN: LockFlags = 8;

/** The flags under the names that Python's `portalocker.LockFlags` gives them. */
export const LockFlags: {
  readonly SHARED: LockFlags;
  readonly EXCLUSIVE: LockFlags;
  readonly NON_BLOCKING: LockFlags;
  readonly UNBLOCK: LockFlags;
} = Object.freeze({
  SHARED: LOCK_SH,
  EXCLUSIVE: LOCK_EX,
  NON_BLOCKING: LOCK_NB,
  UNBLOCK: LOCK_UN,
});

/** What flags ask for, once they are known to make sense. */
export interface LockRequest {
  readonly kind: "exclusive" | "shared" | "unlock";
  readonly blocking: boolean;
}

/**
 * Reads flags.
 *
 * @throws {TypeError} If `flags` is not a number.
 * @throws {RangeError} If they contradict each other or name no kind of lock.
 */
export function parseFlags(flags: LockFlags): LockRequest {
  if (typeof flags !== "number") {
    throw new TypeError(`flags must be a number, not ${typeof flags}`);
  }
  const blocking = (flags & LOCK_NB) === 0;
  // Not by bits, which would cut off fractions and what is above 2^32.
  const kind = {
    [LOCK_EX]: "exclusive",
    [LOCK_SH]: "shared",
    [LOCK_UN]: "unlock",
  }[blocking ? flags : flags - LOCK_NB] as LockRequest["kind"] | undefined;
  if (kind === undefined) {
    throw new RangeError(
      `flags must be LOCK_EX, LOCK_SH or LOCK_UN, alone or with LOCK_NB, ` +
        `not ${flags}`,
    );
  }
  return { kind, blocking };
}
