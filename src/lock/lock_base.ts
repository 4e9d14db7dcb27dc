/** `LockBase`: what all locks have in common. */

import { native } from "../../ffi/mod.ts";
import { abandon, keep } from "../core/leak_guard.ts";
import { Refused } from "../target/lock_target.ts";
import type { Claim } from "../target/lock_target.ts";
import type { Hold } from "../file/held_file.ts";
import { observed, publish } from "../core/diagnostics.ts";
import { AlreadyLocked, releaseErrors, shown } from "../core/errors.ts";
import { closeAll, closeAllSync, LockedFile } from "../file/locked_file.ts";
import { checkFunction } from "../options/validate.ts";
import { acquireWait } from "../options/acquire_options.ts";
import type { AcquireOptions, Wait } from "../options/acquire_options.ts";
import { perform, performSync } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";
import { breather } from "../wait/yield_to_event_loop.ts";
import { now, Patience } from "../wait/deadline.ts";

/** One attempt, for {@linkcode LockBase.tryAcquire}. */
const ONE_ATTEMPT: AcquireOptions = { failWhenLocked: true };

/**
 * Anything that can be acquired and released: {@linkcode Lock} and its kind.
 * It says how; what is locked then says each of them.
 */
export abstract class LockBase implements AsyncDisposable, Disposable {
  readonly #claim: Claim;
  readonly #wait: Wait;
  /** What is held through this instance, the latest last. */
  readonly #held: LockedFile[] = [];

  /** @ignore Made by the lock classes. */
  protected constructor(claim: Claim, wait: Wait) {
    this.#claim = claim;
    this.#wait = wait;
  }

  /** Whether anything is held through this instance. */
  get locked(): boolean {
    return this.#held.length > 0;
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
    const file = await perform(this.#acquire(patience));
    return file instanceof Refused ? this.#refuse(file, patience) : file;
  }

  /**
   * {@linkcode LockBase.acquire}, blocking the thread. What is held already
   * through this instance is not waited for, since nobody could release it.
   *
   * With `timeout: Infinity` and without `onWait` the main thread waits in the
   * kernel, on every system: the fastest way to have a lock that another holds.
   */
  acquireSync(options?: AcquireOptions): LockedFile {
    const patience = this.#patience(options);
    const file = performSync(this.#acquire(patience));
    return file instanceof Refused ? this.#refuse(file, patience) : file;
  }

  /**
   * Acquires the lock if that needs no waiting.
   *
   * @returns The open file, or `null` if the lock is held already.
   * @throws Whatever {@linkcode LockBase.acquire} throws, but for
   * {@linkcode AlreadyLocked}.
   */
  async tryAcquire(): Promise<LockedFile | null> {
    const patience = this.#patience(ONE_ATTEMPT);
    await breather(patience.start);
    const file = await perform(this.#acquire(patience));
    return file instanceof Refused ? null : file;
  }

  /** {@linkcode LockBase.tryAcquire}, blocking the thread. */
  tryAcquireSync(): LockedFile | null {
    const file = performSync(this.#acquire(this.#patience(ONE_ATTEMPT)));
    return file instanceof Refused ? null : file;
  }

  /**
   * Acquires the lock, runs a function and releases the lock, whatever comes
   * of it.
   *
   * @param body What to do while the lock is held.
   * @param options What differs from the options of the lock.
   * @returns What the function returns.
   * @throws {TypeError} If `body` is no function.
   * @throws What {@linkcode LockBase.acquire} or the function throws.
   */
  async run<T>(
    body: (file: LockedFile) => T | Promise<T>,
    options?: AcquireOptions,
  ): Promise<T> {
    checkFunction("body", body);
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
   * Releases what was acquired last through this instance and is still held,
   * if anything is: the same as closing the file that `acquire` returned.
   *
   * @throws {LockException} If the system refuses and the lock was made with
   * `throwOnReleaseError`. The lock is gone all the same.
   */
  async release(): Promise<void> {
    await (this.latest() ?? this.#held.at(-1))?.close();
  }

  /** {@linkcode LockBase.release}, blocking the thread. */
  releaseSync(): void {
    this.latest()?.closeSync();
  }

  /** @ignore What {@linkcode LockBase.release} would begin to release. */
  protected latest(): LockedFile | undefined {
    return this.#held.findLast(({ closing }) => !closing);
  }

  /** Releases everything that is held through this instance. */
  async [Symbol.asyncDispose](): Promise<void> {
    throwAny(await closeAll(this.#held));
  }

  /** Releases everything that is held through this instance. */
  [Symbol.dispose](): void {
    throwAny(closeAllSync(this.#held));
  }

  #patience(options: AcquireOptions | undefined): Patience {
    const wait = acquireWait(options, this.#wait);
    const { onWait } = wait;
    if (onWait === undefined) return new Patience(wait);
    const { path, files, locker } = this.#claim;
    return new Patience(wait, (waited) => {
      const holders = files.flatMap((file) =>
        native().holders(file, true, locker)
      );
      onWait({ path, waited, holders });
    });
  }

  *#acquire(patience: Patience): Recipe<LockedFile | Refused> {
    patience.signal?.throwIfAborted();
    const claim = this.#claim;
    const { path, exclusive } = claim;
    const hold = yield* claim.take(patience, () => {
      if (patience.needed()) publish("wait", () => ({ path, exclusive }));
    });
    return hold instanceof Refused ? hold : this.#keep(hold, patience);
  }

  #refuse(refused: Refused, patience: Patience): never {
    const { path } = this.#claim;
    const { waited } = patience;
    const { reason, holderPid } = refused.explain(patience);
    throw new AlreadyLocked(
      `Cannot lock ${shown({ path })}: ${reason} ` +
        `(waited ${Math.round(waited)} ms)`,
      { path, waited, holderPid },
    );
  }

  #keep(hold: Hold, patience: Patience): LockedFile {
    const { path, exclusive } = hold;
    const since = observed("release") ? now() : undefined;
    if (observed("acquire")) {
      const { waited } = patience;
      publish("acquire", () => ({ path, exclusive, waited }));
    }
    const locked: LockedFile = new LockedFile({
      hold,
      patience: (options) => this.#patience(options),
      release: () => this.#release(locked, hold, since),
    });
    this.#held.push(locked);
    if (!hold.lasting) keep(locked, hold.path, releasing(hold));
    return locked;
  }

  *#release(
    locked: LockedFile,
    hold: Hold,
    since: number | undefined,
  ): Recipe<void> {
    const { path, exclusive } = hold;
    abandon(locked);
    try {
      yield* hold.release();
    } finally {
      this.#held.splice(this.#held.indexOf(locked), 1);
      if (observed("release")) {
        const held = since && now() - since;
        publish("release", () => ({ path, exclusive, held }));
      }
    }
  }
}

/** A closure made where the lock is known would keep it from being collected. */
function releasing(hold: Hold): () => void {
  return () => performSync(hold.release());
}

function throwAny(errors: unknown[]): void {
  if (errors.length === 0) return;
  throw errors.length === 1 ? errors[0] : releaseErrors(errors);
}
