/** `PidFileLock`: a lock whose holder leaves its PID in a file. */

import { FifoMutex } from "../wait/fifo_mutex.ts";
import { PidFileTarget } from "../target/pid_file_target.ts";
import { readPid, readPidSync } from "../target/pid_record.ts";
import { LockBase } from "./lock_base.ts";
import { filePath } from "../options/validate.ts";
import { resolvePidOptions } from "../options/lock_options.ts";
import type { TemporaryFileLockOptions } from "../options/lock_options.ts";

/**
 * A lock for programs of which only one may run: whoever holds it leaves its
 * PID in a file for everybody to read.
 *
 * The lock itself sits on a second file, the path and `.lock`; this is the file
 * that `acquire` returns. Both exist only while the lock is held, and both have
 * the same names and contents as those of Python's `PidFileLock`. The PID file
 * appears whole, and only once the lock is held; it is removed before the lock
 * is released. After a holder was killed it names a process that is gone, until
 * somebody else has held the lock: the lock tells who runs, not the file.
 *
 * The lock may be forgotten: it is held until it is released, or else until the
 * process exits.
 *
 * It fails at once when the lock is held elsewhere, unless a `timeout`,
 * `failWhenLocked: false` or `flags` without `LOCK_NB` are given.
 *
 * @example
 * ```ts
 * import { AlreadyLocked, PidFileLock } from "jsr:@x/portalock";
 *
 * const lock = new PidFileLock("server.pid");
 * try {
 *   await lock.acquire();
 * } catch (error) {
 *   if (!(error instanceof AlreadyLocked)) throw error;
 *   console.log(`already running as process ${error.holderPid}`);
 * }
 * console.log(await lock.readPid());
 * await lock.release();
 * ```
 */
export class PidFileLock extends LockBase {
  /** The path of the PID file, as it was given. */
  readonly path: string;

  /**
   * Makes a lock. Nothing is opened yet.
   *
   * @param path The PID file; the lock file is called so with `.lock` added.
   * @param options How to wait, and how to make the files.
   * @throws {TypeError} If an option or the path is of the wrong type, or the
   * option unknown.
   * @throws {RangeError} If an option or the path has an impossible value, or
   * `flags` share the lock.
   */
  constructor(path: string | URL = ".pid", options?: TemporaryFileLockOptions) {
    const name = filePath(path);
    const settings = resolvePidOptions(options);
    super(new PidFileTarget(name, settings), settings.wait, new FifoMutex());
    this.path = name;
  }

  /**
   * Reads the PID file.
   *
   * @returns The number in it; `null` if there is no file or something else in
   * it. It need not be that of a running process: the lock tells who runs.
   * @throws The runtime's own error if the file cannot be read.
   */
  async readPid(): Promise<number | null> {
    return await readPid(this.path);
  }

  /** {@linkcode PidFileLock.readPid}, blocking the thread. */
  readPidSync(): number | null {
    return readPidSync(this.path);
  }
}
