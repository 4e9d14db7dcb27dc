/** `TemporaryFileLock`: a lock file that exists only while it is held. */

import { FifoMutex } from "../wait/fifo_mutex.ts";
import { TemporaryFileTarget } from "../target/temporary_file_target.ts";
import { LockBase } from "./lock_base.ts";
import { filePath } from "../options/validate.ts";
import { resolveTemporaryOptions } from "../options/lock_options.ts";
import type { TemporaryFileLockOptions } from "../options/lock_options.ts";

/**
 * A lock whose file exists only while somebody holds it.
 *
 * The file is removed while it is still locked, and whoever locks it checks
 * that its path still names the file that was locked. So two never hold two
 * files of one name, whether they use this class or Python's
 * `TemporaryFileLock`; a plain {@linkcode Lock} on the same path does not check
 * and must not be mixed in.
 *
 * The file is emptied, unless the lock is shared. A symbolic link in its place
 * is refused, since anybody may have put it into a shared directory. A lock
 * that is still held when the process or the thread exits is released. Where
 * there is no `exit` event (the process was killed, the thread terminated, or
 * an error was not caught on Deno) the file stays, unlocked, until somebody
 * else has held it.
 *
 * It fails at once when the lock is held elsewhere, unless a `timeout`,
 * `failWhenLocked: false` or `flags` without `LOCK_NB` are given.
 *
 * @example
 * ```ts
 * import { AlreadyLocked, TemporaryFileLock } from "jsr:@x/portalock";
 *
 * try {
 *   await new TemporaryFileLock("import.lock").run(async () => {
 *     // import.lock exists, and nobody else is here.
 *   });
 * } catch (error) {
 *   if (!(error instanceof AlreadyLocked)) throw error;
 *   console.log("another import is running");
 * }
 * ```
 */
export class TemporaryFileLock extends LockBase {
  /** The path of the lock file, as it was given. */
  readonly path: string;

  /**
   * Makes a lock. Nothing is opened yet.
   *
   * @param path The file that is to exist while the lock is held.
   * @param options How to wait, and how to make the file.
   * @throws {TypeError} If an option or the path is of the wrong type, or the
   * option unknown.
   * @throws {RangeError} If an option or the path has an impossible value.
   */
  constructor(
    path: string | URL = ".lock",
    options?: TemporaryFileLockOptions,
  ) {
    const name = filePath(path);
    const settings = resolveTemporaryOptions(options);
    const target = new TemporaryFileTarget(name, settings);
    super(target, settings.wait, new FifoMutex());
    this.path = name;
  }
}
