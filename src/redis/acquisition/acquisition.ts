/** One acquisition, from its first step on the server to its last. */

import type { LockConnection } from "../connection/connection.ts";
import { isRedirect, lockLost, replyCode } from "../protocol/errors.ts";
import { formatMember, replyChannelPrefix } from "../protocol/keys.ts";
import type { LockType } from "../protocol/keys.ts";
import { LOCK_SCRIPT } from "../protocol/scripts.ts";
import type { Operation } from "../protocol/scripts.ts";
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

/**
 * The state of one acquisition. Commands, replies and messages travel on one
 * connection, and the server executes commands in order. Consider an
 * acquisition A and another one B:
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
 * - A.1 holds the lock and sends `verify`, A.2 releases the lock. The reply to
 *   A.1 is ignored, because A does not hold the lock any more.
 */
export class Acquisition implements Subscriber {
  readonly id: number;
  readonly lockType: LockType;
  readonly subscription: ChannelSubscription;
  /** Settles with the reply to `SUBSCRIBE`. */
  readonly subscribed: Promise<unknown>;
  /** The name in the records of the server. */
  readonly #member: string;
  /** What the holder says about itself, as JSON, or `""`. */
  readonly #info: string;
  #state: State = "requested";
  /** `false` if the server refused the first step, `undefined` before. */
  #onServer: boolean | undefined;
  #token = "";
  #error: unknown;
  #released: Promise<void> | undefined;
  #controller: AbortController | undefined;
  /** Called when the state changes. */
  onChange: () => void = () => {};
  /** Called when a Python client sent a ping. */
  onPing: () => void = () => {};
  /**
   * Called once, when the lock was held and is released or lost. `left`
   * settles once the server has removed the record.
   */
  onEnd: (left: Promise<void>) => void = () => {};

  /** Creates an acquisition, and sends `SUBSCRIBE` if it is the first. */
  constructor(
    subscription: ChannelSubscription,
    lockType: LockType,
    info = "",
  ) {
    const { connection } = subscription;
    this.subscription = subscription;
    this.lockType = lockType;
    this.#info = info;
    this.id = connection.nextId();
    this.#member = formatMember({
      lockType,
      connectionId: connection.id,
      number: this.id,
      clientId: connection.clientId,
    });
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

  /** Aborted when the lock is lost without being released. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#state === "lost") {
        this.#abort(this.#controller);
      }
    }
    return this.#controller.signal;
  }

  /** The fencing token, once the lock is held. */
  get token(): string {
    return this.#token;
  }

  /** The connection on which the lock depends. */
  get connection(): LockConnection {
    return this.subscription.connection;
  }

  /** Throws the reason if the acquisition is lost. */
  throwIfLost(): void {
    if (this.#state === "lost") throw this.#error;
  }

  /**
   * Releases the lock, or gives up waiting for it. The server grants the lock
   * to the next waiter in the same step. Resolves once the server has done so,
   * or the connection has failed. Never rejects.
   */
  release(): Promise<void> {
    return this.connection.keepAliveWhile(this.#released ??= this.#release());
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
    this.onChange();
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
    const left = this.#released = this.#cleanUp();
    this.onChange();
    if (!held) return;
    if (this.#controller) this.#abort(this.#controller);
    this.onEnd(left);
  }

  /** Asks the server whether the lock is still held. Never rejects. */
  async verify(): Promise<void> {
    try {
      const { connection, keys } = this.subscription;
      const reply = await connection.client.send([
        "HGET",
        keys.key,
        this.#member,
      ]);
      if (this.held && reply !== this.#token) this.#recordLost();
    } catch (error) {
      if (this.held) this.lost(error);
    }
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
    return connection.run(LOCK_SCRIPT, [key, queue, clock, info], [
      operation,
      this.#member,
      replyChannelPrefix(keys),
      sharded ? "S" : "",
      shared,
      expectedPeers,
      this.#info,
    ], () => operation === "release" || !this.#ended);
  }

  #recordLost(): void {
    this.lost(new Error("the server has lost the record of the lock"));
  }

  #abort(controller: AbortController): void {
    const { channel } = this.subscription.keys;
    controller.abort(lockLost(channel, this.#error));
  }

  get #ended(): boolean {
    return this.#state === "released" || this.#state === "lost";
  }

  #release(): Promise<void> {
    const { held } = this;
    this.#state = "released";
    this.onChange();
    const left = this.#cleanUp();
    if (held) this.onEnd(left);
    return left;
  }

  async #cleanUp(): Promise<void> {
    // The server does not have a record of an acquisition that it refused.
    const mayBeOnServer = this.#onServer !== false &&
      this.connection.failure === undefined;
    await Promise.allSettled([
      mayBeOnServer ? this.#sendRelease() : undefined,
      this.subscription.remove(this),
    ]);
  }

  /**
   * Removes the record. If the server refuses to, the record would count as
   * long as the connection lives, so the connection is closed. A record on
   * another node of the cluster does not count any more.
   */
  async #sendRelease(): Promise<void> {
    try {
      await this.send("release");
    } catch (error) {
      // Replies arrive in order, so the reply to the first step is known.
      const mayBeOnServer = this.#onServer !== false;
      if (mayBeOnServer && !isRedirect(error)) this.connection.fail(error);
    }
  }
}
