/** `LockTarget`: what a lock object locks, and how. */

import type { LockerSettings } from "../../ffi/types.ts";
import { formatSubject, LockUnsupported } from "../core/errors.ts";
import type { Gen } from "../core/gensync.ts";
import type { HeldLock } from "../file/held_file.ts";
import type { Busy } from "../wait/busy.ts";
import type { Deadline } from "../wait/deadline.ts";

/** More replaced files in a row mean that the check itself does not work. */
export const MAX_REPLACED = 10_000;

/** Returns the error after {@linkcode MAX_REPLACED} replaced files in a row. */
export function replacedTooOften({ path }: LockTarget): LockUnsupported {
  return new LockUnsupported(
    `Cannot lock ${formatSubject({ path })}: its path names another file ` +
      "after each open; put the lock file on another file system",
    { path },
  );
}

/** What one kind of lock locks: a file, a file and a PID file, slots. */
export interface LockTarget {
  /** The name in messages and events. */
  readonly path: string;
  /** Whether the lock excludes all others, or only exclusive ones. */
  readonly exclusive: boolean;
  /** The absolute paths of the files whose holders exclude others. */
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  /** Whether releasing the lock may throw. */
  readonly throwOnReleaseError: boolean;
  /**
   * Acquires the lock. If it throws, nothing is locked or left open.
   *
   * @returns The held lock, or {@linkcode Busy} if the deadline has passed.
   */
  acquire(deadline: Deadline): Gen<HeldLock | Busy>;
}
