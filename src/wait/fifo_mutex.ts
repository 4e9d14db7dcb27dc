/** Turns: a mutex among the tasks of one thread, first come, first served. */

import type { Deadline } from "./deadline.ts";

/** One task at a time has the turn; the others queue for it. */
export class FifoMutex {
  #locked = false;
  /** In order of arrival: what lets each waiting task in. */
  readonly #waiters = new Set<() => void>();

  /** Takes the turn if nobody has it or waits for it. */
  tryAcquire(): boolean {
    // A turn that is passed on is never free in between: nobody overtakes.
    return this.#locked ? false : this.#locked = true;
  }

  /**
   * Takes the turn, waiting if need be; `false` when the wait is over first.
   *
   * @throws What {@linkcode Deadline.sleepUntilWoken} throws.
   */
  acquire(deadline: Deadline): true | Promise<boolean> {
    return this.tryAcquire() ||
      deadline.sleepUntilWoken(deadline.remaining, (wake) => {
        this.#waiters.add(wake);
        return () => this.#waiters.delete(wake);
      });
  }

  /** Passes the turn to whoever has waited longest. */
  release(): void {
    const [next] = this.#waiters;
    if (next) next();
    else this.#locked = false;
  }
}
