/** When a waiter looks for a lock that nobody will hand to it. */

import { now } from "../../wait/deadline.ts";

/** The first pause after a foreigner's question, in milliseconds. */
const SOON = 5;

/** The longest one while a foreigner that asked may still leave. */
const OFTEN = 40;

/** Timers, and the look itself, are seldom later than that, in milliseconds. */
const LATE = 5;

/** Python's own patience, and its pause, after which it has asked again. */
const LEAVING = 2000;

/**
 * A foreigner that asked and was refused leaves without a word, and is back
 * some milliseconds later. Until then somebody has to look, and not always at
 * the same moment after a question: its turns could keep step with ours.
 */
export class Pacing {
  readonly #longest: number;
  #pause: number;
  #due: number;
  #leaving = 0;

  /** `longest` is the pause while there are no questions, lateness included. */
  constructor(longest: number) {
    this.#longest = this.#pause = longest - Math.min(LATE, longest / 20);
    this.#due = now() + this.#longest;
  }

  /** For how long to wait before looking, in milliseconds. */
  get left(): number {
    return Math.max(0, this.#due - now());
  }

  /** It has looked in vain. */
  looked(): void {
    const quick = now() < this.#leaving;
    const next = Math.min(this.#pause * 2, quick ? OFTEN : Infinity);
    this.#pause = Math.min(next, this.#longest);
    const pause = quick ? this.#pause * (0.5 + Math.random()) : this.#pause;
    this.#due = now() + Math.min(pause, this.#longest);
  }

  /**
   * A foreigner asked. However many ask, the next look is never put off.
   *
   * @returns Whether it is sooner than it was to be.
   */
  asked(): boolean {
    const at = now();
    this.#leaving = at + LEAVING;
    this.#pause = Math.min(SOON, this.#longest);
    if (this.#due <= at + this.#pause) return false;
    this.#due = at + this.#pause;
    return true;
  }
}
