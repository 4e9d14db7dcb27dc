/** The claim on a PID file, locked through a second file beside it. */

import { native } from "../../ffi/mod.ts";
import type { NativeFile } from "../../ffi/types.ts";
import { by } from "../core/holders.ts";
import type { Recipe } from "../core/gensync.ts";
import { worthTelling } from "../wait/deadline.ts";
import { Refused } from "./lock_target.ts";
import type { FileSettings } from "./file_target.ts";
import { publishPid, removePid, storedPidSync } from "./pid_record.ts";
import { TemporaryClaim, TemporaryHold } from "./temporary_file_target.ts";

/** Where Windows locks a file nobody else can read it, so two are needed. */
const LOCK_SUFFIX = ".lock";

/** A {@linkcode TemporaryClaim} whose holder tells its PID. */
export class PidClaim extends TemporaryClaim {
  readonly #pidFile: string;

  constructor(pidFile: string, settings: FileSettings) {
    super(pidFile + LOCK_SUFFIX, settings);
    this.#pidFile = pidFile;
  }

  override hold(file: NativeFile, path: string): TemporaryHold {
    return new PidHold(this, file, path);
  }

  override *prepare(file: NativeFile, path: string): Recipe<void> {
    yield* super.prepare(file, path);
    publishPid(pidFileOf(path), this.settings.creationMode);
  }

  override refused(): Refused {
    return new Refused(({ waited }) => {
      let holders = native().holders(this.path, worthTelling(waited));
      const pid = holders.length === 0 ? this.#storedPid() : null;
      if (pid !== null) holders = [{ pid, mode: "exclusive" }];
      const reason = `already locked${by(holders)}`;
      return { reason, holderPid: holders[0]?.pid };
    });
  }

  #storedPid(): number | null {
    try {
      return storedPidSync(this.#pidFile);
    } catch {
      return null;
    }
  }
}

class PidHold extends TemporaryHold {
  // It tells that the process runs, whoever has forgotten the lock.
  override readonly lasting = true;

  protected override remove(): void {
    const { file, place } = this;
    try {
      // Somebody who replaced the lock file has put a PID there, too.
      if (file.isAt(place)) removePid(pidFileOf(place));
    } finally {
      super.remove();
    }
  }
}

/** The PID file that a lock file stands beside. */
function pidFileOf(path: string): string {
  return path.slice(0, -LOCK_SUFFIX.length);
}
