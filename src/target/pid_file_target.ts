/**
 * `PidFileTarget`: a PID file, with a lock file beside it.
 *
 * On Windows other processes cannot read a locked file, so the PID needs a file
 * of its own. The thread that holds the lock writes it, also in asynchronous
 * methods: a thread of the pool could rename it into place after the holder's
 * thread, and with it the lock, is gone.
 *
 * @module
 */

import { platform } from "../../ffi/mod.ts";
import type { LockHolder, PlatformFile } from "../../ffi/types.ts";
import type { Gen } from "../core/gensync.ts";
import type { FileSettings, HeldFile } from "./file_target.ts";
import {
  checkReplaceable,
  readLivingPid,
  removePid,
  temporaryOf,
  writePid,
} from "./pid_record.ts";
import type { WrittenPid } from "./pid_record.ts";
import {
  HeldTemporaryFile,
  TemporaryFileTarget,
} from "./temporary_file_target.ts";

/** The lock file is named as the PID file, followed by this. */
const LOCK_SUFFIX = ".lock";

/** A {@linkcode TemporaryFileTarget} whose holder publishes its PID. */
export class PidFileTarget extends TemporaryFileTarget {
  constructor(pidFile: string, settings: FileSettings) {
    super(pidFile + LOCK_SUFFIX, settings);
  }

  override toHeld(file: PlatformFile): HeldTemporaryFile {
    return new HeldPidFile(this, file);
  }

  /** Publishes the PID last, when nothing else can fail. */
  override *prepare(held: HeldFile): Gen<void> {
    const name = pidFileOf(this.path);
    const path = pidFileOf(this.absolutePath);
    checkReplaceable(path, name);
    const isLeft = checkReplaceable(temporaryOf(path), temporaryOf(name));
    yield* super.prepare(held);
    const written = writePid(path, this.settings.creationMode, isLeft);
    if (held instanceof HeldPidFile) held.written = written;
  }

  /** Finds the holder in the PID file if the system does not report holders. */
  override findHolders(search: boolean): LockHolder[] {
    const holders = platform().holders(this.absolutePath, search, this.locker);
    if (holders !== null) return holders;
    const pid = readLivingPid(pidFileOf(this.absolutePath));
    return pid === null ? [] : [{ pid, exclusive: true }];
  }
}

class HeldPidFile extends HeldTemporaryFile {
  // The PID says that the program runs, so programs keep it until they exit.
  override readonly mayBeLost = true;
  written: WrittenPid | undefined;

  protected override get files(): readonly string[] {
    return [this.absolutePath, pidFileOf(this.absolutePath)];
  }

  protected override remove(): void {
    const { file, absolutePath, written } = this;
    try {
      // A process that has replaced the lock file has written its own PID.
      if (written && file.isStillAt(absolutePath)) removePid(written);
    } finally {
      super.remove();
    }
  }
}

/** Returns the path of the PID file that belongs to a lock file. */
function pidFileOf(lockFile: string): string {
  return lockFile.slice(0, -LOCK_SUFFIX.length);
}
