/** Finds out that a thread has not run for a while. */

import { now } from "../../wait/deadline.ts";

/**
 * Measures how long the thread has not run its timers. While it does not, it
 * cannot learn that its connection was closed.
 *
 * A computation of 30 s is C. T is the timer that fires every second, R a reply
 * of the server.
 *
 * - C ends and looks at the clock before T fires: the last run was 30 s ago.
 * - C ends, T fires, and the code that continues after C looks at the clock: T
 *   has kept the 30 s, because it cannot know what happened meanwhile.
 * - C ends, T fires and asks the server, and R arrives: the connection lived
 *   when the server sent R, so nothing was lost. The stall is over.
 * - C ends, and R, which was sent before C, is read after T: it proves nothing.
 *
 * The clock of `now` stops while the machine sleeps, so the time of day counts,
 * too. If it is set, a stall is suspected until the next reply.
 */
export class StallClock {
  #lastRun: Moment = { time: 0, date: 0 };
  /** The stall since which the server has not replied, in milliseconds. */
  #stall = 0;
  #stallEnd = 0;

  /** Begins to measure. */
  start(): void {
    this.#lastRun = moment();
    this.#stall = 0;
  }

  /** How long the thread has not run, or had not before the last reply. */
  get elapsed(): number {
    return Math.max(this.#stall, this.#sinceRun);
  }

  /**
   * Records that the thread runs.
   *
   * @param limit The shortest stall that counts, in milliseconds.
   */
  onRun(limit: number): void {
    const elapsed = this.#sinceRun;
    this.#lastRun = moment();
    if (elapsed <= limit) return;
    this.#stall = Math.max(this.#stall, elapsed);
    this.#stallEnd = this.#lastRun.time;
  }

  /** Records the reply to a question that was sent at this moment. */
  onReply(asked: Moment): void {
    if (asked.time >= this.#stallEnd) this.#stall = 0;
    if (asked.time > this.#lastRun.time) this.#lastRun = asked;
  }

  get #sinceRun(): number {
    const { time, date } = this.#lastRun;
    return Math.max(now() - time, Date.now() - date);
  }
}

/** A moment, by both clocks. */
export interface Moment {
  /** By `now`. */
  readonly time: number;
  readonly date: number;
}

/** Returns this moment. */
export function moment(): Moment {
  return { time: now(), date: Date.now() };
}
