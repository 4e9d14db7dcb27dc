/** The locks of a `Deno.FsFile`. */

import {
  ERROR_LOCK_VIOLATION,
  ERROR_NOT_LOCKED,
  replaceable,
} from "../windows/stacked_locks.ts";
import type { Lockable, SelfLockingFile } from "../types.ts";

/** How Rust ends the words of every error that has a number. */
const NUMBER = /\(os error (\d+)\)/;

/** What a file does about its locks. */
export type FileLocks = Pick<
  Lockable,
  "tryLock" | "lock" | "unlock" | "gapInUpgrade"
>;

/**
 * Makes what Deno's files do the same everywhere. On Windows Deno calls
 * `LockFileEx` for every byte from 0 on, and `UnlockFile` for the same bytes,
 * by way of the crate fs3 (ext/io/lib.rs of Deno, src/windows.rs of fs3-rs): so
 * the locks meet those of Python's portalocker, and pile up. There neither a
 * lock of somebody else nor nothing to unlock is `ErrorKind::WouldBlock` to
 * Rust, so Deno may throw either.
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
    };
  }
  const { tryLock, unlock } = replaceable<SelfLockingFile>({
    push: (file, exclusive) =>
      unless(ERROR_LOCK_VIOLATION, () => file.tryLockSync(exclusive)),
    pop: (file) =>
      unless(ERROR_NOT_LOCKED, () => {
        file.unlockSync();
        return true;
      }),
  });
  return {
    tryLock: (exclusive) => tryLock(file, exclusive),
    // Only what has no lock of its own can wait for those of others.
    lock(exclusive) {
      if (!tryLock(file, exclusive)) file.lockSync(exclusive);
    },
    unlock: () => unlock(file),
    gapInUpgrade: true,
  };
}

/** `false` if the system says so by this error. */
function unless(expected: number, call: () => boolean): boolean {
  try {
    return call();
  } catch (error) {
    const number = NUMBER.exec((error as Error).message)?.[1];
    if (Number(number) === expected) return false;
    throw error;
  }
}
