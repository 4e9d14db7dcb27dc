/** The open, locked file that every acquisition hands out. */

import { formatSubject, LockException } from "../core/errors.ts";
import type { LockFlags } from "../options/flags.ts";
import { InFlight } from "./in_flight.ts";
import { OpenFile } from "./open_file.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import { runAsync, runSync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { Relock } from "./relock.ts";
import type { RelockInit } from "./relock.ts";

/** What a {@linkcode LockedFile} is made of. */
export interface LockedFileInit extends RelockInit {
  /** Ends the acquisition; the file is no longer used then. */
  release: () => Gen<void>;
}

const CLOSED = "it is closed and its lock released";

/**
 * An open file whose lock is held. It follows `Deno.FsFile`, on every runtime.
 *
 * The file has one position, the system's own: reads and writes start there
 * and move it; in the modes `"a"` and `"a+"` every write goes to the end.
 *
 * Closing or disposing the file **is** releasing the lock. Nothing else is: a
 * stream that ends leaves both alone. Afterwards every operation throws a
 * {@linkcode LockException} with the code `"EBADF"`. Operations that are still
 * under way finish first, under the lock.
 *
 * @example
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * await using file = await new Lock("visits.txt", { mode: "a+" }).acquire();
 * const visits = Number(await file.readText()) + 1;
 * await file.replaceContents(String(visits));
 * ```
 */
export class LockedFile extends OpenFile
  implements AsyncDisposable, Disposable {
  readonly #inFlight: InFlight;
  readonly #init: LockedFileInit;
  /** Once its kind is to be changed. */
  #change: Relock | undefined;

  /** @ignore Made by the lock classes. */
  constructor(init: LockedFileInit) {
    const { path, file, mode } = init.held;
    const inFlight = new InFlight();
    super({ path, file, mode, inFlight });
    this.#inFlight = inFlight;
    this.#init = init;
  }

  /** @ignore Whether it is closed, or about to be. */
  get closing(): boolean {
    return this.#inFlight.closedReason !== undefined;
  }

  /**
   * Makes a shared lock exclusive, or an exclusive one shared.
   *
   * With the lockers `"ofd"` and `"lockf"` the lock that is held stays until
   * the other is there, so two readers who both upgrade wait for each other
   * until one of them gives up. With `"flock"` it stays if the other is to be
   * had at once. Otherwise the system takes it away: somebody else may come
   * in, change the file and leave before the wait is over, and `false` says so.
   * Until the promise settles nothing should be done with the file. The kind of
   * an `RLock` can be changed while it is acquired once.
   *
   * After a wait in vain the lock is what it was before. With `"flock"` it may
   * take `checkInterval` more to have it back; if even that is in vain, the
   * file is closed and the error says so. Closing the file ends the wait.
   *
   * @example
   * ```ts
   * import { Lock, LOCK_EX, LOCK_NB, LOCK_SH } from "jsr:@x/portalock";
   *
   * const lock = new Lock("settings.json", {
   *   mode: "a+",
   *   flags: LOCK_SH | LOCK_NB,
   * });
   * await using file = await lock.acquire();
   * let settings = await file.readText();
   * if (settings === "") {
   *   const atomic = await file.relock(LOCK_EX);
   *   // Somebody else may have written them meanwhile.
   *   if (!atomic) settings = await file.readText();
   *   if (settings === "") await file.writeText("{}");
   * }
   * ```
   *
   * @param flags `LOCK_EX` or `LOCK_SH`; with `LOCK_NB` one attempt.
   * @param options What differs from the options of the lock.
   * @returns Whether nobody else can have held the lock exclusively in between.
   * @throws {AlreadyLocked} If somebody else is in the way when the wait is
   * over.
   * @throws {LockException} If the file is closed, the lock is being changed
   * already, or the system refuses.
   * @throws {RangeError} If the mode of the file does not go together with the
   * kind of lock, or a value is impossible.
   * @throws The signal's reason if it is aborted.
   */
  async relock(flags: LockFlags, options?: AcquireOptions): Promise<boolean> {
    const relock = this.#relocking();
    try {
      const change = () => runAsync(relock.relock(flags, options));
      return await this.#inFlight.run(change);
    } finally {
      if (relock.lost) await this.close().catch(() => {});
    }
  }

  /** {@linkcode LockedFile.relock}, blocking the thread. */
  relockSync(flags: LockFlags, options?: AcquireOptions): boolean {
    const relock = this.#relocking();
    try {
      return runSync(relock.relock(flags, options));
    } finally {
      if (relock.lost) this.close().catch(() => {});
    }
  }

  /**
   * Releases the lock and closes the file, after the operations that are still
   * under way. Closing again does nothing.
   *
   * @throws {LockException} If the system refuses and the lock was made with
   * `throwOnReleaseError`. The lock is gone all the same.
   */
  close(): Promise<void> {
    this.#change?.close();
    return this.#inFlight.drainAndClose(CLOSED, this.#init.release);
  }

  /**
   * {@linkcode LockedFile.close}, blocking the thread. Asynchronous operations
   * that are still under way cannot finish meanwhile: the lock is released
   * when they have.
   */
  closeSync(): void {
    this.#change?.close();
    this.#inFlight.drainAndCloseSync(CLOSED, this.#init.release);
  }

  /** Does what {@linkcode LockedFile.close} does. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Does what {@linkcode LockedFile.closeSync} does. */
  [Symbol.dispose](): void {
    this.closeSync();
  }

  #relocking(): Relock {
    const { closedReason } = this.#inFlight;
    if (closedReason === undefined) {
      return this.#change ??= new Relock(this.#init);
    }
    throw new LockException(
      `Cannot relock ${formatSubject(this)}: ${closedReason}`,
      {
        path: this.path,
        code: "EBADF",
      },
    );
  }
}

/** Closes all of them, come what may; returns what closing them threw. */
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
