/** `Lock`: a lock on a file, exclusive or shared. */

import { FileTarget } from "../target/file_target.ts";
import { FifoMutex } from "../wait/fifo_mutex.ts";
import { LockBase } from "./lock_base.ts";
import { atEdge } from "../core/stack.ts";
import { filePath } from "../options/validate.ts";
import { resolveLockOptions } from "../options/lock_options.ts";
import type { LockOptions } from "../options/lock_options.ts";

/**
 * A lock on a file. The kernel releases it when the process dies.
 *
 * It excludes every program that locks the same file with flock(2): other
 * `Lock`s of this or any other process on Deno, Bun and Node, Python's
 * portalocker, flock(1). The option `locker` selects another kind of lock. The
 * lock file stays when the lock is released: a process could otherwise lock the
 * removed file while another process locks a new one. If another program removes
 * or replaces it during a wait, the waiter opens the path again (see `replaced`
 * in {@linkcode LockOptions}). A holder learns it by `file.signal`.
 *
 * On Linux a waiter is woken as soon as the lock is released, no matter which
 * program held it, because inotify(7) reports that the file is closed.
 * Elsewhere, and in workers of Deno and Bun, it tries again, at least every
 * `checkInterval`.
 *
 * Tasks may share one `Lock`, which then is a mutex among them too. It is not
 * reentrant: a task that acquires it again waits for itself until it times out.
 * Waiters for one file in one thread are served in FIFO order, readers and
 * writers alike. Only `acquireSync` overtakes them, because none of them could
 * run before it returns.
 *
 * On a local file system, opening, locking and closing a file take
 * microseconds. The asynchronous methods do them on the calling thread. On a
 * network or FUSE file system, a thread of the pool opens and closes the file,
 * and only the attempt to lock stays on the calling thread.
 *
 * @example Hold the lock while a function runs
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * const lock = new Lock("report.lock");
 * await lock.run(async () => {
 *   // No other process runs this section now.
 * });
 * ```
 *
 * @example Append to the locked file
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * await using file = await new Lock("audit.log", { mode: "a+" }).acquire();
 * await file.writeText(`${new Date().toISOString()} started\n`);
 * console.log(await file.readText());
 * ```
 *
 * @example Do not wait
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * using file = new Lock("nightly.lock").tryAcquireSync();
 * if (file === null) console.log("another process holds the lock");
 * ```
 */
export class Lock extends LockBase {
  /** The path of the lock file, as the caller gave it. */
  readonly path: string;

  /**
   * Creates a lock. Does not open the file.
   *
   * @param path The file to lock. A relative path is resolved now, so that the
   * object means the same file when the current directory changes.
   * @param options How to open the file, and how long to wait.
   * @throws {TypeError} If an option or the path has the wrong type, or an
   * option is unknown.
   * @throws {RangeError} If an option or the path is out of range, or a mode
   * that truncates the file is combined with a shared lock.
   */
  constructor(path: string | URL, options?: LockOptions) {
    const { name, settings } = atEdge(Lock, () => {
      return { name: filePath(path), settings: resolveLockOptions(options) };
    });
    super(new FileTarget(name, settings), settings.wait, new FifoMutex());
    this.path = name;
  }
}
