/** When a waiter polls a lock that a Python client releases silently. */

import { now } from "../../wait/deadline.ts";

/** The first delay after a Python client's ping, in milliseconds. */
const MIN_DELAY_MS = 5;

/** The longest delay while a client that sent a ping may unsubscribe. */
const MAX_DELAY_MS = 40;

/** Timers and the poll itself are seldom later than this, in milliseconds. */
const TIMER_SLACK_MS = 5;

/** Python waits and pauses for less than this before it sends its next ping. */
const RETRY_WINDOW_MS = 2000;

/**
 * The times at which one waiter polls.
 *
 * A Python client that pinged and was refused unsubscribes without a message,
 * and subscribes again some milliseconds later. Until then the waiter has to
 * poll. The delay after a ping is random, because otherwise the polls could
 * always fall into the time in which the Python client is subscribed.
 */
export class PollSchedule {
  #maxDelay = 0;
  #delay = 0;
  #due = Infinity;
  #retryUntil = 0;

  /**
   * Creates a schedule.
   *
   * @param longest The delay between polls when no client sends pings, in
   * milliseconds, with the lateness of timers included.
   */
  constructor(longest: number) {
    this.setLongest(longest);
  }

  /**
   * Sets the delay between polls when no client sends pings. The next poll is
   * never later than before.
   */
  setLongest(longest: number): void {
    this.#maxDelay = longest - Math.min(TIMER_SLACK_MS, longest / 20);
    if (now() >= this.#retryUntil) this.#delay = this.#maxDelay;
    this.#due = Math.min(this.#due, now() + this.#maxDelay);
  }

  /** The time until the next poll, in milliseconds. */
  get remaining(): number {
    return Math.max(0, this.#due - now());
  }

  /** Schedules the next poll, after one that failed. */
  onPoll(): void {
    const quick = now() < this.#retryUntil;
    const next = Math.min(this.#delay * 2, quick ? MAX_DELAY_MS : Infinity);
    this.#delay = Math.min(next, this.#maxDelay);
    const delay = quick ? this.#delay * (0.5 + Math.random()) : this.#delay;
    this.#due = now() + Math.min(delay, this.#maxDelay);
  }

  /**
   * Polls soon, because a Python client sent a ping. Further pings never
   * postpone the next poll.
   *
   * @returns Whether the next poll is sooner than before.
   */
  onPing(): boolean {
    const time = now();
    this.#retryUntil = time + RETRY_WINDOW_MS;
    this.#delay = Math.min(MIN_DELAY_MS, this.#maxDelay);
    if (this.#due <= time + this.#delay) return false;
    this.#due = time + this.#delay;
    return true;
  }
}
