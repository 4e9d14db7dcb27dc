/** Turns: a mutex among the tasks of one thread, first come, first served. */

import type { Patience } from "./deadline.ts";

/** One task at a time has the turn; the others queue for it. */
export class Turns {
  #taken = false;
  /** In order of arrival: what lets each waiting task in. */
  readonly #queue = new Set<() => void>();

  /** Takes the turn if nobody has it or waits for it. */
  tryTake(): boolean {
    // A turn that is passed on is never free in between: nobody overtakes.
    return this.#taken ? false : this.#taken = true;
  }

  /**
   * Takes the turn, waiting if need be; `false` when the wait is over first.
   *
   * @throws What {@linkcode Patience.untilWoken} throws.
   */
  take(patience: Patience): true | Promise<boolean> {
    return this.tryTake() || patience.untilWoken(patience.left, (enter) => {
      this.#queue.add(enter);
      return () => this.#queue.delete(enter);
    });
  }

  /** Passes the turn to whoever has waited longest. */
  pass(): void {
    const [next] = this.#queue;
    if (next) next();
    else this.#taken = false;
  }
}
