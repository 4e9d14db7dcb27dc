/** Finds out that a thread has not run for a while. */

import { now } from "../../wait/deadline.ts";

/**
 * Measures how long the thread has not run its timers. While it does not, it
 * cannot learn that its connection was closed.
 *
 * A computation of 30 s is C. T is the timer that fires every second, R a reply
 * of the server, and L a lease.
 *
 * - C ends and looks at the clock before T fires: the last run was 30 s ago.
 * - C ends, T fires, and the code that continues after C looks at the clock: T
 *   has kept the 30 s, because it cannot know what happened meanwhile.
 * - C ends, T fires and asks the server, and R arrives: the connection lived
 *   when the server sent R, so nothing was lost. The stall is over.
 * - C ends, and R, which was sent before C, is read after T: it proves nothing.
 * - C ends, L is requested and granted, and its user looks at the clock before
 *   R arrives: the server granted L after C, so only the time since the request
 *   counts. The same is true if T is slow, because it belongs to locks with a
 *   longer timeout.
 *
 * The clock of `now` stops while the machine sleeps, so the time of day counts,
 * too. If it is set, a stall is suspected until the next reply.
 */
export class StallClock {
  #lastRun: Moment = { time: 0, date: 0 };
  /** The stall since which the server has not replied. */
  #stall: { readonly start: Moment; readonly end: Moment } | undefined;

  /** Begins to measure. */
  start(): void {
    this.#lastRun = moment();
    this.#stall = undefined;
  }

  /**
   * How long the thread has not run since a moment, or had not before the last
   * reply, in milliseconds.
   */
  elapsedSince(since: Moment): number {
    const stall = this.#stall;
    const before = stall ? between(later(stall.start, since), stall.end) : 0;
    return Math.max(before, between(later(this.#lastRun, since), moment()));
  }

  /**
   * Records that the thread runs.
   *
   * @param limit The shortest stall that counts, in milliseconds.
   */
  onRun(limit: number): void {
    const last = this.#lastRun;
    const end = this.#lastRun = moment();
    if (between(last, end) <= limit) return;
    this.#stall = { start: this.#stall?.start ?? last, end };
  }

  /** Records the reply to a question that was sent at this moment. */
  onReply(asked: Moment): void {
    if (asked.time >= (this.#stall?.end.time ?? 0)) this.#stall = undefined;
    this.#lastRun = later(this.#lastRun, asked);
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

function later(a: Moment, b: Moment): Moment {
  return a.time < b.time ? b : a;
}

/** The time between two moments by the faster clock, in milliseconds. */
function between(start: Moment, end: Moment): number {
  if (start.time >= end.time) return 0;
  return Math.max(end.time - start.time, end.date - start.date);
}
