/** The locks of a `Deno.FsFile`. */

import {
  ERROR_LOCK_VIOLATION,
  ERROR_NOT_LOCKED,
  replaceable,
} from "../windows/stacked_locks.ts";
import { FLOCK } from "../types.ts";
import type { Lockable, LockIdentity, SelfLockingFile } from "../types.ts";

/** How Rust ends the message of every error that has a number. */
const OS_ERROR = /\(os error (\d+)\)/;

/** The part of {@linkcode Lockable} that a `Deno.FsFile` implements. */
export type FileLocks = Pick<
  Lockable,
  "tryLock" | "lock" | "unlock" | "upgradeIsAtomic" | "isLocked"
>;

/** Returns the {@linkcode Lockable.identity} of a `Deno.FsFile`. */
export function denoIdentity(file: SelfLockingFile): LockIdentity | null {
  const { dev, ino = null } = file.statSync?.() ?? {};
  return ino === null
    ? null
    : { file: `${dev}:${ino}`, open: file, locker: FLOCK };
}

/**
 * Gives the locks of Deno's files the same behavior on every system.
 *
 * On Windows, Deno calls `LockFileEx` for every byte from 0 on, and
 * `UnlockFile` for the same bytes. It does so through the crate fs3: see
 * ext/io/lib.rs of Deno, and src/windows.rs of fs3-rs. So its locks conflict with those of Python's
 * portalocker, and they stack. For Rust, both a lock of another holder and an
 * unlock without a lock are `ErrorKind::WouldBlock`, so Deno may throw either.
 */
export function denoLocks(
  file: SelfLockingFile,
  onWindows: boolean,
): FileLocks {
  if (!onWindows) {
    return {
      tryLock: (exclusive) => file.tryLockSync(exclusive),
      lock: (exclusive) => file.lockSync(exclusive),
      unlock: () => file.unlockSync(),
      upgradeIsAtomic: true,
      isLocked: () => null,
    };
  }
  const { tryLock, unlock } = replaceable<SelfLockingFile>({
    push: (file, exclusive) =>
      falseOnError(ERROR_LOCK_VIOLATION, () => file.tryLockSync(exclusive)),
    pop: (file) =>
      falseOnError(ERROR_NOT_LOCKED, () => {
        file.unlockSync();
        return true;
      }),
  });
  return {
    tryLock: (exclusive) => tryLock(file, exclusive),
    lock(exclusive) {
      // A failed tryLock() leaves the file without a lock. A blocking call that
      // held one would wait for itself.
      if (!tryLock(file, exclusive)) file.lockSync(exclusive);
    },
    unlock: () => unlock(file),
    upgradeIsAtomic: false,
    isLocked: () => null,
  };
}

/** Returns `false` if the call throws the Windows error `expected`. */
function falseOnError(expected: number, call: () => boolean): boolean {
  try {
    return call();
  } catch (error) {
    const number = OS_ERROR.exec((error as Error).message)?.[1];
    if (Number(number) === expected) return false;
    throw error;
  }
}
