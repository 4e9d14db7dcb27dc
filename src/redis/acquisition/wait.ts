/** The wait of one acquisition, until it holds the lock or gives up. */

import { now } from "../../wait/deadline.ts";
import type { AttemptLimits } from "../connection/attempt_limits.ts";
import { replyCode, ReplyTimeout } from "../protocol/errors.ts";
import { parseMember } from "../protocol/keys.ts";
import type { Operation } from "../protocol/scripts.ts";
import { allPeersShared } from "../python/peers.ts";
import { PollSchedule } from "../python/poll_schedule.ts";
import type { Acquisition } from "./acquisition.ts";
import type { LivenessProbe } from "./liveness.ts";

/** What prevented an acquisition, by the last reply of the server. */
export interface Blockers {
  /** The number of Python clients that are subscribed. */
  readonly pythonClients: number;
  /** The records of the holders. */
  readonly holders: readonly string[];
}

/** How to wait. */
export interface AcquireWaitSettings {
  readonly limits: AttemptLimits;
  /** Where holders are probed. */
  readonly liveness: LivenessProbe;
}

/**
 * The wait of one acquisition.
 *
 * It sends one step at a time, and sleeps until the state of the acquisition
 * changes or the next poll is due. The steps can interleave with other events
 * in these ways. A is this acquisition, H the holder:
 *
 * - A.1 sends `wait` and is queued. H.1 releases the lock, which grants it to
 *   A and publishes `granted`. A.2 reads both replies in one chunk and handles
 *   the message first. So A.3, the reply to A.1, is older than the grant, and
 *   must not set the state back. A reply to `check` can be older in the same
 *   way. If it is not older, the server has lost the record. `verify` finds
 *   out which it is.
 * - A.1 sleeps until a poll. H.1 releases the lock, and A.2 is woken by the
 *   message: it does not poll.
 * - A.1 polls, and P.1, a ping of a Python client, schedules a poll before the
 *   reply to A.1: at most one step is under way, so this poll does nothing, and
 *   the schedule sets the next.
 * - A.1 pings the Python clients, and A.2 polls before they have replied. A.3
 *   has the result while A.2 is under way, and waits for the reply to A.2
 *   before it sends its own step. If it skipped that step instead, this could
 *   happen with every result.
 * - A.1 pings the Python clients, and A.2 gets the lock, is aborted or loses
 *   the connection: the ping ends, and its result is not used.
 */
export class AcquireWait {
  readonly #acquisition: Acquisition;
  readonly #settings: AcquireWaitSettings;
  readonly #schedule: PollSchedule;
  #blockers: Blockers = { pythonClients: 0, holders: [] };
  #wake: () => void = () => {};
  /** Settles after the reply to the step that is under way is handled. */
  #pendingStep: Promise<void> | undefined;
  #probing = false;
  #stopProbing: () => void = () => {};

  /** Creates a wait, without sending anything. */
  constructor(acquisition: Acquisition, settings: AcquireWaitSettings) {
    this.#acquisition = acquisition;
    this.#settings = settings;
    this.#schedule = new PollSchedule(settings.limits.deadline.checkInterval);
    acquisition.onChange = () => this.#onChange();
    acquisition.onPing = () => this.#onPing();
  }

  /** What prevented the acquisition, by the last reply of the server. */
  get blockers(): Blockers {
    return this.#blockers;
  }

  /**
   * Sends the first step, and waits until the acquisition holds the lock, is
   * refused, or the time is over.
   *
   * @throws The error of the server or of the connection, and what
   * {@linkcode Deadline.sleepUntilWoken} throws.
   */
  async run(): Promise<void> {
    const { connection, subscribed } = this.#acquisition;
    const { deadline, unavailableTimeout } = this.#settings.limits;
    connection.startHeartbeat(unavailableTimeout);
    try {
      await Promise.all([this.#runSteps(), subscribed]);
    } catch (error) {
      if (deadline.wasCancelledWith(error)) throw error;
      // The error of the client only says that it was closed.
      throw connection.failure?.error ?? error;
    }
  }

  async #runSteps(): Promise<void> {
    const { limits } = this.#settings;
    const acquisition = this.#acquisition;
    this.#step(limits.canWait ? "wait" : "attempt");
    const end = now() + limits.stepTimeout;
    while (acquisition.isPending) {
      const remaining = end - now();
      if (remaining <= 0) break;
      const woken = await this.#pause(remaining);
      if (woken || acquisition.state !== "queued") continue;
      this.#schedule.onPoll();
      this.#step("check");
    }
    acquisition.throwIfLost();
    if (acquisition.state === "requested" && !this.#probing) {
      throw new ReplyTimeout("the server has not answered");
    }
  }

  #pause(remaining: number): Promise<boolean> {
    const { connection, state } = this.#acquisition;
    const queued = state === "queued";
    return this.#settings.limits.deadline.sleepUntilWoken(
      queued ? Math.min(remaining, this.#schedule.remaining) : remaining,
      (wake) => {
        this.#wake = wake;
        return () => this.#wake = () => {};
      },
      { setTimer: queued ? undefined : connection.replyTimer.set },
    );
  }

  #onChange(): void {
    if (!this.#acquisition.isPending) this.#stopProbing();
    this.#wake();
  }

  /** A Python client that pings unsubscribes soon, if it does not get the lock. */
  #onPing(): void {
    if (this.#acquisition.state === "queued" && this.#schedule.onPing()) {
      this.#wake();
    }
  }

  /** Sends a step, unless one is under way. */
  #step(operation: Operation, expectedPeers = ""): void {
    if (this.#pendingStep) return;
    this.#pendingStep = this.#acquisition.send(operation, expectedPeers).then(
      (reply) => {
        this.#pendingStep = undefined;
        this.#onReply(operation, reply);
      },
      (error) => {
        this.#pendingStep = undefined;
        // The server has become a replica, so all locks on it are lost.
        if (replyCode(error) === "READONLY") {
          this.#acquisition.connection.fail(error);
        } else this.#acquisition.stepFailed(error);
      },
    );
  }

  #onReply(operation: Operation, reply: unknown): void {
    const acquisition = this.#acquisition;
    if (typeof reply === "string") return acquisition.granted(reply);
    // The reply is older than the grant, or the record is lost; see the class.
    if (acquisition.held) return void acquisition.verify();
    if (!acquisition.isPending) return;
    const [pythonClients, position, ...members] = reply as [
      number,
      number,
      ...string[],
    ];
    const holders = position === 0 ? members : [];
    this.#blockers = { pythonClients, holders };
    const canJoin = acquisition.lockType === "s" && pythonClients > 0 &&
      !this.#probing &&
      holders.every((holder) => holder.startsWith("s"));
    if (canJoin) {
      this.#joinPythonReaders(operation === "attempt" ? "attempt" : "check");
    } else if (operation === "attempt") acquisition.queued("refused");
    if (operation === "check") this.#probeHolders(holders);
    if (operation !== "wait") return;
    this.#settings.limits.deadline.markContended();
    acquisition.queued("queued");
  }

  /** Enters beside Python clients, if all of them share the lock. */
  async #joinPythonReaders(operation: "attempt" | "check"): Promise<void> {
    const { connection, keys } = this.#acquisition.subscription;
    const { unavailableTimeout: timeout } = this.#settings.limits;
    this.#probing = true;
    const cancelled = new Promise<void>((resolve) =>
      this.#stopProbing = resolve
    );
    const count = await allPeersShared(connection, keys, { timeout, cancelled })
      .catch(() => undefined);
    // The result must not be dropped because a step is under way; see above.
    while (this.#pendingStep) await this.#pendingStep;
    if (this.#acquisition.isPending) {
      this.#step(operation, count === undefined ? "" : String(count));
    }
    // An attempt pings once.
    this.#probing = operation === "attempt";
  }

  /** Probes all holders at once, so that several dead ones cost one timeout. */
  #probeHolders(holders: readonly string[]): void {
    const { limits: { unavailableTimeout }, liveness } = this.#settings;
    const { connection, keys } = this.#acquisition.subscription;
    for (const holder of holders) {
      if (parseMember(holder).connectionId === connection.id) continue;
      liveness.check(holder, keys, unavailableTimeout)?.then(() => {
        if (this.#acquisition.state === "queued") this.#step("check");
      });
    }
  }
}
