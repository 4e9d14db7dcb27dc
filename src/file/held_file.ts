/** What every kind of lock has while it is held. */

import type { LockerSettings, PlatformFile } from "../../ffi/types.ts";
import type { LockedMode } from "../options/open_mode.ts";
import type { Gen } from "../core/gensync.ts";

/** What was taken. */
export interface HeldLock {
  /** The file that is locked. */
  readonly path: string;
  readonly file: PlatformFile;
  readonly mode: LockedMode;
  readonly locker: LockerSettings;
  /** {@linkcode LockedFile.relock} changes it. */
  exclusive: boolean;
  /** Why its kind cannot be changed, if it cannot. */
  readonly notRelockable?: string;
  /**
   * Called when its kind begins to change; what it returns, when that is over,
   * and whether the lock is lost.
   */
  onRelock?(): (lost: boolean) => void;
  /** Whether it is held even when nobody could release it any more. */
  readonly keepUntilExit?: boolean;
  /** Called once it was given back. */
  onReleased: (() => void) | undefined;
  /** Gives it back. It is gone whatever this throws. */
  release(): Gen<void>;
}
