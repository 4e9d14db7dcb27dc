/** `LockBase`: what all locks have in common. */

import { platform } from "../../ffi/mod.ts";
import { releaseWhenCollected, untrack } from "../core/leak_guard.ts";
import { Busy } from "../target/lock_target.ts";
import type { LockTarget } from "../target/lock_target.ts";
import type { HeldLock } from "../file/held_file.ts";
import { hasSubscribers, publish } from "../core/diagnostics.ts";
import {
  aggregateReleaseErrors,
  AlreadyLocked,
  formatSubject,
} from "../core/errors.ts";
import { closeAll, closeAllSync, LockedFile } from "../file/locked_file.ts";
import { checkFunction } from "../options/validate.ts";
import { resolveAcquireOptions } from "../options/acquire_options.ts";
import type {
  AcquireOptions,
  WaitSettings,
} from "../options/acquire_options.ts";
import { runAsync, runSync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { yieldToEventLoop } from "../wait/yield_to_event_loop.ts";
import { Deadline, now } from "../wait/deadline.ts";

/** One attempt, for {@linkcode LockBase.tryAcquire}. */
const ONE_ATTEMPT: AcquireOptions = { failWhenLocked: true };

/**
 * Anything that can be acquired and released: {@linkcode Lock} and its kind.
 * It says how; what is locked then says each of them.
 */
export abstract class LockBase implements AsyncDisposable, Disposable {
  readonly #target: LockTarget;
  readonly #wait: WaitSettings;
  /** What is held through this instance, the latest last. */
  readonly #held: LockedFile[] = [];

  /** @ignore Made by the lock classes. */
  protected constructor(target: LockTarget, wait: WaitSettings) {
    this.#target = target;
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
    const deadline = this.#deadline(options);
    await yieldToEventLoop(deadline.start);
    const file = await runAsync(this.#acquire(deadline));
    return file instanceof Busy ? this.#refuse(file, deadline) : file;
  }

  /**
   * {@linkcode LockBase.acquire}, blocking the thread. What is held already
   * through this instance is not waited for, since nobody could release it.
   *
   * With `timeout: Infinity` and without `onWait` the main thread waits in the
   * kernel, on every system: the fastest way to have a lock that another holds.
   */
  acquireSync(options?: AcquireOptions): LockedFile {
    const deadline = this.#deadline(options);
    const file = runSync(this.#acquire(deadline));
    return file instanceof Busy ? this.#refuse(file, deadline) : file;
  }

  /**
   * Acquires the lock if that needs no waiting.
   *
   * @returns The open file, or `null` if the lock is held already.
   * @throws Whatever {@linkcode LockBase.acquire} throws, but for
   * {@linkcode AlreadyLocked}.
   */
  async tryAcquire(): Promise<LockedFile | null> {
    const deadline = this.#deadline(ONE_ATTEMPT);
    await yieldToEventLoop(deadline.start);
    const file = await runAsync(this.#acquire(deadline));
    return file instanceof Busy ? null : file;
  }

  /** {@linkcode LockBase.tryAcquire}, blocking the thread. */
  tryAcquireSync(): LockedFile | null {
    const file = runSync(this.#acquire(this.#deadline(ONE_ATTEMPT)));
    return file instanceof Busy ? null : file;
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

  #deadline(options: AcquireOptions | undefined): Deadline {
    const wait = resolveAcquireOptions(options, this.#wait);
    const { onWait } = wait;
    if (onWait === undefined) return new Deadline(wait);
    const { path, files, locker } = this.#target;
    return new Deadline(wait, (waited) => {
      const holders = files.flatMap((file) =>
        platform().holders(file, true, locker)
      );
      onWait({ path, waited, holders });
    });
  }

  *#acquire(deadline: Deadline): Gen<LockedFile | Busy> {
    deadline.signal?.throwIfAborted();
    const target = this.#target;
    const { path, exclusive } = target;
    const held = yield* target.acquire(deadline, () => {
      if (deadline.markContended()) {
        publish("wait", () => ({ path, exclusive }));
      }
    });
    return held instanceof Busy ? held : this.#keep(held, deadline);
  }

  #refuse(refused: Busy, deadline: Deadline): never {
    const { path } = this.#target;
    const { elapsed: waited } = deadline;
    const { reason, holderPid } = refused.describe(deadline);
    throw new AlreadyLocked(
      `Cannot lock ${formatSubject({ path })}: ${reason} ` +
        `(waited ${Math.round(waited)} ms)`,
      { path, waited, holderPid },
    );
  }

  #keep(held: HeldLock, deadline: Deadline): LockedFile {
    const { path, exclusive } = held;
    const since = hasSubscribers("release") ? now() : undefined;
    if (hasSubscribers("acquire")) {
      const { elapsed: waited } = deadline;
      publish("acquire", () => ({ path, exclusive, waited }));
    }
    const locked: LockedFile = new LockedFile({
      held,
      deadline: (options) => this.#deadline(options),
      release: () => this.#release(locked, held, since),
    });
    this.#held.push(locked);
    if (!held.keepUntilExit) {
      releaseWhenCollected(locked, held.path, releasing(held));
    }
    return locked;
  }

  *#release(
    locked: LockedFile,
    held: HeldLock,
    since: number | undefined,
  ): Gen<void> {
    const { path, exclusive } = held;
    untrack(locked);
    try {
      yield* held.release();
    } finally {
      this.#held.splice(this.#held.indexOf(locked), 1);
      if (hasSubscribers("release")) {
        const held = since && now() - since;
        publish("release", () => ({ path, exclusive, held }));
      }
    }
  }
}

/** A closure made where the lock is known would keep it from being collected. */
function releasing(held: HeldLock): () => void {
  return () => runSync(held.release());
}

function throwAny(errors: unknown[]): void {
  if (errors.length === 0) return;
  throw errors.length === 1 ? errors[0] : aggregateReleaseErrors(errors);
}
