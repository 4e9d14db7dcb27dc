/**
 * `Reentrant`: a target that its holder can acquire again.
 *
 * To `acquire` the holder is the object. To `run` it is a {@linkcode RunScope},
 * which `AsyncLocalStorage` passes down to nested calls. Scopes wait for the
 * object in FIFO order, and end with their last `run`. A lock that is held
 * already is counted before `acquire` returns its promise: after an `await`, an
 * outer `run` might have released it.
 *
 * @module
 */

import type { LockerSettings } from "../../ffi/types.ts";
import type { Gen } from "../core/gensync.ts";
import type { HeldLock } from "../file/held_file.ts";
import { OperationQueue } from "../file/operation_queue.ts";
import { Busy } from "../wait/busy.ts";
import type { Deadline } from "../wait/deadline.ts";
import { FifoMutex } from "../wait/fifo_mutex.ts";
import type { LockTarget } from "./lock_target.ts";

/** The calls of `run` inside one outermost `run`. Ends with the last one. */
export class RunScope {
  entered = false;
  runs = 0;
}

/** The held lock, and how many acquisitions share it. */
interface SharedHold {
  readonly held: HeldLock;
  readonly operations: OperationQueue;
  count: number;
}

/** Acquires its target once and counts. The last release releases it. */
export class Reentrant implements LockTarget {
  readonly path: string;
  readonly exclusive: boolean;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly throwOnReleaseError: boolean;
  readonly #target: LockTarget;
  readonly #enteringScope: () => RunScope | undefined;
  /** Held by the task that acquires the target. */
  readonly #mutex = new FifoMutex();
  /** Held by the scope that uses the object. */
  readonly #scopeMutex = new FifoMutex();
  /** What acquisitions share. `undefined` also while it is relocked. */
  #shared: SharedHold | undefined;

  /** `enteringScope` returns the scope that the caller has yet to enter. */
  constructor(target: LockTarget, enteringScope: () => RunScope | undefined) {
    this.path = target.path;
    this.exclusive = target.exclusive;
    this.files = target.files;
    this.locker = target.locker;
    this.throwOnReleaseError = target.throwOnReleaseError;
    this.#target = target;
    this.#enteringScope = enteringScope;
  }

  /** Whether the caller holds the lock, so that `acquire` would only count. */
  get heldByCaller(): boolean {
    return this.#shared !== undefined && this.#enteringScope() === undefined;
  }

  *acquire(deadline: Deadline): Gen<HeldLock | Busy> {
    const scope = this.#enteringScope();
    if (scope && !(yield* acquireMutex(this.#scopeMutex, deadline))) {
      return busy("already locked by another task through this same object");
    }
    if (scope) Object.assign(scope, { entered: true, runs: 1 });
    while (this.#shared === undefined) {
      if (!(yield* acquireMutex(this.#mutex, deadline))) {
        return busy("already locked, and waited for through this same object");
      }
      try {
        if (this.#shared) break;
        const held = yield* this.#target.acquire(deadline);
        if (held instanceof Busy) return held;
        this.#shared = { held, operations: new OperationQueue(), count: 0 };
      } finally {
        this.#mutex.release();
      }
    }
    return this.#share(this.#shared);
  }

  /** Leaves a scope. The last `run` of a scope ends it. */
  leave(scope: RunScope): void {
    // A scope that was never entered has 0 runs and does not hold the mutex.
    if (--scope.runs === 0) this.#scopeMutex.release();
  }

  #share(shared: SharedHold): HeldLock {
    shared.count++;
    const { held, operations } = shared;
    const { path, file, mode, locker } = held;
    return {
      path,
      file,
      mode,
      locker,
      operations,
      get exclusive() {
        return held.exclusive;
      },
      set exclusive(value) {
        held.exclusive = value;
      },
      get notRelockable() {
        return shared.count > 1
          ? "it was acquired more than once, and each acquisition relies on " +
            "its lock type"
          : held.notRelockable;
      },
      onRelock: () => this.#beginRelock(shared),
      isInPlace: () => held.isInPlace(),
      onReleased: undefined,
      release: () => this.#release(shared),
    };
  }

  /** Until the relock is over, new acquisitions wait for its result. */
  #beginRelock(shared: SharedHold): (lost: boolean) => void {
    this.#shared = undefined;
    // A task that holds the mutex already will wait for the file.
    const locked = this.#mutex.tryAcquire();
    return (lost) => {
      if (!lost && shared.count > 0) this.#shared ??= shared;
      if (locked) this.#mutex.release();
    };
  }

  *#release(shared: SharedHold): Gen<void> {
    if (--shared.count > 0) return;
    if (this.#shared === shared) this.#shared = undefined;
    yield* shared.held.release();
  }
}

function* acquireMutex(mutex: FifoMutex, deadline: Deadline): Gen<boolean> {
  return mutex.tryAcquire() || (yield* mutex.wait(deadline));
}

function busy(reason: string): Busy {
  return new Busy(() => ({ reason }));
}
