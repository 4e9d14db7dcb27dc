/** `TemporaryFileLock`: a lock file that exists only while it is held. */

import { FifoMutex } from "../wait/fifo_mutex.ts";
import { TemporaryFileTarget } from "../target/temporary_file_target.ts";
import { LockBase } from "./lock_base.ts";
import { atEdge } from "../core/stack.ts";
import { filePath } from "../options/validate.ts";
import { resolveTemporaryOptions } from "../options/lock_options.ts";
import type { TemporaryFileLockOptions } from "../options/lock_options.ts";

/**
 * A lock whose file exists only while the lock is held.
 *
 * The holder removes the file while it is still locked, and each process that
 * locks it checks that the path still names the locked file. So two processes
 * never hold two files of one name, whether they use this class or Python's
 * `TemporaryFileLock`. A plain {@linkcode Lock} on the same path does not check
 * this, so do not mix them.
 *
 * A shared lock leaves the file to the remaining readers when it is released.
 * Python's `TemporaryFileLock` does not: it removes the file while other readers
 * hold it, and a writer then locks a new one. So do not share a file with
 * Python's class unless all locks are exclusive.
 *
 * The file is truncated, unless the lock is shared. What other programs put at
 * the path stays as it is: `acquire` throws for a symbolic link (`ELOOP`), for a
 * file with a second hard link (`EMLINK`), and for a device or a FIFO
 * (`EEXIST`).
 *
 * The lock is released when the process or the thread ends: at its last
 * statement, by `process.exit()` or `Deno.exit()`, or because of an uncaught
 * error or a rejected promise. If a signal ends the process, the file stays,
 * unlocked, until the next holder removes it. It may also stay if another thread
 * ends this one: see `docs/platforms.md`. Two lines make a program exit at a
 * signal:
 *
 * ```ts
 * import process from "node:process";
 *
 * process.once("SIGINT", () => process.exit(130));
 * process.once("SIGTERM", () => process.exit(143));
 * ```
 *
 * `acquire` does not wait, unless the lock has a `timeout`, `failWhenLocked:
 * false`, or `flags` without `LOCK_NB`.
 *
 * @example Skip the work if another process does it
 * ```ts
 * import { AlreadyLocked, TemporaryFileLock } from "jsr:@x/portalock";
 *
 * try {
 *   await new TemporaryFileLock("import.lock").run(async () => {
 *     // import.lock exists while this function runs.
 *   });
 * } catch (error) {
 *   if (!(error instanceof AlreadyLocked)) throw error;
 *   console.log("another import is running");
 * }
 * ```
 */
export class TemporaryFileLock extends LockBase {
  /** The path of the lock file, as the caller gave it. */
  readonly path: string;

  /**
   * Creates a lock. Does not open the file.
   *
   * @param path The file that exists while the lock is held. A relative path
   * is resolved now.
   * @param options How to wait, and how to create the file.
   * @throws {TypeError} If an option or the path has the wrong type, or an
   * option is unknown.
   * @throws {RangeError} If an option or the path is out of range.
   */
  constructor(
    path: string | URL = ".lock",
    options?: TemporaryFileLockOptions,
  ) {
    const { name, settings } = atEdge(TemporaryFileLock, () => {
      return {
        name: filePath(path),
        settings: resolveTemporaryOptions(options),
      };
    });
    const target = new TemporaryFileTarget(name, settings);
    super(target, settings.wait, new FifoMutex());
    this.path = name;
  }
}
