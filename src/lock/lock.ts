/** `Lock`: a file that one holder, or several readers, have at a time. */

import { FileTarget } from "../target/file_target.ts";
import { FifoMutex } from "../wait/fifo_mutex.ts";
import { LockBase } from "./lock_base.ts";
import { filePath } from "../options/validate.ts";
import { resolveLockOptions } from "../options/lock_options.ts";
import type { LockOptions } from "../options/lock_options.ts";

/**
 * A lock on a file, which the kernel itself releases when its holder dies.
 *
 * It excludes everybody who locks the same file with flock(2): other `Lock`s
 * of this or any other process on Deno, Bun and Node, Python's portalocker,
 * flock(1). The option `locker` takes another of the system's locks instead.
 * The lock file stays when the lock is released: removing it would let two
 * holders in.
 *
 * On Linux a waiter is woken by the release, whoever held the lock (inotify(7)
 * tells when the file is closed). Elsewhere, and in workers of Deno and Bun, it
 * attempts again and again, at least every `checkInterval`.
 *
 * One instance may be shared by many tasks and is a mutex among them too; a
 * task that waits for a lock that it holds itself through the same instance
 * waits until its timeout. All who wait for one file in a thread are served
 * first come, first served, writers and readers alike. Only `acquireSync` goes
 * ahead: nobody else could move before it returns.
 *
 * On file systems of this machine, opening, locking and closing take
 * microseconds and happen on the calling thread, also in the asynchronous
 * methods. On others (NFS, FUSE) those let a pool thread open and close the
 * file; only the attempt to lock, one request to the server, stays.
 *
 * @example Hold the lock while a function runs
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * const lock = new Lock("report.lock");
 * await lock.run(async () => {
 *   // Nobody else is here.
 * });
 * ```
 *
 * @example Work on the locked file itself
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * await using file = await new Lock("visits.txt", { mode: "a+" }).acquire();
 * const visits = Number(await file.readText()) + 1;
 * await file.replaceContents(String(visits));
 * ```
 *
 * @example Do not wait
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * using file = new Lock("nightly.lock").tryAcquireSync();
 * if (file === null) console.log("Somebody else is at it");
 * ```
 */
export class Lock extends LockBase {
  /** The path of the lock file, as it was given. */
  readonly path: string;

  /**
   * Makes a lock. Nothing is opened yet.
   *
   * @param path The file to lock; a relative one counts from the directory
   * that is current at each `acquire`.
   * @param options How to open the file, and how long to wait.
   * @throws {TypeError} If an option or the path is of the wrong type, or the
   * option unknown.
   * @throws {RangeError} If an option or the path has an impossible value, or
   * `LOCK_SH` comes with a mode that empties the file.
   */
  constructor(path: string | URL, options?: LockOptions) {
    const name = filePath(path);
    const settings = resolveLockOptions(options);
    super(new FileTarget(name, settings), settings.wait, new FifoMutex());
    this.path = name;
  }
}
