/** The wait of one acquisition, until it holds the lock or gives up. */

import { now } from "../../wait/deadline.ts";
import { withDeadline } from "../connection/attempt_limits.ts";
import type { AttemptLimits } from "../connection/attempt_limits.ts";
import { turnOfInput } from "../connection/turn_of_input.ts";
import {
  isRetryable,
  isTemporary,
  replyCode,
  ReplyTimeout,
} from "../protocol/errors.ts";
import type { Operation } from "../protocol/scripts.ts";
import { allPeersShared } from "../python/peers.ts";
import { PollSchedule } from "../python/poll_schedule.ts";
import type { Acquisition } from "./acquisition.ts";
import type { LivenessProbe, Question } from "./liveness.ts";

/**
 * The longest time between two looks of a waiter, in milliseconds, unless
 * `checkInterval` is longer.
 */
const MAX_LOOK_MS = 30_000;

/** The same for any `checkInterval`: without a look, the queue would expire. */
const MAX_UNSEEN_MS = 3_600_000;

/**
 * The longest time between two questions to the member ahead, in milliseconds.
 * If all members ahead die at once, no other step removes them.
 */
const MAX_PROBE_MS = 10_000;

/** The server notifies a waiter that reaches this place in the queue. */
const NOTIFIED_POSITION = 3;

/**
 * How often a waiter looks, in milliseconds. The first four look often, because
 * those before them may die. The others may look seldom: the server notifies
 * them when they become one of the first four.
 */
export function lookInterval(checkInterval: number, position: number): number {
  return Math.min(
    checkInterval * Math.max(1, position + 1 - NOTIFIED_POSITION),
    Math.max(checkInterval, MAX_LOOK_MS),
    MAX_UNSEEN_MS,
  );
}

/** How often a waiter asks whether the one ahead lives, in milliseconds. */
function probeInterval(unavailableTimeout: number, position: number): number {
  return Math.min(
    unavailableTimeout * Math.max(1, position / 16),
    Math.max(unavailableTimeout, MAX_PROBE_MS),
  );
}

const NOTHING = (): void => {};

/** What prevented an acquisition, by the last reply of the server. */
export interface Blockers {
  /** The number of Python clients that are subscribed. */
  readonly pythonClients: number;
  /** The position in the queue: 0 for the first waiter. */
  readonly position: number;
  /** The records of the holders, if the position is 0. */
  readonly holders: readonly string[];
}

const NOTHING_AHEAD: Blockers = { pythonClients: 0, position: 0, holders: [] };

/** How to wait. */
export interface AcquireWaitSettings {
  readonly limits: AttemptLimits;
  /** Where members that do not reply are found. */
  readonly liveness: LivenessProbe;
}

/**
 * Sends the first step of an acquisition. To be called once the subscription
 * is confirmed or, if replies and messages have one order, sent.
 *
 * @returns A promise that settles once the acquisition is granted or lost, or
 * has its `firstReply`, or the time is over.
 * @throws What {@linkcode Deadline.sleepUntilWoken} throws.
 */
export function sendFirstStep(
  acquisition: Acquisition,
  { canWait, deadline, stepTimeout }: AttemptLimits,
): Promise<unknown> {
  const { connection } = acquisition;
  connection.keepAlive();
  return deadline.sleepUntilWoken(stepTimeout, (wake) => {
    acquisition.onChange = wake;
    acquisition.send(canWait ? "wait" : "attempt").then((reply) => {
      if (isSettled(acquisition, reply)) return;
      acquisition.firstReply = reply;
      wake();
    }, (error) => onStepError(acquisition, error));
    return () => {
      acquisition.onChange = NOTHING;
      connection.letEnd();
    };
  }, connection.replyLimit);
}

/**
 * Waits until an acquisition holds the lock, is refused, or the time is over.
 *
 * Nearly always, the first reply grants the lock. So what only a waiter needs,
 * {@linkcode AcquireWait}, is made after that reply.
 *
 * @param sent The first step, if it has been sent.
 * @returns What prevented the acquisition, by the last reply of the server.
 * @throws The error of the server or of the connection, and what
 * {@linkcode Deadline.sleepUntilWoken} throws.
 */
export async function acquireOrWait(
  acquisition: Acquisition,
  settings: AcquireWaitSettings,
  sent?: Promise<unknown>,
): Promise<Blockers> {
  const { connection, subscription, subscribed } = acquisition;
  const { limits } = settings;
  const { canWait, deadline, stepTimeout } = limits;
  connection.keepAlive();
  try {
    if (!subscription.confirmed) {
      subscribed.catch((error) => acquisition.lost(error));
      if (!connection.client.ordered) {
        await withDeadline(deadline, now() + stepTimeout, subscribed);
        // `release` was sent meanwhile, and would be executed before the step.
        acquisition.throwIfLost();
      }
    }
    await (sent ?? sendFirstStep(acquisition, limits));
    // If the thread was busy, the reply may have arrived and not been read.
    if (acquisition.firstReply === undefined && acquisition.isPending) {
      await turnOfInput();
    }
    let blockers = NOTHING_AHEAD;
    if (acquisition.firstReply !== undefined) {
      const wait = new AcquireWait(acquisition, settings);
      blockers = await wait.run(canWait ? "wait" : "attempt");
    } else if (acquisition.isPending) {
      throw new ReplyTimeout("the server has not answered");
    }
    if (!subscription.confirmed) await subscribed;
    acquisition.throwIfLost();
    return blockers;
  } catch (error) {
    if (deadline.wasCancelledWith(error)) throw error;
    // The error of the client only says that it was closed.
    throw connection.failure?.error ?? error;
  } finally {
    connection.letEnd();
  }
}

/**
 * Returns whether a reply changes nothing for a waiter: it grants the lock, is
 * older than the grant, or is too late.
 */
function isSettled(acquisition: Acquisition, reply: unknown): boolean {
  if (typeof reply === "string") acquisition.granted(reply);
  // The reply is older than the grant, or the record is lost; see the class.
  else if (acquisition.held) void acquisition.verify();
  else return !acquisition.isPending;
  return true;
}

/** Handles that the server or the client refused a step. */
function onStepError(acquisition: Acquisition, error: unknown): void {
  // The server has become a replica, or the connection that subscribes has
  // ended, so all locks are lost.
  if (/^(READONLY|UNSUBSCRIBED)$/.test(replyCode(error) ?? "")) {
    acquisition.connection.fail(error);
    return;
  }
  // The place in the queue is kept, and the next look comes anyway.
  if (acquisition.state === "queued" && isTemporary(error)) return;
  acquisition.stepFailed(error);
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
 * - The member ahead of A does not reply. A.1 asks the server for all members
 *   ahead, and asks those, too. They may all be dead: then they cost as much as
 *   one of them.
 * - A.1 looks, and a member ahead of A is killed before the reply to A.1: A
 *   looks again after that reply.
 * - Replies and messages have connections of their own, and A.1 has not got the
 *   reply to `SUBSCRIBE`: A sends no step before that.
 */
export class AcquireWait {
  readonly #acquisition: Acquisition;
  readonly #settings: AcquireWaitSettings;
  #schedule: PollSchedule;
  #blockers = NOTHING_AHEAD;
  /** The holders for the first waiter, the member ahead for the others. */
  #ahead: readonly string[] = [];
  /** How the member ahead, or the first of several, is asked. */
  readonly #question: Question;
  /** How all other members ahead are asked. */
  readonly #furtherQuestion: Question;
  #probeDue = Infinity;
  /** What to send after the step that is under way. */
  #nextLook: "check" | "ahead" | undefined;
  #wake: () => void = () => {};
  /** Settles after the reply to the step that is under way is handled. */
  #pendingStep: Promise<void> | undefined;
  #joining = false;
  #stopJoining: () => void = () => {};

  /** Creates a wait, without sending anything. */
  constructor(acquisition: Acquisition, settings: AcquireWaitSettings) {
    this.#acquisition = acquisition;
    this.#settings = settings;
    this.#schedule = new PollSchedule(settings.limits.deadline.checkInterval);
    acquisition.onChange = () => this.#onChange();
    acquisition.onPing = () => this.#onPing();
    acquisition.onNotified = () => this.#onPosition(this.#blockers.position);
    const further: Question = this.#furtherQuestion = {
      keys: acquisition.subscription.keys,
      timeout: acquisition.unavailableTimeout,
      isWanted: () => acquisition.state === "queued",
      onGone: () => this.#look("check"),
    };
    this.#question = { ...further, onSilent: () => this.#onSilent() };
  }

  /**
   * Waits until the acquisition holds the lock, is refused, or the time is
   * over.
   *
   * @param operation The first step.
   * @returns What prevented the acquisition, by the last reply of the server.
   * @throws What {@linkcode acquireOrWait} throws.
   */
  async run(operation: Operation): Promise<Blockers> {
    const { limits } = this.#settings;
    const acquisition = this.#acquisition;
    this.#onReply(operation, acquisition.firstReply);
    const end = now() + limits.stepTimeout;
    while (acquisition.isPending) {
      const remaining = end - now();
      if (remaining <= 0) break;
      const woken = await this.#pause(remaining);
      if (woken || acquisition.state !== "queued") continue;
      if (now() >= this.#probeDue) this.#probe();
      if (this.#schedule.remaining > 0) continue;
      this.#schedule.onPoll();
      this.#step("check");
    }
    return this.#blockers;
  }

  #pause(remaining: number): Promise<boolean> {
    const { connection, state } = this.#acquisition;
    const queued = state === "queued";
    const next = Math.min(this.#schedule.remaining, this.#probeDue - now());
    return this.#settings.limits.deadline.sleepUntilWoken(
      queued ? Math.min(remaining, next) : remaining,
      (wake) => {
        this.#wake = wake;
        return () => this.#wake = () => {};
      },
      queued ? undefined : connection.replyLimit,
    );
  }

  #onChange(): void {
    if (!this.#acquisition.isPending) this.#stopJoining();
    this.#wake();
  }

  /** A Python client that pings unsubscribes soon, if it does not get the lock. */
  #onPing(): void {
    const { state } = this.#acquisition;
    // Only the first waiter can get the lock then.
    if (state !== "queued" || this.#blockers.position > 0) return;
    if (this.#schedule.onPing()) this.#wake();
  }

  #onPosition(position: number): void {
    const { deadline, unavailableTimeout } = this.#settings.limits;
    // Positions only fall. With two connections, the reply with this one may
    // be older than the message `look`.
    const place = this.#acquisition.notified
      ? Math.min(position, NOTIFIED_POSITION)
      : position;
    this.#blockers = { ...this.#blockers, position: place };
    this.#schedule.setLongest(lookInterval(deadline.checkInterval, place));
    const due = now() + probeInterval(unavailableTimeout, place);
    this.#probeDue = Math.min(this.#probeDue, due);
    if (this.#acquisition.state === "queued") this.#wake();
  }

  /** Sends a step, unless one is under way. */
  #step(operation: Operation, expectedPeers = ""): void {
    if (this.#pendingStep) return;
    this.#pendingStep = this.#acquisition.send(operation, expectedPeers).then(
      (reply) => {
        this.#pendingStep = undefined;
        this.#onReply(operation, reply);
        const next = this.#nextLook;
        this.#nextLook = undefined;
        if (next) this.#look(next);
      },
      (error) => {
        this.#pendingStep = undefined;
        onStepError(this.#acquisition, error);
      },
    );
  }

  #onReply(operation: Operation, reply: unknown): void {
    const acquisition = this.#acquisition;
    if (isSettled(acquisition, reply)) return;
    const [pythonClients, position, ...members] = reply as Look;
    const holders = position === 0 ? members : [];
    this.#blockers = { pythonClients, position, holders };
    if (pythonClients !== 0) acquisition.subscription.pythonSeen = true;
    const canJoin = acquisition.lockType === "s" && pythonClients > 0 &&
      position === 0 && !this.#joining &&
      holders.every((holder) => holder.startsWith("s"));
    if (canJoin) {
      this.#joinPythonReaders(operation === "attempt" ? "attempt" : "check");
    } else if (operation === "attempt") acquisition.queued("refused");
    if (operation === "attempt") return;
    if (operation === "ahead") {
      for (const member of members) this.#ask(member, this.#furtherQuestion);
      return;
    }
    this.#ahead = members;
    const { deadline } = this.#settings.limits;
    if (operation === "wait") {
      const interval = lookInterval(deadline.checkInterval, position);
      this.#schedule = new PollSchedule(interval);
    }
    this.#onPosition(position);
    if (operation === "check") return this.#probe();
    deadline.markContended();
    acquisition.queued("queued");
  }

  /** Enters beside Python clients, if all of them share the lock. */
  async #joinPythonReaders(operation: "attempt" | "check"): Promise<void> {
    const { connection, keys } = this.#acquisition.subscription;
    const { unavailableTimeout: timeout } = this.#settings.limits;
    this.#joining = true;
    const cancelled = new Promise<void>((resolve) =>
      this.#stopJoining = resolve
    );
    const count = await allPeersShared(connection, keys, { timeout, cancelled })
      .catch((error) => {
        // Otherwise, each look would repeat a question that is not permitted.
        if (!isRetryable(error)) this.#acquisition.stepFailed(error);
      });
    // The result must not be dropped because a step is under way; see above.
    while (this.#pendingStep) await this.#pendingStep;
    if (this.#acquisition.isPending) {
      this.#step(operation, String(count ?? ""));
    }
    // An attempt pings once.
    this.#joining = operation === "attempt";
  }

  /** Looks now, or after the step that is under way. */
  #look(operation: "check" | "ahead"): void {
    if (this.#acquisition.state !== "queued") return;
    if (!this.#pendingStep) this.#step(operation);
    else if (this.#nextLook !== "ahead") this.#nextLook = operation;
  }

  /** Asks those ahead whether they live: the holders all at once. */
  #probe(): void {
    const { unavailableTimeout } = this.#acquisition;
    const { position } = this.#blockers;
    this.#probeDue = now() + probeInterval(unavailableTimeout, position);
    const question = position > 0 ? this.#question : this.#furtherQuestion;
    for (const member of this.#ahead) this.#ask(member, question);
  }

  #ask(member: string, question: Question): void {
    this.#settings.liveness.ask(member, question);
  }

  /** The members before one that is silent may be dead, too. */
  #onSilent(): void {
    if (this.#blockers.position > 0) this.#look("ahead");
  }
}

/** The reply of a step to a member that does not hold the lock. */
type Look = [pythonClients: number, position: number, ...members: string[]];
