/** What every kind of lock has while it is held. */

import type { LockerSettings, NativeFile } from "../../ffi/types.ts";
import type { LockedMode } from "../options/open_mode.ts";
import type { Recipe } from "../core/gensync.ts";

/** What was taken. */
export interface Hold {
  /** The file that is locked. */
  readonly path: string;
  readonly file: NativeFile;
  readonly mode: LockedMode;
  readonly locker: LockerSettings;
  /** {@linkcode LockedFile.relock} changes it. */
  exclusive: boolean;
  /** Why its kind cannot be changed, if it cannot. */
  readonly fixed?: string;
  /**
   * Called when its kind begins to change; what it returns, when that is over,
   * and whether the lock is lost.
   */
  changing?(): (lost: boolean) => void;
  /** Whether it is held even when nobody could release it any more. */
  readonly lasting?: boolean;
  /** Called once it was given back. */
  afterwards: (() => void) | undefined;
  /** Gives it back. It is gone whatever this throws. */
  release(): Recipe<void>;
}
