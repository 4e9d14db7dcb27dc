/** Reports a wait that lasts, as the option `onWait` asks. */

import type { RemoteHolder } from "../core/errors.ts";
import { callerError } from "../core/stack.ts";
import { Deadline } from "../wait/deadline.ts";
import type { Transfer } from "./protocol/transfer.ts";
import type { LastingRedisWait, RedisWaitSettings } from "./options.ts";

/** The lock that a {@linkcode RedisDeadline} belongs to. */
export interface WaitSubject {
  readonly channel: string;
  /** Called once, when the first attempt did not get the lock. */
  readonly onContended: () => void;
  /** Asks the server. Rejects if it does not answer. */
  readonly findHolders: () => Promise<RemoteHolder[]>;
}

/**
 * The deadline of one acquisition in Redis.
 *
 * `onWait` is due when the wait is long (L) and another holder is in the way
 * (C). Then the server is asked (A), and its reply (R) calls `onWait`. The end
 * of the acquisition (E) may come between any two of these steps:
 *
 * - L C A R, or C L A R: a slow server is not yet another holder, and a short
 *   wait is not reported. So the later one of L and C asks.
 * - L C A E R: the lock was granted, or the wait has ended. `onWait` would
 *   report a wait that is over, so R does nothing.
 * - L C A R E: `onWait` throws. The error ends the wait, if E was not earlier.
 * - L C A E: the server does not reply. The wait does not depend on it.
 */
export class RedisDeadline extends Deadline {
  /** Whether the caller gets an error with the holder, and not `null`. */
  readonly namesHolder: boolean;
  /** The lease to adopt. Without one, the lock is acquired. */
  transfer: Transfer | undefined;
  #over = false;

  /** Starts the clock, or earlier if the wait is a part of another one. */
  constructor(
    wait: RedisWaitSettings,
    subject: WaitSubject,
    namesHolder: boolean,
    start?: number,
  ) {
    const { onWait } = wait;
    const report = onWait && oncePerPair(() => this.#report(onWait, subject));
    const callbacks = report && {
      onContended: () => {
        subject.onContended();
        report("contended");
      },
      onWait: () => report("long"),
    };
    super(wait, callbacks ?? subject, start);
    this.namesHolder = namesHolder;
  }

  /** Ends the reports: the acquisition has its result. */
  end(): void {
    this.#over = true;
  }

  async #report(
    onWait: (wait: LastingRedisWait) => void,
    { channel, findHolders }: WaitSubject,
  ): Promise<void> {
    const holders = await findHolders().catch(() => []);
    if (this.#over) return;
    try {
      onWait({ channel, waited: this.elapsed, holders });
    } catch (error) {
      this.cancel(callerError(error));
    }
  }
}

/** Returns a function that acts once it was called for both reasons. */
function oncePerPair(
  act: () => void,
): (reason: "contended" | "long") => void {
  const seen = new Set<string>();
  return (reason) => {
    if (seen.size === 2) return;
    if (seen.add(reason).size === 2) act();
  };
}
