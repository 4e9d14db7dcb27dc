/** `Acquirable`: what file locks and Redis locks have in common. */

import { alreadyLocked, formatSubject } from "../core/errors.ts";
import { op, runAsync, throwAfter, yieldToEventLoop } from "../core/gensync.ts";
import {
  anchor,
  atEdgeAsync,
  callerError,
  captureCaller,
  captureForPromise,
} from "../core/stack.ts";
import type { Caller } from "../core/stack.ts";
import { checkFunction } from "../options/validate.ts";
import { Busy } from "./busy.ts";
import type { Deadline } from "./deadline.ts";
import type { FifoMutex } from "./fifo_mutex.ts";

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
  /** @ignore Excludes the tasks that share this object, if they do. */
  protected readonly mutex: FifoMutex | undefined;
  /** @ignore Releases {@linkcode Acquirable.mutex}. */
  protected readonly unlockMutex: (() => void) | undefined;

  /**
   * @ignore Called by the lock classes. With a mutex, tasks that share the
   * object exclude each other too.
   */
  protected constructor(mutex: FifoMutex | undefined) {
    this.mutex = mutex;
    this.unlockMutex = mutex && releasing(mutex);
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
   * another reason, or if opening the file takes longer than the timeout (code
   * `"ETIMEDOUT"`).
   * @throws The runtime's own error if the file cannot be opened, and the
   * reason of `signal` if it is aborted.
   */
  acquire(options?: Options): Promise<Held> {
    return atEdgeAsync(
      Acquirable.prototype.acquire,
      () => this.startAcquire(options),
    );
  }

  /**
   * Acquires the lock if no other holder has it. Does not wait.
   *
   * @returns The lock while it is held, or `null` if another holder has it.
   * @throws What {@linkcode Acquirable.acquire} throws, except
   * {@linkcode AlreadyLocked}.
   */
  tryAcquire(): Promise<Held | null> {
    return atEdgeAsync(Acquirable.prototype.tryAcquire, () => {
      const held = this.#attempt(this.startDeadline(ONE_ATTEMPT));
      return held instanceof Promise ? held.then(orNull) : orNull(held);
    });
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
   * @throws {SuppressedError} If the function throws, and the release does so
   * too: `error` is the error of the release, `suppressed` that of the function.
   * An error of the same shape where the runtime does not have this class.
   */
  run<T>(
    body: (held: Held) => T | Promise<T>,
    options?: Options,
  ): Promise<T> {
    const edge = Acquirable.prototype.run;
    let held: Held | Promise<Held>;
    try {
      checkFunction("body", body);
      held = this.startAcquire(options);
    } catch (error) {
      return Promise.reject(anchor(error, captureCaller(edge)));
    }
    // After the first `await` the caller is no longer on the stack.
    const caller = held instanceof Promise || this.mayThrowAfterBody
      ? captureForPromise(edge)
      : undefined;
    return this.#runWith(held, body, caller);
  }

  /**
   * Releases the latest acquisition of this object that is still held. Does
   * nothing if the object does not hold the lock.
   *
   * @throws {LockException} If the system refuses to release the lock and the
   * lock was made with `throwOnReleaseError`. The lock is released anyway.
   */
  release(): Promise<void> {
    return atEdgeAsync(
      Acquirable.prototype.release,
      () => this.releaseLatest(),
    );
  }

  /** Releases everything that this object holds. */
  [Symbol.asyncDispose](): Promise<void> {
    return atEdgeAsync(
      Acquirable.prototype[Symbol.asyncDispose],
      async () => {
        await Promise.all([...this.held].map((held) => this.end(held)));
      },
    );
  }

  /**
   * @ignore Acquires the lock, for all public methods that wait. Makes the
   * first attempt before it returns, unless the event loop must run first.
   */
  protected startAcquire(options: Options | undefined): Held | Promise<Held> {
    const deadline = this.startDeadline(options);
    const held = this.#attempt(deadline);
    if (held instanceof Busy) this.throwBusy(held, deadline);
    return held instanceof Promise
      ? held.then((held) =>
        held instanceof Busy ? this.throwBusy(held, deadline) : held
      )
      : held;
  }

  #attempt(deadline: Deadline): Held | Busy | Promise<Held | Busy> {
    const turn = this.turnBefore(deadline);
    return turn
      ? this.#attemptAfter(turn, deadline)
      : this.attemptAsync(deadline);
  }

  async #attemptAfter(
    turn: Promise<void>,
    deadline: Deadline,
  ): Promise<Held | Busy> {
    await turn;
    return await this.attemptAsync(deadline);
  }

  /** @ignore {@linkcode Acquirable.release}, for other public methods. */
  protected releaseLatest(): void | Promise<void> {
    const latest = this.latest() ?? this.held.at(-1);
    if (latest !== undefined) return this.end(latest);
  }

  async #runWith<T>(
    acquired: Held | Promise<Held>,
    body: (held: Held) => T | Promise<T>,
    caller: Caller | undefined,
  ): Promise<T> {
    try {
      const held = await acquired;
      const result = await this.#runBody(held, body);
      await this.#endUnlessLost(held);
      return result;
    } catch (error) {
      throw caller ? anchor(error, caller) : error;
    }
  }

  /** Releases the lock if the body throws. */
  async #runBody<T>(
    held: Held,
    body: (held: Held) => T | Promise<T>,
  ): Promise<T> {
    try {
      return await body(held);
    } catch (error) {
      return await this.#endAfter(callerError(error), held);
    }
  }

  async #endUnlessLost(held: Held): Promise<void> {
    try {
      const checked = this.throwIfLost(held);
      if (checked) await checked;
    } catch (error) {
      await this.#endAfter(error, held);
    }
    await this.end(held);
  }

  /** Releases the lock after an error, and throws that error, or both. */
  async #endAfter(error: unknown, held: Held): Promise<never> {
    const end = () => this.end(held);
    return await runAsync(
      throwAfter(error, op<void>({ async: end, sync: end })),
    );
  }

  /** @ignore Whether `run` can throw after its body. */
  protected get mayThrowAfterBody(): boolean {
    return true;
  }

  /** @ignore Starts the clock of one acquisition, with checked options. */
  protected abstract startDeadline(
    options: Options | typeof ONE_ATTEMPT | undefined,
  ): Deadline;

  /** @ignore What to await before an attempt, if the event loop must run. */
  protected turnBefore({ start }: Deadline): Promise<void> | undefined {
    return yieldToEventLoop(start);
  }

  /** @ignore Acquires the mutex of the tasks, then the lock. */
  protected abstract attemptAsync(
    deadline: Deadline,
  ): Held | Busy | Promise<Held | Busy>;

  /** @ignore What messages call the lock, and its path if it is a file. */
  protected abstract subject(): { name: string; path?: string };

  /** @ignore The latest acquisition that {@linkcode release} would end. */
  protected abstract latest(): Held | undefined;

  /** @ignore Releases one acquisition. */
  protected abstract end(held: Held): void | Promise<void>;

  /** @ignore Throws if the lock was lost while it was in use. */
  protected throwIfLost(_held: Held): void | Promise<void> {}

  /** @ignore Says that another task has the lock through this object. */
  protected busyHere(): Busy {
    const reason = this.locked
      ? "already locked through this same object, which is not reentrant"
      : "already locked, and waited for through this same object";
    return new Busy(() => ({ reason }));
  }

  /** @ignore Throws the error that {@linkcode Busy} stands for. */
  protected throwBusy(busy: Busy, deadline: Deadline): never {
    const { elapsed } = deadline;
    const { name, path } = this.subject();
    const { reason, ...details } = busy.describe(elapsed);
    const deadlock = deadline.deadlock && this.locked
      ? "holds"
      : deadline.deadlock;
    throw alreadyLocked(
      `Cannot lock ${formatSubject({ path: name })}: ${reason} ` +
        `(waited ${Math.round(elapsed)} ms)`,
      deadlock,
      { path, waited: elapsed, ...details },
    );
  }
}

function orNull<Held>(held: Held | Busy): Held | null {
  return held instanceof Busy ? null : held;
}

/** Made here so that a held lock does not keep the lock object reachable. */
function releasing(mutex: FifoMutex): () => void {
  return () => mutex.release();
}
