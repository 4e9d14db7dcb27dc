/** `LockedFile`: the open, locked file that `acquire` returns. */

import { formatSubject, LockException } from "../core/errors.ts";
import type { LockFlags } from "../options/flags.ts";
import { InFlight } from "./in_flight.ts";
import { LossWatch } from "./loss_watch.ts";
import { OpenFile, PENDING } from "./open_file.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import { atEdge, atEdgeAsync } from "../core/stack.ts";
import { op, runAsync, runSync, throwAfter } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { Relock } from "./relock.ts";
import type { RelockInit } from "./relock.ts";

/** What a {@linkcode LockedFile} needs. */
export interface LockedFileInit extends RelockInit {
  /** Ends the acquisition: unlocks and closes the file. */
  release: () => Gen<void>;
}

const CLOSED = "it is closed and its lock released";
const RELOCK_LOST = "relock() lost its lock";

/**
 * An open, locked file. It has the methods of `Deno.FsFile`, on every runtime.
 *
 * Reads and writes start at the position of the file and move it. In the modes
 * `"a"` and `"a+"`, every write goes to the end of the file.
 *
 * Closing or disposing the file **releases the lock**. Nothing else does: the
 * end of a stream leaves the file open and locked. Operations that are in
 * progress finish first, while the lock is held. Afterwards, every operation
 * throws {@linkcode LockException} with the code `"EBADF"`.
 *
 * To change data, {@linkcode updateFile} is safer than to write it here: it also
 * survives a crash.
 *
 * @example Append to a file
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * await using file = await new Lock("audit.log", { mode: "a+" }).acquire();
 * await file.writeText(`${new Date().toISOString()} started\n`);
 * console.log(await file.readText());
 * ```
 */
export class LockedFile extends OpenFile
  implements AsyncDisposable, Disposable {
  readonly #inFlight: InFlight;
  readonly #init: LockedFileInit;
  /** Set by the first {@linkcode LockedFile.signal}. */
  #loss: LossWatch | undefined;
  /** Set by the first {@linkcode LockedFile.relock}. */
  #change: Relock | undefined;

  /** @ignore Called by the lock classes. */
  constructor(init: LockedFileInit) {
    const { path, file, mode, locker, operations } = init.held;
    const inFlight = new InFlight(operations);
    super({ path, file, mode, range: locker.range, inFlight });
    this.#inFlight = inFlight;
    this.#init = init;
  }

  /** @ignore Whether the file is closed, or is being closed. */
  get closing(): boolean {
    return this.#inFlight.closedReason !== undefined;
  }

  /**
   * A signal that aborts when this lock no longer protects its path: the file
   * was removed or replaced, so that another process can lock the new one. The
   * reason is a {@linkcode LockLostError}. The lock on the old file stays held
   * until it is released, which does not abort the signal.
   *
   * Linux reports it, within 100 ms on Deno and Bun. The first use of this
   * property starts to watch the file, which does not keep the process alive. A
   * directory above the file that is renamed is not reported. The signal never
   * aborts on other systems, on Deno without `--allow-ffi`, in workers of Deno
   * and Bun, for changes that another machine makes on a network file system,
   * and if the limit of inotify(7) watches is reached.
   *
   * @example Stop when the lock file is removed
   * ```ts
   * import { Lock } from "jsr:@x/portalock";
   *
   * await new Lock("leader.lock").run(async (file) => {
   *   file.signal.throwIfAborted();
   *   // Pass the signal on: await fetch(url, { signal: file.signal });
   * });
   * ```
   */
  get signal(): AbortSignal {
    const { held } = this.#init;
    return (this.#loss ??= new LossWatch(held, !this.closing)).signal;
  }

  /**
   * Upgrades a shared lock to an exclusive one, or downgrades an exclusive lock
   * to a shared one.
   *
   * With the lockers `"ofd"` and `"lockf"`, the old lock is held until the new
   * one is acquired. Two readers that both upgrade wait for each other until
   * one of them times out. With `"flock"`, the old lock is kept only if the new
   * one is acquired without a wait. Otherwise the system drops it: before the
   * wait ends, another process may acquire the lock, change the file and
   * release the lock. The result `false` reports this. Operations that were
   * called before finish first, and later ones wait until the promise settles.
   * An `RLock` can be relocked while it is acquired once.
   *
   * If the wait times out, the old lock is held as before. With `"flock"`, it
   * takes up to `checkInterval` to acquire it again. If that fails too, the file
   * is closed, and the error says so. Closing the file ends the wait.
   *
   * @example Upgrade only if the file must be written
   * ```ts
   * import { Lock, LOCK_EX } from "jsr:@x/portalock";
   *
   * const lock = new Lock("settings.json", { mode: "a+", shared: true });
   * await using file = await lock.acquire();
   * let settings = await file.readText();
   * if (settings === "") {
   *   const atomic = await file.relock(LOCK_EX);
   *   // Another process may have written them in between.
   *   if (!atomic) settings = await file.readText();
   *   if (settings === "") await file.writeText("{}");
   * }
   * ```
   *
   * @param flags `LOCK_EX` or `LOCK_SH`. With `LOCK_NB`, makes one attempt.
   * @param options Options that differ from those of the lock.
   * @returns Whether the change was atomic: no other holder can have had an
   * exclusive lock in between.
   * @throws {AlreadyLocked} If another holder is in the way when the wait times
   * out.
   * @throws {LockException} If the file is closed, another relock is in
   * progress, or the system refuses the lock.
   * @throws {RangeError} If the mode of the file does not allow the lock type,
   * or an option is out of range.
   * @throws The reason of `signal` if it is aborted.
   */
  relock(flags: LockFlags, options?: AcquireOptions): Promise<boolean> {
    return atEdgeAsync(LockedFile.prototype.relock, async () => {
      const relock = this.#relocking();
      const change = relock.begin(flags, options);
      try {
        return await this.#inFlight.run(() => this.#relock(relock, change));
      } catch (error) {
        if (!relock.lost) throw error;
        return await runAsync(this.#endAfter(error));
      }
    });
  }

  /** {@linkcode LockedFile.relock}, blocking the thread. */
  relockSync(flags: LockFlags, options?: AcquireOptions): boolean {
    return atEdge(LockedFile.prototype.relockSync, () => {
      const relock = this.#relocking();
      if (this.#inFlight.fileIsBusy) throw this.#relockError(PENDING, "EBUSY");
      try {
        return runSync(relock.begin(flags, options));
      } catch (error) {
        this.#loseIf(relock.lost);
        if (!relock.lost) throw error;
        return runSync(this.#endAfter(error));
      }
    });
  }

  /**
   * Releases the lock and closes the file, after the operations that are in
   * progress. Does nothing if the file is closed.
   *
   * @throws {LockException} If the system refuses and the lock was made with
   * `throwOnReleaseError`. The lock is released anyway.
   */
  close(): Promise<void> {
    return atEdgeAsync(LockedFile.prototype.close, () => this.end());
  }

  /**
   * {@linkcode LockedFile.close}, blocking the thread. Asynchronous operations
   * that are in progress cannot finish meanwhile, so then the lock is released
   * after them.
   *
   * @throws What {@linkcode LockedFile.close} throws.
   */
  closeSync(): void {
    return atEdge(LockedFile.prototype.closeSync, () => this.endSync());
  }

  /** {@linkcode LockedFile.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return atEdgeAsync(
      LockedFile.prototype[Symbol.asyncDispose],
      () => this.end(),
    );
  }

  /** {@linkcode LockedFile.closeSync}. */
  [Symbol.dispose](): void {
    return atEdge(LockedFile.prototype[Symbol.dispose], () => this.endSync());
  }

  /** @ignore {@linkcode LockedFile.close}, for other public methods. */
  end(): Promise<void> | void {
    this.#change?.close();
    return this.#inFlight.drainAndClose(CLOSED, this.#release);
  }

  /** @ignore {@linkcode LockedFile.closeSync}, for other public methods. */
  endSync(): void {
    this.#change?.close();
    this.#inFlight.drainAndCloseSync(CLOSED, this.#release);
  }

  get #release(): () => Gen<void> {
    const { release } = this.#init;
    const loss = this.#loss;
    return loss === undefined ? release : () => loss.endThen(release);
  }

  #endAfter(error: unknown): Gen<never> {
    const end = { async: () => this.end(), sync: () => this.endSync() };
    return throwAfter(error, op<void>(end));
  }

  #relocking(): Relock {
    const { closedReason } = this.#inFlight;
    if (closedReason === undefined) {
      return this.#change ??= new Relock(this.#init);
    }
    throw this.#relockError(closedReason, "EBADF");
  }

  /** Operations that were called later must not run without the lock. */
  async #relock(relock: Relock, change: Gen<boolean>): Promise<boolean> {
    try {
      return await runAsync(change);
    } finally {
      this.#loseIf(relock.lost);
    }
  }

  #loseIf(lost: boolean): void {
    if (!lost) return;
    this.#inFlight.lose(RELOCK_LOST);
    this.#loss?.abort(RELOCK_LOST);
  }

  #relockError(reason: string, code: string): LockException {
    return new LockException(
      `Cannot relock ${formatSubject(this)}: ${reason}`,
      { path: this.path, code },
    );
  }
}

/** Closes all files, even if one fails. Returns the errors. */
export async function closeAll(
  files: Iterable<LockedFile>,
): Promise<unknown[]> {
  const closing = [...files].map((file) => file.close());
  return (await Promise.allSettled(closing)).flatMap((result) =>
    result.status === "rejected" ? [result.reason] : []
  );
}

/** {@linkcode closeAll}, blocking the thread. */
export function closeAllSync(files: Iterable<LockedFile>): unknown[] {
  return [...files].flatMap((file) => {
    try {
      file.closeSync();
      return [];
    } catch (error) {
      return [error];
    }
  });
}
