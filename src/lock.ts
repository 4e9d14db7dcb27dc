/** `Lock`: a file that one holder, or several readers, have at a time. */

import { native } from "../ffi/mod.ts";
import type { LockerSettings, NativeFile } from "../ffi/types.ts";
import { observed, publish } from "./diagnostics.ts";
import { AlreadyLocked, lockFailure, openFailure, shown } from "./errors.ts";
import { empty, unlockAndClose } from "./file_recipes.ts";
import { by } from "./holders.ts";
import { LockedFile } from "./locked_file.ts";
import { acquireWait, filePath, lockSettings } from "./options.ts";
import type { AcquireOptions, LockOptions, LockSettings } from "./options.ts";
import { perform, performSync, step } from "./recipe.ts";
import type { Recipe } from "./recipe.ts";
import { Holding } from "./relock.ts";
import { breather } from "./wait/event_loop.ts";
import { Turns } from "./wait/turns.ts";
import { contestFor } from "./wait/contest.ts";
import { now, Patience, worthTelling } from "./wait/patience.ts";
import { waitFor } from "./wait/wait.ts";

/** One attempt, for {@linkcode Lock.tryAcquire}. */
const ONE_ATTEMPT: AcquireOptions = { failWhenLocked: true };

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
    const patience = this.#patience(options);
    await breather(patience.start);
    return await perform(this.#acquire(patience, alreadyLocked));
  }

  /**
   * {@linkcode Lock.acquire}, blocking the thread. A lock that is held already
   * through this instance is not waited for, since nobody could release it.
   */
  acquireSync(options?: AcquireOptions): LockedFile {
    return performSync(this.#acquire(this.#patience(options), alreadyLocked));
  }

  /**
   * Acquires the lock if that needs no waiting.
   *
   * @returns The open file, or `null` if the lock is held already.
   * @throws Whatever {@linkcode Lock.acquire} throws, but for
   * {@linkcode AlreadyLocked}.
   */
  async tryAcquire(): Promise<LockedFile | null> {
    const patience = this.#patience(ONE_ATTEMPT);
    await breather(patience.start);
    return await perform(this.#acquire(patience, () => null));
  }

  /** {@linkcode Lock.tryAcquire}, blocking the thread. */
  tryAcquireSync(): LockedFile | null {
    return performSync(this.#acquire(this.#patience(ONE_ATTEMPT), () => null));
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

  #patience(options: AcquireOptions | undefined): Patience {
    const wait = acquireWait(options, this.#settings.wait);
    const { onWait } = wait;
    if (onWait === undefined) return new Patience(wait);
    const { path } = this;
    const { locker } = this.#settings;
    return new Patience(wait, (waited) => {
      onWait({ path, waited, holders: native().holders(path, true, locker) });
    });
  }

  /**
   * Takes the turn among this instance's tasks, then the lock. `refuse` says
   * what is to come of it when the wait is over.
   */
  *#acquire<Refusal>(
    patience: Patience,
    refuse: (refused: Refused) => Refusal,
  ): Recipe<LockedFile | Refusal> {
    const { path } = this;
    const { locker } = this.#settings;
    patience.signal?.throwIfAborted();
    const mine = this.#turns.tryTake() ||
      (yield* step(() => this.#queue(patience), () => false));
    if (!mine) {
      return refuse({ path, locker, patience, held: this.#held !== null });
    }
    try {
      const file = yield* this.#open(patience.signal);
      if (yield* this.#lock(file, patience)) return this.#hold(file, patience);
    } catch (error) {
      this.#turns.pass();
      throw error;
    }
    this.#turns.pass();
    return refuse({ path, locker, patience });
  }

  #queue(patience: Patience): true | Promise<boolean> {
    if (patience.left > 0) this.#waits(patience);
    return this.#turns.take(patience);
  }

  #waits(patience: Patience): void {
    const { path } = this;
    const { exclusive } = this.#settings;
    if (patience.needed()) publish("wait", () => ({ path, exclusive }));
  }

  *#open(signal: AbortSignal | undefined): Recipe<NativeFile> {
    const { mode, creationMode, locker } = this.#settings;
    signal?.throwIfAborted();
    try {
      const system = native();
      return yield* step(
        () => {
          const file = system.open(this.path, mode, creationMode, locker);
          return file instanceof Promise ? unlessAborted(file, signal) : file;
        },
        () => system.openSync(this.path, mode, creationMode, locker),
      );
    } catch (error) {
      throw openFailure(this, error);
    }
  }

  /** Locks the file, or closes it. */
  *#lock(file: NativeFile, patience: Patience): Recipe<boolean> {
    const { exclusive, mode } = this.#settings;
    let locked = false;
    try {
      const waits = () => this.#waits(patience);
      locked = yield* waitFor(file, exclusive, patience, waits);
      if (locked && mode.truncate) yield* empty(file);
    } catch (error) {
      const contest = locked ? contestFor(file) : undefined;
      yield* quietly(unlockAndClose(file));
      contest?.ring();
      throw lockFailure("lock", this, error, patience);
    }
    if (!locked) yield* quietly(unlockAndClose(file));
    return locked;
  }

  #hold(file: NativeFile, patience: Patience): LockedFile {
    const { exclusive, mode, locker } = this.#settings;
    const { path } = this;
    const holding = new Holding({
      path,
      file,
      mode,
      locker,
      exclusive,
      patience: (options) => this.#patience(options),
    });
    const since = observed("release") ? now() : undefined;
    if (observed("acquire")) {
      const { waited } = patience;
      publish("acquire", () => ({ path, exclusive, waited }));
    }
    const recipe = () => this.#release(file, holding, since);
    return this.#held = new LockedFile({
      path,
      file,
      mode,
      holding,
      release: () => perform(recipe()),
      releaseSync: () => performSync(recipe()),
    });
  }

  *#release(
    file: NativeFile,
    { exclusive }: Holding,
    since: number | undefined,
  ): Recipe<void> {
    const { path } = this;
    const { throwOnReleaseError } = this.#settings;
    const contest = contestFor(file);
    try {
      yield* unlockAndClose(file);
    } catch (error) {
      if (throwOnReleaseError) throw lockFailure("release", this, error);
    } finally {
      this.#held = null;
      contest?.ring();
      this.#turns.pass();
      if (observed("release")) {
        const held = since && now() - since;
        publish("release", () => ({ path, exclusive, held }));
      }
    }
  }
}

/** What is known of a wait that was in vain. */
interface Refused {
  path: string;
  locker: LockerSettings;
  patience: Patience;
  /** Set if the turn among the tasks of one lock never came. */
  held?: boolean;
}

function alreadyLocked({ path, locker, patience, held }: Refused): never {
  const { waited } = patience;
  const holders = native().holders(path, worthTelling(waited), locker);
  const reason = held === undefined
    ? `already locked${by(holders)}`
    : held
    ? "already locked through this same object, which is not reentrant"
    : "already locked, and waited for through this same object";
  throw new AlreadyLocked(
    `Cannot lock ${shown({ path })}: ${reason} ` +
      `(waited ${Math.round(waited)} ms)`,
    { path, waited, holderPid: holders[0]?.pid },
  );
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
