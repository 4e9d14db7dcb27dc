/** The claim on a PID file, locked through a second file beside it. */

import { platform } from "../../ffi/mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { describeHolders } from "../core/holders.ts";
import type { Gen } from "../core/gensync.ts";
import { isLongWait } from "../wait/deadline.ts";
import { Busy } from "./lock_target.ts";
import type { FileSettings } from "./file_target.ts";
import { readPidSync, removePid, writePid } from "./pid_record.ts";
import {
  HeldTemporaryFile,
  TemporaryFileTarget,
} from "./temporary_file_target.ts";

/** Where Windows locks a file nobody else can read it, so two are needed. */
const LOCK_SUFFIX = ".lock";

/** A {@linkcode TemporaryFileTarget} whose holder tells its PID. */
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
    return new Busy(({ elapsed: waited }) => {
      let holders = platform().holders(this.path, isLongWait(waited));
      const pid = holders.length === 0 ? this.#storedPid() : null;
      if (pid !== null) holders = [{ pid, mode: "exclusive" }];
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
  // It tells that the process runs, whoever has forgotten the lock.
  override readonly keepUntilExit = true;

  protected override remove(): void {
    const { file, place } = this;
    try {
      // Somebody who replaced the lock file has put a PID there, too.
      if (file.isStillAt(place)) removePid(pidFileOf(place));
    } finally {
      super.remove();
    }
  }
}

/** The PID file that a lock file stands beside. */
function pidFileOf(path: string): string {
  return path.slice(0, -LOCK_SUFFIX.length);
}
