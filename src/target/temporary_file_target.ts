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
 * @module
 */

import { platform } from "../../ffi/mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { runAsync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { absolute } from "../core/paths.ts";
import { openWithRetry } from "../core/windows_retry.ts";
import { unlockAndClose } from "../file/file_io.ts";
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
    // The current directory may change before the file is removed.
    const path = absolute(this.path);
    let { contentions } = deadline;
    for (let replaced = 0; replaced < MAX_REPLACED; replaced++) {
      const file = yield* openWithRetry(() => this.open(deadline, path));
      if (!(yield* this.lock(file, deadline))) return this.busy();
      if (yield* this.checkStillAt(file, path, deadline)) {
        const held = this.toHeld(file, path);
        return yield* this.finishInTime(held, deadline, path);
      }
      yield* cleanUpInTime(unlockAndWake(file), deadline);
      // A file whose holder kept it for a while was not replaced in a row.
      if (deadline.contentions > contentions) replaced = -1;
      ({ contentions } = deadline);
    }
    throw replacedTooOften(this);
  }

  /** Makes the held lock of a file that is locked and at its path. */
  toHeld(file: PlatformFile, path: string): HeldTemporaryFile {
    return new HeldTemporaryFile(this, file, path);
  }

  /** Removes the file if it is unlocked: opening it may have created it. */
  override async discardLateOpen(
    file: PlatformFile,
    path: string,
  ): Promise<void> {
    try {
      if (file.tryLock(true) && file.isStillAt(path)) file.unlink(path);
    } finally {
      await runAsync(unlockAndClose(file));
    }
  }

  /** {@linkcode FileTarget.isAt}. Closes the file if that fails. */
  *checkStillAt(
    file: PlatformFile,
    path: string,
    deadline: Deadline,
  ): Gen<boolean> {
    try {
      return yield* this.isAt(file, path, deadline);
    } catch (error) {
      yield* cleanUpInTime(unlockAndWake(file), deadline);
      throw error;
    }
  }
}

/** A locked file that is removed with its lock. */
export class HeldTemporaryFile extends HeldFile {
  // A relock may lose the lock for a moment, and another process removes the
  // file then.
  override readonly notRelockable =
    "its file exists only while its lock is held";
  /** The absolute path, whatever the current directory is. */
  protected readonly absolutePath: string;
  readonly #cancelExitCleanup: () => void;
  readonly #cancelUnlink: (() => void) | undefined;

  constructor(target: FileTarget, file: PlatformFile, absolutePath: string) {
    super(target, file, absolutePath);
    this.absolutePath = absolutePath;
    this.#cancelExitCleanup = releaseOnExit(this);
    // A shared lock may have other holders, which need the file.
    const { fd } = file;
    if (this.exclusive && fd !== null) {
      this.#cancelUnlink = platform().unlinkOnThreadExit?.(fd, this.files);
    }
  }

  /** The files that exist only while the lock is held. */
  protected get files(): readonly string[] {
    return [this.absolutePath];
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
