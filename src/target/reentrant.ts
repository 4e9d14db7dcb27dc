/** A claim that may be taken again while it is held. */

import type { LockerSettings } from "../../ffi/types.ts";
import { op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import type { Deadline } from "../wait/deadline.ts";
import { FifoMutex } from "../wait/fifo_mutex.ts";
import { Busy } from "./lock_target.ts";
import type { Hold, LockTarget } from "./lock_target.ts";

/** What runs inside one outermost `run`; it ends with the last of them. */
export class RunScope {
  entered = false;
  runs = 0;
}

/** What was taken, and by how many. */
interface SharedHold {
  readonly held: Hold;
  count: number;
}

/** Counts; the first taker takes the claim, the last release gives it back. */
export class Reentrant implements LockTarget {
  readonly path: string;
  readonly exclusive: boolean;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly #target: LockTarget;
  readonly #enteringScope: () => RunScope | undefined;
  /** Among those who take the claim. */
  readonly #mutex = new FifoMutex();
  /** Among the scopes. */
  readonly #scopeMutex = new FifoMutex();
  /** What others may take as well, unless it is being changed. */
  #shared: SharedHold | undefined;

  /** `entering` gives the scope that a taker has yet to enter. */
  constructor(target: LockTarget, enteringScope: () => RunScope | undefined) {
    this.path = target.path;
    this.exclusive = target.exclusive;
    this.files = target.files;
    this.locker = target.locker;
    this.#target = target;
    this.#enteringScope = enteringScope;
  }

  /** Whether taking it would do no more than count. */
  get heldByCaller(): boolean {
    return this.#shared !== undefined && this.#enteringScope() === undefined;
  }

  *acquire(deadline: Deadline, waits: () => void): Gen<Hold | Busy> {
    const scope = this.#enteringScope();
    if (scope && !(yield* acquireMutex(this.#scopeMutex, deadline, waits))) {
      return busy("already locked by another task through this same object");
    }
    if (scope) Object.assign(scope, { entered: true, runs: 1 });
    while (this.#shared === undefined) {
      if (!(yield* acquireMutex(this.#mutex, deadline, waits))) {
        return busy(
          "already locked, and waited for through this same object",
        );
      }
      try {
        if (this.#shared) break;
        const held = yield* this.#target.acquire(deadline, waits);
        if (held instanceof Busy) return held;
        this.#shared = { held, count: 0 };
      } finally {
        this.#mutex.release();
      }
    }
    return this.#share(this.#shared);
  }

  /** Leaves the scope, which ends it if nobody else is in it. */
  leave(scope: RunScope): void {
    // A scope that was never entered has none, and no turn to pass.
    if (--scope.runs === 0) this.#scopeMutex.release();
  }

  #share(shared: SharedHold): Hold {
    shared.count++;
    const { held } = shared;
    const { path, file, mode, locker } = held;
    return {
      path,
      file,
      mode,
      locker,
      get exclusive() {
        return held.exclusive;
      },
      set exclusive(value) {
        held.exclusive = value;
      },
      get notRelockable() {
        return shared.count > 1
          ? "it was acquired more than once, and each relies on its kind"
          : held.notRelockable;
      },
      onRelock: () => this.#beginRelock(shared),
      onReleased: undefined,
      release: () => this.#release(shared),
    };
  }

  /** Until it is over whoever comes waits, and takes what is there then. */
  #beginRelock(shared: SharedHold): (lost: boolean) => void {
    this.#shared = undefined;
    // Who has the turn already will compete for the file.
    const inTurn = this.#mutex.tryAcquire();
    return (lost) => {
      if (!lost && shared.count > 0) this.#shared ??= shared;
      if (inTurn) this.#mutex.release();
    };
  }

  *#release(shared: SharedHold): Gen<void> {
    if (--shared.count > 0) return;
    if (this.#shared === shared) this.#shared = undefined;
    yield* shared.held.release();
  }
}

function acquireMutex(
  mutex: FifoMutex,
  deadline: Deadline,
  waits: () => void,
): Gen<boolean> {
  return op({
    async: () => {
      const inTurn = mutex.tryAcquire();
      if (!inTurn && deadline.remaining > 0) waits();
      return inTurn || mutex.acquire(deadline);
    },
    sync: () => mutex.tryAcquire(),
  });
}

function busy(reason: string): Busy {
  return new Busy(() => ({ reason }));
}
