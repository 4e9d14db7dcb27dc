/**
 * `TemporaryFileTarget`: locks a file that exists only while it is locked.
 *
 * The holder unlinks the file while it still holds the lock. So a process that
 * has opened the file before may lock it afterwards, when its path names
 * another file or none. After each lock, the process checks that the file is
 * still at its path, and opens it again if not. Until then it does not even
 * truncate the file, because it may belong to another process. Two processes
 * cannot both hold the file at the path, because only a holder unlinks it.
 *
 * P holds the lock, Q acquires it (Q.1 open, Q.2 lock, Q.3 check):
 *
 * 1. `P.unlink Q.1`: Q creates a new file.
 * 2. `Q.1 P.unlink P.close Q.2 Q.3`: Q has locked a file without a name. The
 *    check fails, and Q opens the path again.
 * 3. The same, and R creates a new file before Q.3: the check fails, Q opens
 *    the path again and finds the file locked.
 * 4. `Q.1 Q.2 (waits) P.unlink P.close`: the close wakes Q. Then as in 2.
 * 5. P was killed: Q finds the file unlocked and in its place.
 * 6. P shares the lock with other readers: P first tries to lock the file
 *    exclusively. The attempt drops P's shared lock. It fails while another
 *    reader is left, and then P does not unlink. Of two readers that leave at
 *    once, exactly one attempt succeeds.
 * 7. Another program has replaced the file: P does not unlink it.
 *
 * Q may also find a file at the path that is not a lock file. X plants it, and
 * V is a file that must stay as it is:
 *
 * 8. `X.link(V) Q.1 Q.2 Q.3`: the file has two names. Q refuses it, and neither
 *    truncates it nor unlinks a name.
 * 9. `Q.1 Q.2 X.rename(V) Q.3`: as 3.
 * 10. `Q.1 Q.2 Q.3 X.link`: X gives the lock file a second name. Q unlinks the
 *    first one when it releases. The content stays under the second one.
 * 11. The path names a device or a FIFO: Q refuses it.
 * 12. Deno on Windows does not count names. There, Q does not truncate a file
 *    that has content. It unlinks this name, and opens the path again.
 *
 * @module
 */

import { platform } from "../../ffi/mod.ts";
import type { FileName, PlatformFile } from "../../ffi/types.ts";
import { formatSubject, LockException } from "../core/errors.ts";
import { runAsync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { openWithRetry } from "../core/windows_retry.ts";
import { sizeOf, unlockAndClose } from "../file/file_io.ts";
import type { HeldLock } from "../file/held_file.ts";
import type { Busy } from "../wait/busy.ts";
import type { Deadline } from "../wait/deadline.ts";
import { cleanUpInTime } from "../wait/in_time.ts";
import { releaseOnExit } from "./exit_cleanup.ts";
import { FileTarget, HeldFile, unlockAndWake } from "./file_target.ts";
import type { FileSettings } from "./file_target.ts";
import { MAX_REPLACED, replacedTooOften } from "./lock_target.ts";

/** A file that exists only while it is locked. */
export class TemporaryFileTarget extends FileTarget {
  constructor(path: string, settings: FileSettings) {
    const mode = { ...settings.mode, noFollow: true };
    super(path, { ...settings, mode });
  }

  override *acquire(deadline: Deadline): Gen<HeldLock | Busy> {
    let { contentions } = deadline;
    for (let replaced = 0; replaced < MAX_REPLACED; replaced++) {
      const file = yield* openWithRetry(() => this.open(deadline));
      if (!(yield* this.lock(file, deadline))) return this.busy();
      if (yield* this.whileHeld(file, this.checkName(file, deadline))) {
        return yield* this.finishInTime(this.toHeld(file), deadline);
      }
      yield* cleanUpInTime(unlockAndWake(file), deadline);
      // A file whose holder kept it for a while was not replaced in a row.
      if (deadline.contentions > contentions) replaced = -1;
      ({ contentions } = deadline);
    }
    throw replacedTooOften(this);
  }

  /** Makes the held lock of a file that is locked and at its path. */
  toHeld(file: PlatformFile): HeldTemporaryFile {
    return new HeldTemporaryFile(this, file);
  }

  /**
   * Removes the file if it is unlocked and empty: opening it may have created
   * it.
   */
  override async discardLateOpen(file: PlatformFile): Promise<void> {
    const path = this.absolutePath;
    try {
      if (!file.tryLock(true)) return;
      const name = file.nameAtSync(path, true);
      const created = name && !describeForeign(name) && sizeOf(file) === 0;
      if (created) file.unlink(path);
    } finally {
      await runAsync(unlockAndClose(file));
    }
  }

  /**
   * Returns whether the locked file is still at its path, and may be truncated.
   * Throws if it may not be removed. Closes the file if it throws.
   */
  *checkName(file: PlatformFile, deadline: Deadline): Gen<boolean> {
    try {
      const name = yield* this.nameAt(file, deadline);
      if (name === null) return false;
      rejectForeign(this.path, name);
      const { truncate } = this.settings.mode;
      if (name.nlink !== null || !truncate || sizeOf(file) === 0) return true;
      file.unlink(this.absolutePath);
      return false;
    } catch (error) {
      yield* cleanUpInTime(unlockAndWake(file), deadline);
      throw error;
    }
  }
}

/** Throws if the file may not belong to a lock, which would destroy it. */
export function rejectForeign(path: string, name: FileName): void {
  const foreign = describeForeign(name);
  if (foreign === undefined) return;
  const { reason, code } = foreign;
  throw new LockException(
    `Cannot lock ${formatSubject({ path })}: ${reason} (${code}), and this ` +
      "lock would remove it; use another path",
    { path, code },
  );
}

function describeForeign(
  { isFile, nlink }: FileName,
): { reason: string; code: string } | undefined {
  if (!isFile) return { reason: "it is not a regular file", code: "EEXIST" };
  if (nlink === null || nlink < 2) return undefined;
  return { reason: `it has ${nlink} hard links`, code: "EMLINK" };
}

/** A locked file that is removed with its lock. */
export class HeldTemporaryFile extends HeldFile {
  // A relock may lose the lock for a moment, and another process removes the
  // file then.
  override readonly notRelockable =
    "its file exists only while its lock is held";
  readonly #cancelExitCleanup: () => void;
  readonly #cancelUnlink: (() => void) | undefined;

  constructor(target: FileTarget, file: PlatformFile) {
    super(target, file);
    this.#cancelExitCleanup = releaseOnExit(this);
    this.#cancelUnlink = this.unlinkOnThreadExit(this.absolutePath);
  }

  /** Removes a file if the thread ends without running JavaScript. */
  protected unlinkOnThreadExit(path: string): (() => void) | undefined {
    const { fd } = this.file;
    // A shared lock may have other holders, which need the file.
    if (!this.exclusive || fd === null) return undefined;
    return platform().unlinkOnThreadExit?.(fd, path);
  }

  override *unlockFile(): Gen<void> {
    this.#cancelExitCleanup();
    this.#cancelUnlink?.();
    try {
      this.remove();
    } finally {
      yield* unlockAndWake(this.file);
    }
  }

  /** Unlinks the file, unless readers are left or the path names another. */
  protected remove(): void {
    const { file, absolutePath, exclusive } = this;
    const isLast = exclusive || isOnlyReader(file);
    if (isLast && file.isStillAt(absolutePath)) file.unlink(absolutePath);
  }
}

/**
 * Returns whether no other reader has the file locked. If so, the lock is
 * exclusive afterwards. On macOS a failed upgrade of flock(2) keeps the shared
 * lock, and two readers that leave at once would see each other. So the second
 * attempt comes after an unlock.
 */
function isOnlyReader(file: PlatformFile): boolean {
  if (file.tryLock(true)) return true;
  file.unlock();
  return file.tryLock(true);
}
