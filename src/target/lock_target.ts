/** `LockTarget`: what a lock object locks, and how. */

import type { LockerSettings } from "../../ffi/types.ts";
import type { Gen } from "../core/gensync.ts";
import type { HeldLock } from "../file/held_file.ts";
import type { Busy } from "../wait/busy.ts";
import type { Deadline } from "../wait/deadline.ts";

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
