/** Turns: a mutex among the tasks of one thread, first come, first served. */

import { LONGEST_SLEEP, remaining } from "./wait.ts";
import type { Wait } from "../options.ts";

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
   * @throws The reason of the signal, once it is aborted.
   */
  take(wait: Wait, start: number): Promise<boolean> {
    return new Promise((resolve, reject) => {
      if (this.tryTake()) return resolve(true);
      const { signal } = wait;
      let timer: ReturnType<typeof setTimeout> | undefined;
      const leave = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        this.#queue.delete(enter);
      };
      const enter = () => {
        leave();
        resolve(true);
      };
      const abort = () => {
        leave();
        reject(signal?.reason);
      };
      const watchTheClock = () => {
        const left = remaining(wait, start);
        if (left > 0) {
          if (left === Infinity) return;
          timer = setTimeout(watchTheClock, Math.min(left, LONGEST_SLEEP));
        } else {
          leave();
          resolve(false);
        }
      };
      this.#queue.add(enter);
      signal?.addEventListener("abort", abort, { once: true });
      watchTheClock();
    });
  }

  /** Passes the turn to whoever has waited longest. */
  pass(): void {
    const [next] = this.#queue;
    if (next) next();
    else this.#taken = false;
  }
}
