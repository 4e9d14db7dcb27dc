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
import { absolute, siblingPath } from "../core/paths.ts";
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

/** See {@linkcode siblingPath}. */
const LOCK_SUFFIX = ".lock";

/** A {@linkcode TemporaryFileTarget} whose holder publishes its PID. */
export class PidFileTarget extends TemporaryFileTarget {
  /** The PID file, as the caller gave it. */
  readonly #name: string;
  /** The absolute path of the PID file. */
  readonly #pidFile: string;

  constructor(pidFile: string, settings: FileSettings) {
    super(siblingPath(pidFile, LOCK_SUFFIX), settings);
    this.#name = pidFile;
    this.#pidFile = absolute(pidFile);
  }

  override toHeld(file: PlatformFile): HeldTemporaryFile {
    return new HeldPidFile(this, file);
  }

  /** Publishes the PID last, when nothing else can fail. */
  override *prepare(held: HeldFile): Gen<void> {
    const [path, name] = [this.#pidFile, this.#name];
    checkReplaceable(path, name);
    const isLeft = checkReplaceable(temporaryOf(path), temporaryOf(name));
    yield* super.prepare(held);
    const written = writePid(path, this.settings.creationMode, isLeft);
    if (held instanceof HeldPidFile) held.setWritten(written);
  }

  /** Finds the holder in the PID file if the system does not report holders. */
  override findHolders(search: boolean): LockHolder[] {
    const holders = platform().holders(this.absolutePath, search, this.locker);
    if (holders !== null) return holders;
    const pid = readLivingPid(this.#pidFile);
    return pid === null ? [] : [{ pid, exclusive: true }];
  }
}

class HeldPidFile extends HeldTemporaryFile {
  // The PID says that the program runs, so programs keep it until they exit.
  override readonly mayBeLost = true;
  #written: WrittenPid | undefined;
  #cancelUnlink: (() => void) | undefined;

  /** Until it is written, the PID file may belong to another program. */
  setWritten(written: WrittenPid): void {
    this.#written = written;
    this.#cancelUnlink = this.unlinkOnThreadExit(written.path);
  }

  protected override remove(): void {
    const { file, absolutePath } = this;
    const written = this.#written;
    this.#cancelUnlink?.();
    try {
      // A process that has replaced the lock file has written its own PID.
      if (written && file.isStillAt(absolutePath)) removePid(written);
    } finally {
      super.remove();
    }
  }
}
