/** Windows piles locks up where flock(2) exchanges them. */

/** winerror.h: what `LockFileEx` says where somebody else has a lock. */
export const ERROR_LOCK_VIOLATION = 33;
/**
 * winerror.h: what `UnlockFileEx` says where there is nothing to unlock. Wine
 * says ERROR_LOCK_VIOLATION there.
 */
export const ERROR_NOT_LOCKED = 158;

/** Higher piles than that nobody makes; what never ends is not waited for. */
const MAX_STACKED = 2 ** 16;

/** What one kind of file can do about its locks. */
export interface StackedLocks<File> {
  /** One attempt to put a lock on top of those there are. */
  push(file: File, exclusive: boolean): boolean;
  /** Takes one away, an exclusive one first; `false` if there was none. */
  pop(file: File): boolean;
}

/** Locks of which a file has one at a time. */
export interface ReplaceableLock<File> {
  tryLock(file: File, exclusive: boolean): boolean;
  unlock(file: File): void;
}

/**
 * Makes the latest lock of a file its only one.
 *
 * A shared lock may lie on an exclusive one of the same file, and the first
 * unlocking takes the exclusive one away (LockFileEx, remarks): so nobody comes
 * in between. An exclusive one goes on nothing, so what there is goes first,
 * and somebody may come in between; in vain, it is gone.
 */
export function replaceable<File>(
  stacked: StackedLocks<File>,
): ReplaceableLock<File> {
  function popAll(file: File): boolean {
    let dropped = 0;
    while (dropped < MAX_STACKED && stacked.pop(file)) dropped++;
    return dropped > 0;
  }

  return {
    tryLock(file, exclusive) {
      if (exclusive) {
        return stacked.push(file, true) ||
          popAll(file) && stacked.push(file, true);
      }
      if (!stacked.push(file, false)) return false;
      // One of them stays, whatever was there; of one alone none would.
      if (stacked.push(file, false)) stacked.pop(file);
      return true;
    },
    unlock: (file) => void popAll(file),
  };
}
