/** How long one attempt to acquire a lock waits, and for what. */

import { now } from "../../wait/deadline.ts";
import type { Deadline } from "../../wait/deadline.ts";
import { ReplyTimeout } from "../protocol/errors.ts";
import { turnOfInput } from "./turn_of_input.ts";

/** What a server gets at least after this process has started. */
const START_MS = 250;

/** The limits of one acquisition, from its start. */
export class AttemptLimits<D extends Deadline = Deadline> {
  readonly deadline: D;
  /** How long the server may be silent, in milliseconds. */
  readonly unavailableTimeout: number;
  /** Whether to wait for other holders, not only for the server. */
  readonly canWait: boolean;
  #startEnd = 0;

  /** Creates the limits. Whether there is time to wait is decided now. */
  constructor(deadline: D, unavailableTimeout: number) {
    this.deadline = deadline;
    this.unavailableTimeout = unavailableTimeout;
    this.canWait = deadline.remaining > 0;
  }

  /**
   * Gives the server some time to answer after this process has needed all of
   * it to start. Otherwise the server would be blamed.
   */
  allowStart(): void {
    this.#startEnd = now() + START_MS;
  }

  /** How long the server may be silent from now on, in milliseconds. */
  get replyTimeout(): number {
    return Math.min(this.stepTimeout, this.unavailableTimeout);
  }

  /**
   * How long all steps on the server may take from now on, in milliseconds. A
   * reply may be late behind many others. If nothing arrives, the connection
   * ends by itself.
   */
  get stepTimeout(): number {
    if (!this.canWait) return Infinity;
    return Math.max(this.deadline.remaining, this.#startEnd - now());
  }
}

/**
 * Waits for something that cannot be cancelled.
 *
 * @param deadline The deadline of the acquisition, which may be cancelled.
 * @param end The time until which to wait, by `now`.
 * @param work What to wait for. Its result may be ignored.
 * @param state What the error says if the time is over.
 * @throws {ReplyTimeout} If `work` has not settled by then.
 * @throws What `work` or {@linkcode Deadline.sleepUntilWoken} throws.
 */
export async function withDeadline<T>(
  deadline: Deadline,
  end: number,
  work: Promise<T>,
  state = "the server does not answer",
): Promise<T> {
  // It may reject after this function has given up.
  work.catch(() => {});
  const settled = await deadline.sleepUntilWoken(end - now(), (wake) => {
    work.then(wake, wake);
    return () => {};
  });
  if (settled) return await work;
  // If the thread was busy, the result may have arrived and not been read.
  let late: { result: Promise<T> } | undefined;
  work.then(() => late = { result: work }, () => late = { result: work });
  await turnOfInput();
  if (late === undefined) throw new ReplyTimeout(state);
  return await late.result;
}
