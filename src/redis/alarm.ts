/** One timer for all who expect an answer soon and hardly ever miss it. */

import { clearTimeout, setTimeout } from "node:timers";
import { MAX_TIMER_MS, now } from "../wait/deadline.ts";

/**
 * Setting a timer and clearing it again, for each answer, would cost more than
 * the rest of what is done while it is waited for. It keeps no process alive.
 */
export class Alarm {
  /** When to ring, in milliseconds of `now`. */
  readonly #due = new Map<() => void, number>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #next = Infinity;

  /** Rings after so many milliseconds, unless what it returns is called. */
  readonly set = (milliseconds: number, ring: () => void): () => void => {
    const end = now() + milliseconds;
    this.#due.set(ring, end);
    if (end < this.#next) this.#wait(end);
    return () => this.#due.delete(ring);
  };

  /** Forgets everybody. */
  end(): void {
    clearTimeout(this.#timer);
    this.#due.clear();
    this.#next = Infinity;
  }

  #wait(end: number): void {
    clearTimeout(this.#timer);
    this.#next = end;
    // To look at those who are late takes time, and may end after the next.
    const left = Math.max(0, Math.min(end - now(), MAX_TIMER_MS));
    this.#timer = setTimeout(() => this.#ring(), left);
    this.#timer.unref();
  }

  /** Those who were answered in time are not there any more. */
  #ring(): void {
    const moment = now();
    const late: (() => void)[] = [];
    let next = Infinity;
    for (const [ring, end] of this.#due) {
      if (end <= moment) late.push(ring);
      else next = Math.min(next, end);
    }
    for (const ring of late) this.#due.delete(ring);
    this.#next = Infinity;
    if (next < Infinity) this.#wait(next);
    for (const ring of late) ring();
  }
}
