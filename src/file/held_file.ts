/** `HeldLock`: a lock of any kind, while it is held. */

import type { LockerSettings, PlatformFile } from "../../ffi/types.ts";
import type { Gen } from "../core/gensync.ts";
import type { LockedMode } from "../options/open_mode.ts";
import type { OperationQueue } from "./operation_queue.ts";

/** A lock while it is held. */
export interface HeldLock {
  /** The path of the locked file. */
  readonly path: string;
  readonly file: PlatformFile;
  readonly mode: LockedMode;
  readonly locker: LockerSettings;
  /** The queue of the open file, if several objects share the file. */
  readonly operations?: OperationQueue;
  /** Whether it is exclusive. {@linkcode LockedFile.relock} changes it. */
  exclusive: boolean;
  /** Why the lock cannot be upgraded or downgraded, if it cannot. */
  readonly notRelockable?: string | undefined;
  /**
   * Called before the lock is upgraded or downgraded. Returns a function to
   * call afterwards, with whether the lock is lost.
   */
  onRelock?(): (lost: boolean) => void;
  /**
   * Whether programs usually lose its {@linkcode LockedFile} on purpose. No
   * lock is released then, but the loss of all others is reported.
   */
  readonly mayBeLost?: boolean;
  /** Returns whether the path still leads to the locked file. */
  isInPlace(): boolean | Promise<boolean>;
  /** Called once the lock is released. */
  onReleased: (() => void) | undefined;
  /** Releases the lock, even if it throws. Does nothing the second time. */
  release(): Gen<void>;
}
