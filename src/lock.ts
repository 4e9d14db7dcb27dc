/** `Lock`: a file that one holder, or several readers, have at a time. */

import { native } from "../ffi/mod.ts";
import type { NativeFile } from "../ffi/types.ts";
import { AlreadyLocked, lockFailure, openFailure, shown } from "./errors.ts";
import { empty, unlockAndClose } from "./file_recipes.ts";
import { LockedFile } from "./locked_file.ts";
import { acquireWait, filePath, lockSettings } from "./options.ts";
import type {
  AcquireOptions,
  LockOptions,
  LockSettings,
  Wait,
} from "./options.ts";
import { perform, performSync, step } from "./recipe.ts";
import type { Recipe } from "./recipe.ts";
import { breather } from "./wait/event_loop.ts";
import { Turns } from "./wait/turns.ts";
import { now, waitFor } from "./wait/wait.ts";

/** One attempt, for {@linkcode Lock.tryAcquire}. */
const ONE_ATTEMPT: AcquireOptions = { failWhenLocked: true };

/**
 * A lock on a file, which the kernel itself releases when its holder dies.
 *
 * It excludes everybody who locks the same file with flock(2): other `Lock`s
 * of this or any other process on Deno, Bun and Node, Python's portalocker,
 * flock(1). The lock file stays when the lock is released: removing it would
 * let two holders in.
 *
 * One instance may be shared by many tasks and is a mutex among them too,
 * first come, first served; a task that waits for a lock that it holds itself
 * through the same instance waits until its timeout.
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
export class Lock implements AsyncDisposable, Disposable {
  /** The path of the lock file, as it was given. */
  readonly path: string;
  readonly #settings: LockSettings;
  readonly #turns = new Turns();
  #held: LockedFile | null = null;

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
    this.path = filePath(path);
    this.#settings = lockSettings(options);
  }

  /** Whether the lock is held through this instance. */
  get locked(): boolean {
    return this.#held !== null;
  }

  /**
   * Acquires the lock, waiting if need be.
   *
   * @param options What differs from the options of the lock.
   * @returns The open file. Closing it releases the lock.
   * @throws {AlreadyLocked} If somebody else still holds the lock when the
   * wait is over.
   * @throws {LockUnsupported} If the runtime or the file system cannot lock.
   * @throws {LockException} If the system refuses the lock for another reason.
   * @throws The runtime's own error if the file cannot be opened, and the
   * signal's reason if it is aborted.
   */
  async acquire(options?: AcquireOptions): Promise<LockedFile> {
    const wait = acquireWait(options, this.#settings.wait);
    const start = now();
    await breather(start);
    return await perform(this.#acquire(wait, start));
  }

  /**
   * {@linkcode Lock.acquire}, blocking the thread. A lock that is held already
   * through this instance is not waited for, since nobody could release it.
   */
  acquireSync(options?: AcquireOptions): LockedFile {
    const wait = acquireWait(options, this.#settings.wait);
    return performSync(this.#acquire(wait, now()));
  }

  /**
   * Acquires the lock if that needs no waiting.
   *
   * @returns The open file, or `null` if the lock is held already.
   * @throws Whatever {@linkcode Lock.acquire} throws, but for
   * {@linkcode AlreadyLocked}.
   */
  tryAcquire(): Promise<LockedFile | null> {
    return this.acquire(ONE_ATTEMPT).catch(nullIfLocked);
  }

  /** {@linkcode Lock.tryAcquire}, blocking the thread. */
  tryAcquireSync(): LockedFile | null {
    try {
      return this.acquireSync(ONE_ATTEMPT);
    } catch (error) {
      return nullIfLocked(error);
    }
  }

  /**
   * Acquires the lock, runs a function and releases the lock, whatever comes
   * of it.
   *
   * @param body What to do while the lock is held.
   * @param options What differs from the options of the lock.
   * @returns What the function returns.
   * @throws What {@linkcode Lock.acquire} or the function throws.
   */
  async run<T>(
    body: (file: LockedFile) => T | Promise<T>,
    options?: AcquireOptions,
  ): Promise<T> {
    const file = await this.acquire(options);
    let result: T;
    try {
      result = await body(file);
    } catch (error) {
      await file.close().catch(() => {});
      throw error;
    }
    await file.close();
    return result;
  }

  /**
   * Releases the lock, if it is held through this instance: the same as
   * closing the file that `acquire` returned.
   *
   * @throws {LockException} If the system refuses and the lock was made with
   * `throwOnReleaseError`. The lock is gone all the same.
   */
  async release(): Promise<void> {
    await this.#held?.close();
  }

  /** {@linkcode Lock.release}, blocking the thread. */
  releaseSync(): void {
    this.#held?.closeSync();
  }

  /** Does what {@linkcode Lock.release} does. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }

  /** Does what {@linkcode Lock.releaseSync} does. */
  [Symbol.dispose](): void {
    this.releaseSync();
  }

  /** Takes the turn among this instance's tasks, then the lock. */
  *#acquire(wait: Wait, start: number): Recipe<LockedFile> {
    wait.signal?.throwIfAborted();
    const mine = this.#turns.tryTake() ||
      (yield* step(() => this.#turns.take(wait, start), () => false));
    if (!mine) {
      throw this.#alreadyLocked(
        start,
        this.#held
          ? "already locked through this same object, which is not reentrant"
          : "already locked, and waited for through this same object",
      );
    }
    try {
      const file = yield* this.#open(wait.signal);
      return this.#hold(yield* this.#lock(file, wait, start));
    } catch (error) {
      this.#turns.pass();
      throw error;
    }
  }

  *#open(signal: AbortSignal | undefined): Recipe<NativeFile> {
    const { mode, creationMode } = this.#settings;
    signal?.throwIfAborted();
    try {
      const system = native();
      return yield* step(
        () => {
          const file = system.open(this.path, mode, creationMode);
          return file instanceof Promise ? unlessAborted(file, signal) : file;
        },
        () => system.openSync(this.path, mode, creationMode),
      );
    } catch (error) {
      throw openFailure(this, error);
    }
  }

  *#lock(file: NativeFile, wait: Wait, start: number): Recipe<NativeFile> {
    const { exclusive, mode } = this.#settings;
    try {
      if (!(yield* waitFor(() => file.tryLock(exclusive), wait, start))) {
        throw this.#alreadyLocked(start, "already locked");
      }
      if (mode.truncate) yield* empty(file);
      return file;
    } catch (error) {
      yield* quietly(unlockAndClose(file));
      throw wait.signal?.aborted && error === wait.signal.reason
        ? error
        : lockFailure("lock", this, error);
    }
  }

  #hold(file: NativeFile): LockedFile {
    const { mode } = this.#settings;
    const { path } = this;
    const release = () => perform(this.#release(file));
    const releaseSync = () => performSync(this.#release(file));
    return this.#held = new LockedFile({
      path,
      file,
      mode,
      release,
      releaseSync,
    });
  }

  *#release(file: NativeFile): Recipe<void> {
    try {
      yield* unlockAndClose(file);
    } catch (error) {
      if (this.#settings.throwOnReleaseError) {
        throw lockFailure("release", this, error);
      }
    } finally {
      this.#held = null;
      this.#turns.pass();
    }
  }

  #alreadyLocked(start: number, reason: string): AlreadyLocked {
    const waited = now() - start;
    return new AlreadyLocked(
      `Cannot lock ${shown(this)}: ${reason} ` +
        `(waited ${Math.round(waited)} ms)`,
      { path: this.path, waited },
    );
  }
}

function nullIfLocked(error: unknown): null {
  if (error instanceof AlreadyLocked) return null;
  throw error;
}

/** Carries a recipe out whose errors would hide a more important one. */
function* quietly(recipe: Recipe<void>): Recipe<void> {
  try {
    yield* recipe;
  } catch {
    // The caller is about to throw its own.
  }
}

/** Lets an abort overtake a file that is slow to open; closes it later. */
function unlessAborted(
  opening: Promise<NativeFile>,
  signal: AbortSignal | undefined,
): Promise<NativeFile> {
  if (!signal) return opening;
  return new Promise((resolve, reject) => {
    const abort = () => {
      reject(signal.reason);
      opening.then((file) => file.close()).catch(() => {});
    };
    // At once, not in a later turn: an abort in between would close the file
    // of somebody who has it already.
    const settled = () => signal.removeEventListener("abort", abort);
    signal.addEventListener("abort", abort, { once: true });
    opening.then((file) => {
      settled();
      resolve(file);
    }, (error) => {
      settled();
      reject(error);
    });
  });
}
