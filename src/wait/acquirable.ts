/** `Acquirable`: what file locks and Redis locks have in common. */

import { AlreadyLocked, formatSubject } from "../core/errors.ts";
import { runAsync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { checkFunction } from "../options/validate.ts";
import { Busy } from "./busy.ts";
import type { Deadline } from "./deadline.ts";
import type { FifoMutex } from "./fifo_mutex.ts";
import { yieldToEventLoop } from "./yield_to_event_loop.ts";

/** The options of {@linkcode Acquirable.tryAcquire}: one attempt, no wait. */
export const ONE_ATTEMPT = { failWhenLocked: true } as const;

/**
 * A lock that can be acquired and released: the base of all lock classes.
 *
 * @typeParam Held What `acquire` returns: the lock while it is held.
 * @typeParam Options The options of one `acquire`.
 */
export abstract class Acquirable<Held, Options> implements AsyncDisposable {
  /** @ignore What is held through this object, the latest last. */
  protected readonly held: Held[] = [];
  readonly #mutex: FifoMutex | undefined;
  readonly #unlockMutex: (() => void) | undefined;

  /**
   * @ignore Called by the lock classes. With a mutex, tasks that share the
   * object exclude each other too.
   */
  protected constructor(mutex: FifoMutex | undefined) {
    this.#mutex = mutex;
    this.#unlockMutex = mutex && releasing(mutex);
  }

  /** Whether this object holds the lock. */
  get locked(): boolean {
    return this.held.length > 0;
  }

  /**
   * Acquires the lock. Waits if another holder has it.
   *
   * @param options Options that differ from those of the lock.
   * @returns The lock while it is held. Releasing it releases the lock.
   * @throws {AlreadyLocked} If another holder still has the lock when the wait
   * times out.
   * @throws {LockUnsupported} If the runtime or the file system cannot lock.
   * @throws {LockException} If the system or the server refuses the lock for
   * another reason.
   * @throws The runtime's own error if the file cannot be opened, and the
   * reason of `signal` if it is aborted.
   */
  async acquire(options?: Options): Promise<Held> {
    const deadline = this.startDeadline(options);
    await yieldToEventLoop(deadline.start);
    return this.orThrow(await runAsync(this.attempt(deadline)), deadline);
  }

  /**
   * Acquires the lock if no other holder has it. Does not wait.
   *
   * @returns The lock while it is held, or `null` if another holder has it.
   * @throws What {@linkcode Acquirable.acquire} throws, except
   * {@linkcode AlreadyLocked}.
   */
  async tryAcquire(): Promise<Held | null> {
    const deadline = this.startDeadline(ONE_ATTEMPT);
    await yieldToEventLoop(deadline.start);
    const held = await runAsync(this.attempt(deadline));
    return held instanceof Busy ? null : held;
  }

  /**
   * Acquires the lock, runs a function and releases the lock, also if the
   * function throws.
   *
   * @param body The function to run while the lock is held.
   * @param options Options that differ from those of the lock.
   * @returns The result of the function.
   * @throws {TypeError} If `body` is not a function.
   * @throws What {@linkcode Acquirable.acquire} or the function throws.
   */
  async run<T>(
    body: (held: Held) => T | Promise<T>,
    options?: Options,
  ): Promise<T> {
    checkFunction("body", body);
    const held = await this.acquire(options);
    let result: T;
    try {
      result = await body(held);
      this.throwIfLost(held);
    } catch (error) {
      await this.end(held).catch(() => {});
      throw error;
    }
    await this.end(held);
    return result;
  }

  /**
   * Releases the latest acquisition of this object that is still held. Does
   * nothing if the object does not hold the lock.
   *
   * @throws {LockException} If the system refuses to release the lock and the
   * lock was made with `throwOnReleaseError`. The lock is released anyway.
   */
  async release(): Promise<void> {
    const latest = this.latest() ?? this.held.at(-1);
    if (latest !== undefined) await this.end(latest);
  }

  /** Releases everything that this object holds. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.held].map((held) => this.end(held)));
  }

  /** @ignore Starts the clock of one acquisition, with checked options. */
  protected abstract startDeadline(
    options: Options | typeof ONE_ATTEMPT | undefined,
  ): Deadline;

  /** @ignore Acquires the lock. Calls `onReleased` once it is released. */
  protected abstract acquireTarget(
    deadline: Deadline,
    onReleased: (() => void) | undefined,
  ): Gen<Held | Busy>;

  /** @ignore What messages call the lock, and its path if it is a file. */
  protected abstract subject(): { name: string; path?: string };

  /** @ignore The latest acquisition that {@linkcode release} would end. */
  protected abstract latest(): Held | undefined;

  /** @ignore Releases one acquisition. */
  protected abstract end(held: Held): Promise<void>;

  /** @ignore Throws if the lock was lost while it was in use. */
  protected throwIfLost(_held: Held): void {}

  /** @ignore Acquires the mutex of the tasks, then the lock. */
  protected *attempt(deadline: Deadline): Gen<Held | Busy> {
    deadline.signal?.throwIfAborted();
    const mutex = this.#mutex;
    if (!mutex) return yield* this.acquireTarget(deadline, undefined);
    if (!mutex.tryAcquire() && !(yield* mutex.wait(deadline))) {
      const reason = this.locked
        ? "already locked through this same object, which is not reentrant"
        : "already locked, and waited for through this same object";
      return new Busy(() => ({ reason }));
    }
    let held: Held | Busy | undefined;
    try {
      return held = yield* this.acquireTarget(deadline, this.#unlockMutex);
    } finally {
      if (held === undefined || held instanceof Busy) mutex.release();
    }
  }

  /** @ignore Turns {@linkcode Busy} into the error that the caller gets. */
  protected orThrow(held: Held | Busy, deadline: Deadline): Held {
    if (!(held instanceof Busy)) return held;
    const { elapsed } = deadline;
    const { name, path } = this.subject();
    const { reason, holderPid } = held.describe(elapsed);
    throw new AlreadyLocked(
      `Cannot lock ${formatSubject({ path: name })}: ${reason} ` +
        `(waited ${Math.round(elapsed)} ms)`,
      { path, waited: elapsed, holderPid },
    );
  }
}

/** Made here so that a held lock does not keep the lock object reachable. */
function releasing(mutex: FifoMutex): () => void {
  return () => mutex.release();
}
