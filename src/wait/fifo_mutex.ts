/** A mutex among the tasks of one thread. */

import { op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import type { Deadline } from "./deadline.ts";

/** One task at a time holds it. The others wait in FIFO order. */
export class FifoMutex {
  #locked = false;
  /** Wakes each waiting task, in order of arrival. */
  readonly #waiters = new Set<() => void>();

  /** Acquires the mutex unless a task holds it. Does not wait. */
  tryAcquire(): boolean {
    // `release` hands the mutex to the next waiter without unlocking it, so a
    // newcomer cannot overtake the queue.
    return this.#locked ? false : this.#locked = true;
  }

  /**
   * Acquires the mutex. Waits until the deadline if a task holds it.
   *
   * @returns Whether the mutex is held.
   * @throws What {@linkcode Deadline.sleepUntilWoken} throws.
   */
  acquire(deadline: Deadline): true | Promise<boolean> {
    return this.tryAcquire() ||
      deadline.sleepUntilWoken(deadline.remaining, (wake) => {
        this.#waiters.add(wake);
        return () => this.#waiters.delete(wake);
      });
  }

  /**
   * {@linkcode FifoMutex.acquire} after an attempt that failed. A blocked
   * thread does not wait, because its own tasks could not release the mutex
   * meanwhile. If it was to wait, {@linkcode Deadline.deadlock} says so.
   */
  wait(deadline: Deadline): Gen<boolean> {
    return op({
      async: () => {
        if (deadline.remaining > 0) deadline.markContended();
        return this.acquire(deadline);
      },
      sync: () => {
        const acquired = this.tryAcquire();
        if (!acquired && deadline.remaining > 0) deadline.deadlock = "awaits";
        return acquired;
      },
    });
  }

  /** Hands the mutex to the task that has waited longest, or unlocks it. */
  release(): void {
    const [next] = this.#waiters;
    if (next) next();
    else this.#locked = false;
  }
}
