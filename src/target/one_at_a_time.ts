/** Makes any claim a mutex among the tasks that share one lock object. */

import type { LockerSettings } from "../../ffi/types.ts";
import { op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import type { Deadline } from "../wait/deadline.ts";
import { FifoMutex } from "../wait/fifo_mutex.ts";
import { Busy } from "./lock_target.ts";
import type { Hold, LockTarget } from "./lock_target.ts";

/** A claim that is held once at a time; the others queue for it. */
export class OneAtATime implements LockTarget {
  readonly path: string;
  readonly exclusive: boolean;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly #target: LockTarget;
  readonly #mutex = new FifoMutex();
  #held = false;
  readonly #released = () => {
    this.#held = false;
    this.#mutex.release();
  };

  constructor(target: LockTarget) {
    this.#target = target;
    this.path = target.path;
    this.exclusive = target.exclusive;
    this.files = target.files;
    this.locker = target.locker;
  }

  *acquire(deadline: Deadline, waits: () => void): Gen<Hold | Busy> {
    const inTurn = this.#mutex.tryAcquire() ||
      (yield* this.#queue(deadline, waits));
    if (!inTurn) return this.#refused(this.#held);
    try {
      const held = yield* this.#target.acquire(deadline, waits);
      if (held instanceof Busy) return held;
      this.#held = true;
      held.onReleased = this.#released;
      return held;
    } finally {
      if (!this.#held) this.#mutex.release();
    }
  }

  #queue(deadline: Deadline, waits: () => void): Gen<boolean> {
    return op(
      {
        async: () => {
          if (deadline.remaining > 0) waits();
          return this.#mutex.acquire(deadline);
        },
        sync: () => false,
      },
    );
  }

  #refused(held: boolean): Busy {
    const reason = held
      ? "already locked through this same object, which is not reentrant"
      : "already locked, and waited for through this same object";
    return new Busy(() => ({ reason }));
  }
}
