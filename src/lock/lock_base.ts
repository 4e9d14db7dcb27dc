/** `LockBase`: what all file locks have in common. */

import { hasSubscribers, publish } from "../core/diagnostics.ts";
import { aggregateReleaseErrors } from "../core/errors.ts";
import { findHolders } from "../core/holders.ts";
import { runAsync, runSync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { anchor, atEdge, atEdgeAsync, captureCaller } from "../core/stack.ts";
import { untrack, warnWhenCollected } from "../core/leak_guard.ts";
import type { HeldLock } from "../file/held_file.ts";
import { closeAll, closeAllSync, LockedFile } from "../file/locked_file.ts";
import { resolveAcquireOptions } from "../options/acquire_options.ts";
import type {
  AcquireOptions,
  WaitSettings,
} from "../options/acquire_options.ts";
import type { LockTarget } from "../target/lock_target.ts";
import { Acquirable, ONE_ATTEMPT } from "../wait/acquirable.ts";
import { Busy } from "../wait/busy.ts";
import { Deadline, now } from "../wait/deadline.ts";
import type { FifoMutex } from "../wait/fifo_mutex.ts";

/**
 * A lock on one or more files: the base of {@linkcode Lock} and the other
 * classes of file locks. `acquire` returns the open, locked file.
 */
export abstract class LockBase extends Acquirable<LockedFile, AcquireOptions>
  implements Disposable {
  readonly #target: LockTarget;
  readonly #wait: WaitSettings;

  /** @ignore Called by the lock classes. */
  protected constructor(
    target: LockTarget,
    wait: WaitSettings,
    mutex?: FifoMutex,
  ) {
    super(mutex);
    this.#target = target;
    this.#wait = wait;
  }

  /**
   * {@linkcode Acquirable.acquire}, blocking the thread. Does not wait for a
   * lock that this thread holds, through any object, because no task could
   * release it meanwhile: throws {@linkcode AlreadyLocked} with the code
   * `"EDEADLK"` at once, whatever the timeout.
   *
   * With `timeout: Infinity` and without `onWait`, the main thread blocks in
   * the kernel, on every system: the fastest way to get a lock that another
   * process holds.
   *
   * @param options Options that differ from those of the lock.
   * @returns The open, locked file. Closing it releases the lock.
   * @throws What {@linkcode Acquirable.acquire} throws.
   */
  acquireSync(options?: AcquireOptions): LockedFile {
    // Not with `atEdge`: the closure would cost 2 % of an acquisition.
    try {
      const deadline = this.startDeadline(options);
      const held = runSync(this.attempt(deadline));
      return held instanceof Busy ? this.throwBusy(held, deadline) : held;
    } catch (error) {
      throw anchor(error, captureCaller(LockBase.prototype.acquireSync));
    }
  }

  /**
   * {@linkcode Acquirable.tryAcquire}, blocking the thread.
   *
   * @returns The open, locked file, or `null` if another holder has the lock.
   * @throws What {@linkcode Acquirable.tryAcquire} throws.
   */
  tryAcquireSync(): LockedFile | null {
    return atEdge(LockBase.prototype.tryAcquireSync, () => {
      const held = runSync(this.attempt(this.startDeadline(ONE_ATTEMPT)));
      return held instanceof Busy ? null : held;
    });
  }

  /**
   * {@linkcode Acquirable.release}, blocking the thread.
   *
   * @throws What {@linkcode Acquirable.release} throws.
   */
  releaseSync(): void {
    try {
      this.latest()?.endSync();
    } catch (error) {
      throw anchor(error, captureCaller(LockBase.prototype.releaseSync));
    }
  }

  /** Releases everything that this object holds. */
  override [Symbol.asyncDispose](): Promise<void> {
    return atEdgeAsync(
      LockBase.prototype[Symbol.asyncDispose],
      async () => throwAny(await closeAll(this.held)),
    );
  }

  /** Releases everything that this object holds. */
  [Symbol.dispose](): void {
    return atEdge(
      LockBase.prototype[Symbol.dispose],
      () => throwAny(closeAllSync(this.held)),
    );
  }

  /** @ignore */
  protected override latest(): LockedFile | undefined {
    return this.held.findLast(({ closing }) => !closing);
  }

  /** @ignore */
  protected override end(file: LockedFile): Promise<void> | void {
    return file.end();
  }

  /** @ignore */
  protected override get mayThrowAfterBody(): boolean {
    return this.#target.throwOnReleaseError;
  }

  /** @ignore */
  protected override subject(): { name: string; path: string } {
    const { path } = this.#target;
    return { name: path, path };
  }

  /** @ignore */
  protected override startDeadline(
    options: AcquireOptions | undefined,
    exclusive: boolean = this.#target.exclusive,
    start?: number,
  ): Deadline {
    const wait = options === undefined
      ? this.#wait
      : resolveAcquireOptions(options, this.#wait);
    const { onWait } = wait;
    const target = this.#target;
    const { path } = target;
    return new Deadline(wait, {
      onContended: () => publish("wait", () => ({ path, exclusive })),
      onWait: onWait && ((waited) => {
        const holders = findHolders(target.files, true, target.locker);
        onWait({ path, waited, holders });
      }),
    }, start);
  }

  /** @ignore */
  protected override attemptAsync(
    deadline: Deadline,
  ): LockedFile | Busy | Promise<LockedFile | Busy> {
    return runAsync(this.attempt(deadline));
  }

  /** @ignore {@linkcode LockBase.attemptAsync} in both forms. */
  protected *attempt(deadline: Deadline): Gen<LockedFile | Busy> {
    deadline.throwIfAborted();
    const { mutex } = this;
    if (!mutex) return yield* this.#acquireTarget(deadline);
    if (!mutex.tryAcquire() && !(yield* mutex.wait(deadline))) {
      return this.busyHere();
    }
    let held: LockedFile | Busy | undefined;
    try {
      return held = yield* this.#acquireTarget(deadline);
    } finally {
      if (held === undefined || held instanceof Busy) mutex.release();
    }
  }

  /** Acquires the lock on the files. */
  *#acquireTarget(deadline: Deadline): Gen<LockedFile | Busy> {
    const held = yield* this.#target.acquire(deadline);
    if (held instanceof Busy) return held;
    if (this.unlockMutex) held.onReleased = this.unlockMutex;
    return this.#lockedFile(held, deadline);
  }

  #lockedFile(held: HeldLock, deadline: Deadline): LockedFile {
    const { path, exclusive } = held;
    const since = hasSubscribers("release") ? now() : undefined;
    if (hasSubscribers("acquire")) {
      const { elapsed } = deadline;
      publish("acquire", () => ({ path, exclusive, waited: elapsed }));
    }
    const file: LockedFile = new LockedFile({
      held,
      startDeadline: (options, exclusive) =>
        this.startDeadline(options, exclusive),
      release: () => this.#release(file, held, since),
    });
    this.held.push(file);
    if (!held.mayBeLost) warnWhenCollected(file, path);
    return file;
  }

  *#release(
    file: LockedFile,
    held: HeldLock,
    since: number | undefined,
  ): Gen<void> {
    const { path, exclusive } = held;
    untrack(file);
    try {
      yield* held.release();
    } finally {
      this.held.splice(this.held.indexOf(file), 1);
      if (hasSubscribers("release")) {
        const duration = since && now() - since;
        publish("release", () => ({ path, exclusive, held: duration }));
      }
    }
  }
}

function throwAny(errors: unknown[]): void {
  if (errors.length === 0) return;
  throw errors.length === 1 ? errors[0] : aggregateReleaseErrors(errors);
}
