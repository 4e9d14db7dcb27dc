/**
 * Makes locks of Windows replace each other as flock(2) does. Windows keeps all
 * locks of a handle, as a stack.
 */

/** winerror.h: `LockFileEx` fails with it if another holder has a lock. */
export const ERROR_LOCK_VIOLATION = 33;
/**
 * winerror.h: `UnlockFileEx` fails with it if the range is not locked. Wine
 * uses ERROR_LOCK_VIOLATION instead.
 */
export const ERROR_NOT_LOCKED = 158;

/** Ends an unlock loop that would not end by itself. */
const MAX_STACKED = 2 ** 16;

/** The locks of Windows on one kind of file. */
export interface StackedLocks<File> {
  /** Attempts once to add a lock to those that the file has. */
  push(file: File, exclusive: boolean): boolean;
  /**
   * Removes one lock, an exclusive one first. Returns `false` if the file is
   * not locked.
   */
  pop(file: File): boolean;
}

/** Locks of which a file has at most one. */
export interface ReplaceableLock<File> {
  tryLock(file: File, exclusive: boolean): boolean;
  unlock(file: File): void;
}

/**
 * Makes a new lock of a file replace the previous one.
 *
 * A handle can add a shared lock to its exclusive one, and the first unlock
 * then removes the exclusive one. So a downgrade is atomic. See the remarks of
 * https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-lockfileex
 *
 * A handle cannot add an exclusive lock to any lock. So an upgrade unlocks
 * first, and another process may acquire the lock before it. If the upgrade
 * then fails, the previous lock is lost.
 *
 * This function does not remember which locks exist, because descriptors are
 * reused and may belong to the caller.
 */
export function replaceable<File>(
  stacked: StackedLocks<File>,
): ReplaceableLock<File> {
  function popAll(file: File): boolean {
    let popped = 0;
    while (popped < MAX_STACKED && stacked.pop(file)) popped++;
    return popped > 0;
  }

  return {
    tryLock(file, exclusive) {
      if (exclusive) {
        return stacked.push(file, true) ||
          popAll(file) && stacked.push(file, true);
      }
      if (!stacked.push(file, false)) return false;
      // Of two shared locks one is left after the pop, even if the pop removed
      // one of them and not an exclusive one. A single one would be lost.
      if (stacked.push(file, false)) stacked.pop(file);
      return true;
    },
    unlock: (file) => void popAll(file),
  };
}
