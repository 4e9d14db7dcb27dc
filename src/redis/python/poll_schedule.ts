/** When a waiter looks for a lock that nobody will hand to it. */

import { now } from "../../wait/deadline.ts";

/** The first pause after a foreigner's question, in milliseconds. */
const MIN_DELAY_MS = 5;

/** The longest one while a foreigner that asked may still leave. */
const MAX_DELAY_MS = 40;

/** Timers, and the look itself, are seldom later than that, in milliseconds. */
const TIMER_SLACK_MS = 5;

/** Python's own patience, and its pause, after which it has asked again. */
const RETRY_WINDOW_MS = 2000;

/**
 * A foreigner that asked and was refused leaves without a word, and is back
 * some milliseconds later. Until then somebody has to look, and not always at
 * the same moment after a question: its turns could keep step with ours.
 */
export class PollSchedule {
  readonly #maxDelay: number;
  #delay: number;
  #due: number;
  #retryUntil = 0;

  /** `longest` is the pause while there are no questions, lateness included. */
  constructor(longest: number) {
    this.#maxDelay = this.#delay = longest -
      Math.min(TIMER_SLACK_MS, longest / 20);
    this.#due = now() + this.#maxDelay;
  }

  /** For how long to wait before looking, in milliseconds. */
  get remaining(): number {
    return Math.max(0, this.#due - now());
  }

  /** It has looked in vain. */
  onPoll(): void {
    const quick = now() < this.#retryUntil;
    const next = Math.min(this.#delay * 2, quick ? MAX_DELAY_MS : Infinity);
    this.#delay = Math.min(next, this.#maxDelay);
    const delay = quick ? this.#delay * (0.5 + Math.random()) : this.#delay;
    this.#due = now() + Math.min(delay, this.#maxDelay);
  }

  /**
   * A foreigner asked. However many ask, the next look is never put off.
   *
   * @returns Whether it is sooner than it was to be.
   */
  onPing(): boolean {
    const at = now();
    this.#retryUntil = at + RETRY_WINDOW_MS;
    this.#delay = Math.min(MIN_DELAY_MS, this.#maxDelay);
    if (this.#due <= at + this.#delay) return false;
    this.#due = at + this.#delay;
    return true;
  }
}
