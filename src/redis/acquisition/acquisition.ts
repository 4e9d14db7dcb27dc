/** One acquisition, from its first step on the server to its last. */

import { failure, hasMoved, replyCode } from "../errors.ts";
import { sessionPrefix } from "../keys.ts";
import type { Kind } from "../keys.ts";
import type { Presence } from "./subscription.ts";
import { STEP } from "./scripts.ts";
import type { Operation } from "./scripts.ts";
import { Waiting } from "./wait.ts";
import type { Others, Pace } from "./wait.ts";

type State =
  | "entering"
  | "waiting"
  | "refused"
  | "held"
  | "lost"
  | "left";

/** It waits or it holds, on the server. */
export class Entry {
  readonly number: number;
  readonly kind: Kind;
  /** What the server calls it. */
  readonly name: string;
  readonly presence: Presence;
  #state: State = "entering";
  /** Whether the server may know it: unless it has refused the first step. */
  #entered: boolean | undefined;
  #token = "";
  #error: unknown;
  #waiting: Waiting | undefined;
  #left: Promise<void> | undefined;
  #controller: AbortController | undefined;
  /** Called once, when it has held and holds no more, before it has left. */
  onEnd: (left: Promise<void>) => void = () => {};

  constructor(presence: Presence, kind: Kind) {
    const { session } = presence;
    this.presence = presence;
    this.kind = kind;
    this.number = session.number();
    this.name = `${kind}:${session.id}:${this.number}:${session.client}`;
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
  get open(): boolean {
    return this.#state === "entering" || this.#state === "waiting";
  }

  /** Aborted when it holds no more although nobody released it. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#state === "lost") {
        this.#controller.abort(this.#lossOf(this.#error));
      }
    }
    return this.#controller.signal;
  }

  /** The fencing token, once it holds. */
  get token(): string {
    return this.#token;
  }

  /** What kept it out last. */
  get others(): Others {
    return this.#waiting?.others ?? { foreigners: 0, holders: [] };
  }

  /** The session of the entry. */
  get session(): Presence["session"] {
    return this.presence.session;
  }

  /**
   * Takes its place on the server, and waits to hold if it is to wait.
   *
   * @throws What the server or the connection says.
   */
  async begin(subscribed: Promise<unknown>, pace: Pace): Promise<void> {
    this.session.listenFor(pace.unavailableTimeout);
    this.#waiting = new Waiting(this, pace);
    try {
      await Promise.all([this.#waiting.settle(), subscribed]);
    } catch (error) {
      if (pace.patience.endedBy(error)) throw error;
      // The client itself only says that it was told to disconnect.
      throw this.session.lost?.error ?? error;
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
  leave(): Promise<void> {
    return this.session.awaiting(this.#left ??= this.#leave());
  }

  /** The server says that it waits, or that it may not even do that. */
  wait(state: "waiting" | "refused"): void {
    this.#state = state;
    this.#entered = state === "waiting";
    this.#waiting?.wake();
  }

  /** The server says that it holds. */
  hold(token: string): void {
    if (this.#over) return;
    if (this.held) {
      // The reply and the message may both say so.
      if (token !== this.#token) this.#loseRecord();
      return;
    }
    this.#state = "held";
    this.#entered = true;
    this.#token = token;
    this.#waiting?.wake();
  }

  /** A step failed, even if nobody waits for it any more. */
  fail(error: unknown): void {
    // Nothing that can fail comes after entering, so this did not enter.
    if (replyCode(error) !== undefined) this.#entered ??= false;
    this.lose(error);
  }

  /** It does not count any more. */
  lose(error: unknown): void {
    const { held } = this;
    if (this.#over) return;
    this.#state = "lost";
    this.#error = error;
    // If only this step failed, the server may still have the entry.
    const left = this.#left = this.#clear();
    this.#waiting?.wake();
    if (!held) return;
    this.#controller?.abort(this.#lossOf(error));
    this.onEnd(left);
  }

  /** A foreigner asked, and will be gone in a moment. */
  checkSoon(): void {
    this.#waiting?.checkSoon();
  }

  /** Asks the server whether it still holds. */
  async verify(): Promise<void> {
    try {
      const answer = await this.send("verify");
      if (this.held && answer !== this.#token) this.#loseRecord();
    } catch (error) {
      if (this.held) this.lose(error);
    }
  }

  /** Has the server take one step with it. */
  send(operation: Operation, allowed = ""): Promise<unknown> {
    const { session, names } = this.presence;
    const { key, queue, shared = "", sharded } = names;
    return session.run(STEP, [key, queue], [
      operation,
      this.name,
      sessionPrefix(names),
      sharded ? "S" : "",
      shared,
      allowed,
    ], () => operation === "release" || !this.#over);
  }

  #loseRecord(): void {
    this.lose(new Error("the server has lost the record of the lock"));
  }

  get #over(): boolean {
    return this.#state === "left" || this.#state === "lost";
  }

  #lossOf(error: unknown): Error {
    return failure(`Lost the lock on ${this.presence.names.channel}`, error);
  }

  #leave(): Promise<void> {
    const { held } = this;
    this.#state = "left";
    this.#waiting?.wake();
    const left = this.#clear();
    if (held) this.onEnd(left);
    return left;
  }

  async #clear(): Promise<void> {
    // Who was refused has nothing on the server.
    const may = this.#entered !== false && this.session.lost === undefined;
    await Promise.allSettled([
      may ? this.#withdraw() : undefined,
      this.presence.leave(this),
    ]);
  }

  /**
   * Has the server remove it. A server that refuses would count it as long as
   * the session lives, so then this ends; what has moved counts no more.
   */
  async #withdraw(): Promise<void> {
    try {
      await this.send("release");
    } catch (error) {
      // Answers come in order, so it is known by now what the first step was.
      const known = this.#entered !== false;
      if (known && !hasMoved(error)) this.session.lose(error);
    }
  }
}
