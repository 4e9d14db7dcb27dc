/** One timer for many waits, of which few last until it fires. */

import { clearTimeout, setTimeout } from "node:timers";
import { MAX_TIMER_MS, now } from "../../wait/deadline.ts";

/**
 * Each acquisition limits its wait for a reply, and nearly always gets the
 * reply first. To set and clear a timer of its own takes 3 to 5 µs.
 *
 * The timer does not keep the process alive.
 */
export class SharedTimer {
  /** When each callback is due, by `now`. */
  readonly #due = new Map<() => void, number>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #next = Infinity;

  /**
   * Calls a function after a number of milliseconds.
   *
   * @returns A function that clears the timer.
   */
  readonly set = (milliseconds: number, callback: () => void): () => void => {
    const due = now() + milliseconds;
    this.#due.set(callback, due);
    if (due < this.#next) this.#schedule(due);
    return () => this.#due.delete(callback);
  };

  /** Clears the timers of all callbacks. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#due.clear();
    this.#next = Infinity;
  }

  #schedule(due: number): void {
    clearTimeout(this.#timer);
    this.#next = due;
    // The time may be over: finding the callbacks that are due takes a while.
    const delay = Math.max(0, Math.min(due - now(), MAX_TIMER_MS));
    this.#timer = setTimeout(() => this.#fire(), delay);
    this.#timer.unref();
  }

  #fire(): void {
    const time = now();
    const expired: (() => void)[] = [];
    let next = Infinity;
    for (const [callback, due] of this.#due) {
      if (due <= time) expired.push(callback);
      else next = Math.min(next, due);
    }
    this.#next = Infinity;
    if (next < Infinity) this.#schedule(next);
    for (const callback of expired) {
      // One that was called before may have cleared it.
      if (this.#due.delete(callback)) callback();
    }
  }
}
