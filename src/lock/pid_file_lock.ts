/** `PidFileLock`: a lock whose holder writes its PID to a file. */

import { FifoMutex } from "../wait/fifo_mutex.ts";
import { PidFileTarget } from "../target/pid_file_target.ts";
import { absolute } from "../core/paths.ts";
import { readPid, readPidSync } from "../target/pid_record.ts";
import { LockBase } from "./lock_base.ts";
import { atEdge, atEdgeAsync } from "../core/stack.ts";
import { filePath } from "../options/validate.ts";
import { resolvePidOptions } from "../options/lock_options.ts";
import type { TemporaryFileLockOptions } from "../options/lock_options.ts";

/**
 * A lock for a program of which only one instance may run. The holder writes
 * its PID to a file that any process can read.
 *
 * The lock is on a second file, the path followed by `.lock`, which `acquire`
 * returns. A name that would have more than 255 bytes is shortened as that of
 * {@linkcode updateFile}. Both files exist only while the lock is held, with the names and
 * contents that Python's `PidFileLock` gives them. The PID file appears whole
 * after the lock is acquired, and is removed before the lock is released. After
 * a holder was killed, it contains the PID of a dead process until the next
 * holder writes its own: only the lock says which process runs.
 *
 * A PID file may only replace another PID file, or an empty file. If the path
 * names something else (a file with other content or a second hard link, a
 * FIFO), `acquire` throws a `LockException` with the code `"EEXIST"` or
 * `"EMLINK"`, and leaves it as it is.
 *
 * A program need not keep the lock object. The lock is held until it is
 * released or the process exits. If a signal ends the process, the files stay.
 * {@linkcode TemporaryFileLock} shows how to exit instead.
 *
 * `acquire` does not wait, unless the lock has a `timeout`, `failWhenLocked:
 * false`, or `flags` without `LOCK_NB`.
 *
 * @example Run only once
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
  /** The path of the PID file, as the caller gave it. */
  readonly path: string;
  readonly #absolutePath: string;

  /**
   * Creates a lock. Does not open the files.
   *
   * @param path The PID file. The lock file has the same name and `.lock`. A
   * relative path is resolved now.
   * @param options How to wait, and how to create the files.
   * @throws {TypeError} If an option or the path has the wrong type, or an
   * option is unknown.
   * @throws {RangeError} If an option or the path is out of range, or `flags`
   * contains `LOCK_SH`, or `shared` is `true`.
   */
  constructor(path: string | URL = ".pid", options?: TemporaryFileLockOptions) {
    const { name, settings } = atEdge(PidFileLock, () => {
      return { name: filePath(path), settings: resolvePidOptions(options) };
    });
    super(new PidFileTarget(name, settings), settings.wait, new FifoMutex());
    this.path = name;
    this.#absolutePath = absolute(name);
  }

  /**
   * Reads the PID file.
   *
   * @returns The PID in the file, or `null` if the file is missing or has other
   * content. The process may be dead: only the lock says which process runs.
   * @throws The runtime's own error if the file cannot be read.
   */
  readPid(): Promise<number | null> {
    return atEdgeAsync(
      PidFileLock.prototype.readPid,
      () => readPid(this.#absolutePath),
    );
  }

  /**
   * {@linkcode PidFileLock.readPid}, blocking the thread.
   *
   * @returns What {@linkcode PidFileLock.readPid} returns.
   * @throws What {@linkcode PidFileLock.readPid} throws.
   */
  readPidSync(): number | null {
    return atEdge(
      PidFileLock.prototype.readPidSync,
      () => readPidSync(this.#absolutePath),
    );
  }
}
