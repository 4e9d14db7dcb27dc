/** One acquisition, from its first step on the server to its last. */

import { isRedirect, replyCode, toLockException } from "../protocol/errors.ts";
import { replyChannelPrefix } from "../protocol/keys.ts";
import type { LockType } from "../protocol/keys.ts";
import type { ChannelSubscription } from "./subscription.ts";
import { LOCK_SCRIPT } from "../protocol/scripts.ts";
import type { Operation } from "../protocol/scripts.ts";
import { AcquireWait } from "./wait.ts";
import type { AcquireWaitSettings, Blockers } from "./wait.ts";

type State =
  | "entering"
  | "waiting"
  | "refused"
  | "held"
  | "lost"
  | "left";

/** It waits or it holds, on the server. */
export class Acquisition {
  readonly id: number;
  readonly lockType: LockType;
  /** What the server calls it. */
  readonly member: string;
  readonly subscription: ChannelSubscription;
  #state: State = "entering";
  /** Whether the server may know it: unless it has refused the first step. */
  #onServer: boolean | undefined;
  #token = "";
  #error: unknown;
  #wait: AcquireWait | undefined;
  #released: Promise<void> | undefined;
  #controller: AbortController | undefined;
  /** Called once, when it has held and holds no more, before it has left. */
  onEnd: (left: Promise<void>) => void = () => {};

  constructor(subscription: ChannelSubscription, lockType: LockType) {
    const { connection } = subscription;
    this.subscription = subscription;
    this.lockType = lockType;
    this.id = connection.nextId();
    this.member =
      `${lockType}:${connection.id}:${this.id}:${connection.clientId}`;
  }

  /** What has become of it. */
  get state(): State {
    return this.#state;
  }

  /** Whether it holds. */
  get held(): boolean {
    return this.#state === "held";
  }

  /** Whether it is not known yet what becomes of it. */
  get isPending(): boolean {
    return this.#state === "entering" || this.#state === "waiting";
  }

  /** Aborted when it holds no more although nobody released it. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#state === "lost") {
        this.#controller.abort(this.#lossError(this.#error));
      }
    }
    return this.#controller.signal;
  }

  /** The fencing token, once it holds. */
  get token(): string {
    return this.#token;
  }

  /** What kept it out last. */
  get blockers(): Blockers {
    return this.#wait?.blockers ?? { pythonClients: 0, holders: [] };
  }

  /** The session of the entry. */
  get connection(): ChannelSubscription["connection"] {
    return this.subscription.connection;
  }

  /**
   * Takes its place on the server, and waits to hold if it is to wait.
   *
   * @throws What the server or the connection says.
   */
  async start(
    subscribed: Promise<unknown>,
    settings: AcquireWaitSettings,
  ): Promise<void> {
    this.connection.startHeartbeat(settings.unavailableTimeout);
    this.#wait = new AcquireWait(this, settings);
    try {
      await Promise.all([this.#wait.run(), subscribed]);
    } catch (error) {
      if (settings.deadline.wasCancelledWith(error)) throw error;
      // The client itself only says that it was told to disconnect.
      throw this.connection.failure?.error ?? error;
    }
  }

  /** Throws what took it away, if anything did. */
  throwIfLost(): void {
    if (this.#state === "lost") throw this.#error;
  }

  /**
   * Lets go, whatever it has: the server passes the lock on in the same step.
   * Settles once the server has done so, or is out of reach; never rejects.
   */
  release(): Promise<void> {
    return this.connection.keepAliveWhile(this.#released ??= this.#release());
  }

  /** The server says that it waits, or that it may not even do that. */
  queued(state: "waiting" | "refused"): void {
    this.#state = state;
    this.#onServer = state === "waiting";
    this.#wait?.wake();
  }

  /** The server says that it holds. */
  granted(token: string): void {
    if (this.#ended) return;
    if (this.held) {
      // The reply and the message may both say so.
      if (token !== this.#token) this.#recordLost();
      return;
    }
    this.#state = "held";
    this.#onServer = true;
    this.#token = token;
    this.#wait?.wake();
  }

  /** A step failed, even if nobody waits for it any more. */
  fail(error: unknown): void {
    // Nothing that can fail comes after entering, so this did not enter.
    if (replyCode(error) !== undefined) this.#onServer ??= false;
    this.lost(error);
  }

  /** It does not count any more. */
  lost(error: unknown): void {
    const { held } = this;
    if (this.#ended) return;
    this.#state = "lost";
    this.#error = error;
    // If only this step failed, the server may still have the entry.
    const left = this.#released = this.#cleanUp();
    this.#wait?.wake();
    if (!held) return;
    this.#controller?.abort(this.#lossError(error));
    this.onEnd(left);
  }

  /** A foreigner asked, and will be gone in a moment. */
  pollSoon(): void {
    this.#wait?.pollSoon();
  }

  /** Asks the server whether it still holds. */
  async verify(): Promise<void> {
    try {
      const answer = await this.send("verify");
      if (this.held && answer !== this.#token) this.#recordLost();
    } catch (error) {
      if (this.held) this.lost(error);
    }
  }

  /** Has the server take one step with it. */
  send(operation: Operation, allowed = ""): Promise<unknown> {
    const { connection, keys } = this.subscription;
    const { key, queue, shared = "", sharded } = keys;
    return connection.run(LOCK_SCRIPT, [key, queue], [
      operation,
      this.member,
      replyChannelPrefix(keys),
      sharded ? "S" : "",
      shared,
      allowed,
    ], () => operation === "release" || !this.#ended);
  }

  #recordLost(): void {
    this.lost(new Error("the server has lost the record of the lock"));
  }

  get #ended(): boolean {
    return this.#state === "left" || this.#state === "lost";
  }

  #lossError(error: unknown): Error {
    return toLockException(
      `Lost the lock on ${this.subscription.keys.channel}`,
      error,
    );
  }

  #release(): Promise<void> {
    const { held } = this;
    this.#state = "left";
    this.#wait?.wake();
    const left = this.#cleanUp();
    if (held) this.onEnd(left);
    return left;
  }

  async #cleanUp(): Promise<void> {
    // Who was refused has nothing on the server.
    const may = this.#onServer !== false &&
      this.connection.failure === undefined;
    await Promise.allSettled([
      may ? this.#sendRelease() : undefined,
      this.subscription.remove(this),
    ]);
  }

  /**
   * Has the server remove it. A server that refuses would count it as long as
   * the session lives, so then this ends; what has moved counts no more.
   */
  async #sendRelease(): Promise<void> {
    try {
      await this.send("release");
    } catch (error) {
      // Answers come in order, so it is known by now what the first step was.
      const known = this.#onServer !== false;
      if (known && !isRedirect(error)) this.connection.fail(error);
    }
  }
}
