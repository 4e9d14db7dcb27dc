/** Claims: how each kind of lock takes what it locks, and gives it back. */

import type { LockerSettings } from "../../ffi/types.ts";
import type { HeldLock } from "../file/held_file.ts";
import type { Gen } from "../core/gensync.ts";
import type { Deadline } from "../wait/deadline.ts";

export type { HeldLock as Hold };

/** What one kind of lock locks. */
export interface LockTarget {
  /** What messages and events call it. */
  readonly path: string;
  /** Whether it excludes every other. */
  readonly exclusive: boolean;
  /** The files to ask the system about when somebody wants to know holders. */
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  /**
   * Takes it, waiting if need be; `waits` is called when the first attempt is
   * not enough. Whatever this throws, nothing is held or left open.
   */
  acquire(deadline: Deadline, waits: () => void): Gen<HeldLock | Busy>;
}

/** The wait was in vain. Says why, if somebody wants to know. */
export class Busy {
  readonly describe: (deadline: Deadline) => BusyReason;

  constructor(describe: (deadline: Deadline) => BusyReason) {
    this.describe = describe;
  }
}

/** Why a wait was in vain. */
export interface BusyReason {
  /** Goes on from "Cannot lock cache.json: ". */
  readonly reason: string;
  readonly holderPid?: number;
}
