/** One acquisition, from its first step on the server to its last. */

import { setTimeout } from "node:timers";
import { LockLostError } from "../../core/errors.ts";
import { now } from "../../wait/deadline.ts";
import type { LockConnection } from "../connection/connection.ts";
import { moment } from "../connection/stall_clock.ts";
import type { Moment } from "../connection/stall_clock.ts";
import {
  isRedirect,
  isRetryable,
  lockLost,
  replyCode,
} from "../protocol/errors.ts";
import { formatMember, replyChannelPrefix } from "../protocol/keys.ts";
import type { LockType } from "../protocol/keys.ts";
import { ADOPT_SCRIPT, commandOf, LOCK_SCRIPT } from "../protocol/scripts.ts";
import type { Operation } from "../protocol/scripts.ts";
import { formatTransfer, transferred } from "../protocol/transfer.ts";
import type { Transfer } from "../protocol/transfer.ts";
import { lookFirst } from "./looking_signal.ts";
import { Offer } from "./offer.ts";
import type { ChannelSubscription, Subscriber } from "./subscription.ts";

/**
 * `requested` until the reply to the first step. `queued` while the server has
 * it in the queue. `refused` if it may not wait. `held` from the grant. `lost`
 * when the lock, or the place in the queue, cannot be relied on any more.
 * `released` once `release` is called.
 */
type State =
  | "requested"
  | "queued"
  | "refused"
  | "held"
  | "lost"
  | "released";

/** The first delay before a refused release is sent again, in milliseconds. */
const MIN_RETRY_MS = 100;

/** The longest delay before it is sent again, if the server refuses for a while. */
const MAX_RETRY_MS = 1000;

/**
 * The longest delay if the server refuses it until an administrator acts: the
 * user may not run it, or another program has written to the keys.
 */
const MAX_DENIED_RETRY_MS = 60_000;

/** Returns the delay before a refused release is sent again after another one. */
export function nextRetryDelay(delay: number, error: unknown): number {
  const longest = isRetryable(error) ? MAX_RETRY_MS : MAX_DENIED_RETRY_MS;
  return Math.min(delay * 2, longest);
}

/**
 * For how much of `unavailableTimeout` a node of a cluster may refuse every
 * command. It is asked after a quarter of it.
 */
const MIN_DOWN = 0.75;

/** How often the expiry of a record is renewed, in milliseconds. */
const RENEWAL_MS = 3_600_000;

/** A day, in seconds. */
const EXPIRY_S = "86400";

/** What an acquisition calls as long as it does not have a listener. */
const NOTHING = (): void => {};

/** What an acquisition asks for. */
export interface AcquisitionSettings {
  readonly lockType: LockType;
  /** How long the server may be silent, in milliseconds. */
  readonly unavailableTimeout: number;
  /** What the member says about itself, as JSON. */
  readonly info?: string | undefined;
}

/**
 * The state of one acquisition. The server executes the commands of one
 * connection in order. Consider an acquisition A and another one B:
 *
 * - A.1 sends `wait` or `check`. B.1 releases the lock, which grants it to A
 *   and publishes `granted`. A.2 gets the same token in the reply and in the
 *   message: the second one changes nothing. A different token means that the
 *   server lost the record and granted the lock anew.
 * - A.1 sends a step. A.2 is aborted and sends `release`, which the server
 *   executes after A.1: it removes whatever A.1 added.
 * - A.1 sends a step, A.2 is aborted and sends `release`, and the reply to A.1
 *   is `NOSCRIPT`. The script is not sent again as text, since it would be
 *   executed after A.2. `release` itself is sent again.
 * - A.1 holds the lock and asks for its record, A.2 releases the lock. The
 *   reply to A.1 is ignored, because A does not hold the lock any more.
 * - A.1 releases the lock, and the server refuses the command. It is sent again
 *   while the connection lives, and other locks of the connection do not change.
 *   A.2, which is resolved after `unavailableTimeout`, may be acquired in the
 *   meantime: it is another member, and waits for the record of A.1 as for that
 *   of another holder.
 * - A.1 holds the lock, and its thread computes for longer than a waiter needs
 *   to kill its connection. Whether A is lost can only be read afterwards. So
 *   A.2, which looks at `signal` before the server has replied, loses the lock
 *   (`StallClock`). Without such a look, the reply decides.
 * - Messages have a connection of their own: A.1 gets a token in a reply, the
 *   server loses the record, A.2 gets another token in a reply, and the message
 *   with the first token arrives last. A is lost although it holds the lock,
 *   and sends `release`.
 */
export class Acquisition implements Subscriber {
  readonly id: number;
  readonly lockType: LockType;
  readonly subscription: ChannelSubscription;
  readonly unavailableTimeout: number;
  /** Settles with the reply to `SUBSCRIBE`. */
  readonly subscribed: Promise<unknown>;
  readonly #info: string;
  /** The name in the records of the server. */
  readonly #member: string;
  #state: State = "requested";
  /** Since when the node of the cluster refuses every command, by `now`. */
  #downSince: number | undefined;
  /** A stall of the thread before it did not endanger the lock. */
  readonly #start: Moment = moment();
  /** When the record last got a new expiry, by `now`. */
  #renewedAt = 0;
  /** `false` if the server refused the first step, `undefined` before. */
  #onServer: boolean | undefined;
  #token = "";
  #error: unknown;
  #released: Promise<void> | undefined;
  #controller: AbortController | undefined;
  /** The reply to the first step, unless it grants the lock. */
  firstReply: unknown;
  /** Whether the server has sent `look`. */
  notified = false;
  /** Called when the state changes. */
  onChange: () => void = NOTHING;
  /** Called when the server sends `look`. */
  onNotified: () => void = NOTHING;
  /** Called when a Python client sent a ping. */
  onPing: () => void = NOTHING;
  /** Whether `verify` was called. */
  checked = false;
  /** Called before the first `verify`. A short acquisition does not get one. */
  onFirstCheck: () => void = NOTHING;
  /** Called once, when the lock was held and is released or lost. */
  onEnd: () => void = NOTHING;
  /** Called after that, once the server has removed the record. */
  onLeft: () => void = NOTHING;

  /** Creates an acquisition, and sends `SUBSCRIBE` if it is the first. */
  constructor(
    subscription: ChannelSubscription,
    { lockType, unavailableTimeout, info = "" }: AcquisitionSettings,
  ) {
    const { connection } = subscription;
    this.subscription = subscription;
    this.lockType = lockType;
    this.unavailableTimeout = unavailableTimeout;
    this.#info = info;
    this.id = connection.nextId();
    this.#member = formatMember({
      lockType,
      connectionId: connection.id,
      number: this.id,
      clientId: connection.clientId,
    });
    connection.addUser(unavailableTimeout);
    this.subscribed = subscription.add(this);
  }

  /** The current state. */
  get state(): State {
    return this.#state;
  }

  /** Whether the lock is held. */
  get held(): boolean {
    return this.#state === "held";
  }

  /** Whether the server has neither granted nor refused the lock. */
  get isPending(): boolean {
    return this.#state === "requested" || this.#state === "queued";
  }

  /**
   * Aborted when the lock is lost without being released. Its `aborted` and
   * `throwIfAborted` also find out that the thread did not run for so long that
   * the lock may be lost.
   */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = this.#controller = new AbortController();
      if (this.#state === "lost") this.#abort(controller);
      else {
        lookFirst(controller.signal, () => {
          if (this.#mayBeLost) this.#stalled();
        });
      }
    }
    return this.#controller.signal;
  }

  /** Whether the connection may have been killed while the thread was blocked. */
  get #mayBeLost(): boolean {
    return this.held && this.#stalledFor > 2 * this.unavailableTimeout;
  }

  get #stalledFor(): number {
    return this.connection.stalledSince(this.#start);
  }

  #stalled(): void {
    const duration = Math.round(this.#stalledFor);
    const message =
      `this thread did not run for ${duration} ms, so another process may ` +
      "have acquired it; do not block the thread, or raise unavailableTimeout";
    this.lost(Object.assign(new Error(message), { code: "ETIMEDOUT" }));
  }

  /** The fencing token, once the lock is held. */
  get token(): string {
    return this.#token;
  }

  /** The connection on which the lock depends. */
  get connection(): LockConnection {
    return this.subscription.connection;
  }

  /** Asks the server, if the thread was blocked for long. Never rejects. */
  async confirm(): Promise<void> {
    if (!this.#mayBeLost) return;
    const { connection } = this;
    await connection.keepAliveWhile(connection.confirm(() => this.verify()));
  }

  /** Throws the reason if the acquisition is lost. */
  throwIfLost(): void {
    if (this.#state === "lost") throw this.#error;
  }

  /**
   * Releases the lock, or gives up waiting for it. The server grants the lock
   * to the next waiter in the same step. Resolves once the server has done so,
   * the connection has failed, or `unavailableTimeout` is over. Never rejects.
   */
  release(): Promise<void> {
    if (this.#released) return this.connection.keepAliveWhile(this.#released);
    const { held } = this;
    this.#state = "released";
    this.onChange();
    const left = this.#cleanUp(true);
    if (held) this.onEnd();
    return left;
  }

  /** Handles that it came to the fourth place of the queue. */
  onLook(): void {
    this.notified = true;
    this.onNotified();
  }

  /** Handles that the server queued the acquisition, or refused to wait. */
  queued(state: "queued" | "refused"): void {
    this.#state = state;
    this.#onServer = state === "queued";
    this.onChange();
  }

  /** Handles that the server granted the lock, in a reply or a message. */
  granted(token: string): void {
    if (this.#ended) return;
    if (this.held) {
      if (token !== this.#token) this.#recordLost();
      return;
    }
    this.#state = "held";
    this.#onServer = true;
    this.#token = token;
    this.#renewedAt = now();
    this.onChange();
  }

  /**
   * Takes over the lease that another process has transferred: `held` if the
   * lease was still there, otherwise `refused`.
   *
   * @throws The error of the server or of the connection.
   */
  async adopt({ member, token }: Transfer): Promise<void> {
    const { connection, keys } = this.subscription;
    const { key, info, sharded } = keys;
    try {
      if (!connection.client.ordered) {
        await this.subscribed;
        // `release` was sent meanwhile, and would be executed before the script.
        if (this.#ended) return;
      }
      const args = [
        ...[member, token, this.#member, replyChannelPrefix(keys)],
        ...[sharded ? "S" : "", this.#info],
      ];
      const isWanted = () => !this.#ended;
      const [reply] = await Promise.all([
        connection.run(
          ADOPT_SCRIPT,
          commandOf(ADOPT_SCRIPT, [key, info], args),
          isWanted,
        ),
        this.subscribed,
      ]);
      if (typeof reply === "string") this.granted(reply);
      else this.queued("refused");
    } catch (error) {
      this.stepFailed(error);
      throw connection.failure?.error ?? error;
    }
  }

  /**
   * Ends the lease. Its record stays on the server for a number of
   * milliseconds, so that another process can adopt it.
   */
  transfer(timeout: number): string {
    const { subscription, connection, unavailableTimeout, lockType, id } = this;
    const { channel, key } = subscription.keys;
    this.#state = "lost";
    this.#error = transferred(channel);
    this.#released = Promise.resolve();
    const offer = new Offer(subscription, {
      ...{ id, lockType, unavailableTimeout },
      isThere: () => this.#hasRecord().catch(isNoRedirect),
      remove: () => this.#sendRelease(NOTHING),
    }, timeout);
    subscription.replace(this, offer);
    connection.removeUser(unavailableTimeout);
    if (this.#controller) this.#abort(this.#controller);
    offer.ended.then(this.onLeft);
    this.onEnd();
    return formatTransfer({ key, member: this.#member, token: this.#token });
  }

  /** Handles that a step failed, even if no caller waits for it any more. */
  stepFailed(error: unknown): void {
    // The script does nothing that can fail after it has added the member. So
    // a first step that the server refused did not add it.
    if (replyCode(error) !== undefined) this.#onServer ??= false;
    this.lost(error);
  }

  /** Handles that the lock, or the place in the queue, is lost. */
  lost(error: unknown): void {
    const { held } = this;
    if (this.#ended) return;
    this.#state = "lost";
    this.#error = error;
    // If only this step failed, the server may still have the record.
    this.#cleanUp(false);
    this.onChange();
    if (!held) return;
    if (this.#controller) this.#abort(this.#controller);
    this.onEnd();
  }

  /**
   * Asks the server whether the lock is still held. Never rejects. An error is
   * not an answer: a server that is busy, or that refuses commands for another
   * reason, has not lost the record.
   */
  async verify(): Promise<void> {
    const { key, info } = this.subscription.keys;
    const { connection } = this;
    if (!this.checked) {
      this.checked = true;
      this.onFirstCheck();
      this.onFirstCheck = NOTHING;
    }
    const isDue = now() - this.#renewedAt > RENEWAL_MS;
    if (isDue) {
      this.#renewedAt = now();
      for (const name of this.#info === "" ? [key] : [key, info]) {
        connection.send(["EXPIRE", name, EXPIRY_S]).catch(() => {});
      }
    }
    try {
      const isThere = await this.#hasRecord();
      this.#downSince = undefined;
      if (this.held && !isThere) this.#recordLost();
    } catch (error) {
      const isLost = isRedirect(error) || this.#isCutOff(error);
      if (this.held && isLost) this.lost(error);
    }
  }

  /**
   * A node of a cluster that does not reach most masters refuses every command,
   * and a replica on the other side may have taken its place. The node counts
   * as silent then, although it replies.
   */
  #isCutOff(error: unknown): boolean {
    if (replyCode(error) !== "CLUSTERDOWN") {
      this.#downSince = undefined;
      return false;
    }
    this.#downSince ??= now();
    return now() - this.#downSince >= MIN_DOWN * this.unavailableTimeout;
  }

  async #hasRecord(): Promise<boolean> {
    const { key } = this.subscription.keys;
    const command = ["HGET", key, this.#member];
    return await this.connection.send(command) === this.#token;
  }

  /**
   * Sends one step.
   *
   * @param operation What the step does.
   * @param expectedPeers The number of Python clients that share the lock, if
   * it is known.
   * @returns The reply of {@linkcode LOCK_SCRIPT}.
   * @throws The error of the server or of the client.
   */
  send(operation: Operation, expectedPeers = ""): Promise<unknown> {
    const { connection, keys } = this.subscription;
    const { key, queue, clock, info, shared = "", sharded } = keys;
    // Without `commandOf`, because this is what most commands are.
    const command = [
      "EVALSHA",
      LOCK_SCRIPT.sha,
      "4",
      key,
      queue,
      clock,
      info,
      operation,
      this.#member,
      shared,
    ];
    // The last arguments are usually empty. Each one takes time.
    const flags = (sharded ? "S" : "") + (connection.client.ordered ? "" : "P");
    if (flags || expectedPeers || this.#info) command.push(flags);
    if (expectedPeers || this.#info) command.push(expectedPeers, this.#info);
    return connection.run(
      LOCK_SCRIPT,
      command,
      () => operation === "release" || !this.#ended,
    );
  }

  #recordLost(): void {
    this.lost(new Error("the server has lost the record of the lock"));
  }

  #abort(controller: AbortController): void {
    const { channel } = this.subscription.keys;
    const error = this.#error;
    controller.abort(
      error instanceof LockLostError ? error : lockLost(channel, error),
    );
  }

  get #ended(): boolean {
    return this.#state === "released" || this.#state === "lost";
  }

  /**
   * Removes the record, and ends the use of the connection.
   *
   * @param keepAlive Whether the process stays alive meanwhile.
   */
  #cleanUp(keepAlive: boolean): Promise<void> {
    const { connection, subscription, unavailableTimeout } = this;
    subscription.leaving++;
    return this.#released = new Promise((resolve) => {
      let ended = false;
      const end = () => {
        if (ended) return;
        ended = true;
        clear();
        connection.removeUser(unavailableTimeout);
        subscription.leaving--;
        if (keepAlive) connection.letEnd();
        this.onLeft();
        resolve();
      };
      if (keepAlive) connection.keepAlive();
      const clear = connection.replyTimer.set(unavailableTimeout, end);
      // The server does not have a record of an acquisition that it refused.
      const mayBeOnServer = this.#onServer !== false &&
        connection.failure === undefined;
      if (mayBeOnServer) this.#sendRelease(end);
      else queueMicrotask(end);
      subscription.remove(this);
    });
  }

  /**
   * Removes the record, as soon as the server allows it, and calls a function
   * after that. Never rejects.
   */
  #sendRelease(onLeft: () => void): Promise<void> {
    return this.send("release").then(
      onLeft,
      (error) => this.#retryRelease(error).then(onLeft),
    );
  }

  async #retryRelease(refusal: unknown): Promise<void> {
    const { connection } = this;
    let error = refusal;
    for (let delay = MIN_RETRY_MS;; delay = nextRetryDelay(delay, error)) {
      // Replies arrive in order, so the reply to the first step is known. A
      // record on another node of the cluster does not count any more.
      const refused = this.#onServer !== false && !isRedirect(error);
      if (!refused || connection.failure) return;
      await new Promise<void>((resolve) => setTimeout(resolve, delay).unref());
      if (connection.failure) return;
      try {
        await this.send("release");
        return;
      } catch (refusedAgain) {
        error = refusedAgain;
      }
    }
  }
}

function isNoRedirect(error: unknown): boolean {
  return !isRedirect(error);
}
