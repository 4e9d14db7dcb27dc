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
import type { PlatformFile } from "../../ffi/types.ts";
import type { Gen } from "../core/gensync.ts";
import { describeHolders } from "../core/holders.ts";
import { Busy } from "../wait/busy.ts";
import { isLongWait } from "../wait/deadline.ts";
import type { FileSettings } from "./file_target.ts";
import { readPidSync, removePid, writePid } from "./pid_record.ts";
import {
  HeldTemporaryFile,
  TemporaryFileTarget,
} from "./temporary_file_target.ts";

/** The lock file is named as the PID file, followed by this. */
const LOCK_SUFFIX = ".lock";

/** A {@linkcode TemporaryFileTarget} whose holder publishes its PID. */
export class PidFileTarget extends TemporaryFileTarget {
  readonly #pidFile: string;

  constructor(pidFile: string, settings: FileSettings) {
    super(pidFile + LOCK_SUFFIX, settings);
    this.#pidFile = pidFile;
  }

  override toHeld(file: PlatformFile, path: string): HeldTemporaryFile {
    return new HeldPidFile(this, file, path);
  }

  override *prepare(file: PlatformFile, path: string): Gen<void> {
    yield* super.prepare(file, path);
    writePid(pidFileOf(path), this.settings.creationMode);
  }

  override busy(): Busy {
    return new Busy((elapsed) => {
      let holders = platform().holders(this.path, isLongWait(elapsed));
      const pid = holders.length === 0 ? this.#storedPid() : null;
      if (pid !== null) holders = [{ pid, exclusive: true }];
      const reason = `already locked${describeHolders(holders)}`;
      return { reason, holderPid: holders[0]?.pid };
    });
  }

  #storedPid(): number | null {
    try {
      return readPidSync(this.#pidFile);
    } catch {
      return null;
    }
  }
}

class HeldPidFile extends HeldTemporaryFile {
  // The PID says that the program runs, so programs keep it until they exit.
  override readonly mayBeLost = true;

  protected override get files(): readonly string[] {
    return [this.absolutePath, pidFileOf(this.absolutePath)];
  }

  protected override remove(): void {
    const { file, absolutePath } = this;
    try {
      // A process that has replaced the lock file has written its own PID.
      if (file.isStillAt(absolutePath)) removePid(pidFileOf(absolutePath));
    } finally {
      super.remove();
    }
  }
}

/** Returns the path of the PID file that belongs to a lock file. */
function pidFileOf(lockFile: string): string {
  return lockFile.slice(0, -LOCK_SUFFIX.length);
}
