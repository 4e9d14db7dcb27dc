/** Detects members whose process is dead although their connection is open. */

import { clearTimeout, setTimeout } from "node:timers";
import { MAX_TIMER_MS, now } from "../../wait/deadline.ts";
import type { LockConnection } from "../connection/connection.ts";
import {
  clientName,
  parseMember,
  replyChannelPrefix,
} from "../protocol/keys.ts";
import type { LockKeys } from "../protocol/keys.ts";

/** How long replies are remembered at least, in milliseconds. */
const MIN_REMEMBERED_MS = 60_000;

/** How a waiter asks a member. */
export interface Question {
  readonly keys: LockKeys;
  /** How long to wait for each reply, in milliseconds. */
  readonly timeout: number;
  /** Whether the waiter still waits for the lock. */
  readonly isWanted: () => boolean;
  /** Called if the member does not reply to the first question. */
  readonly onSilent?: (() => void) | undefined;
  /** Called once the connection of the member has ended, or is killed. */
  readonly onGone: () => void;
}

/**
 * What one connection knows of the members that its waiters wait for.
 *
 * A member is asked twice, and then its connection is killed. A is a waiter, H
 * a member that lives, and D one that does not reply:
 *
 * - A.1 asks H, D and other dead members at once. Each has a timer of its own,
 *   so all that are dead cost as much as one.
 * - A.1 asks H, and this thread is blocked. A.2 runs when the time is over and
 *   the reply waits in the socket: A.2 waits for the reply to another command,
 *   which the server sends after it. If the server is silent, it never arrives,
 *   and H is not killed because of that.
 * - A.1 asks D for the second time, gets the lock from another holder, and the
 *   time is over: no waiter wants D to leave, so it is not killed.
 * - A.1 and B.1 of the same connection ask D: both get the result of one
 *   question, if their timeouts are equal.
 * - A.1 asked H a moment ago: it is not asked again.
 * - A.1 asks a member whose connection has ended. No connection receives the
 *   question, so A.1 does not wait for a reply.
 * - A.1 asks H, and the server refuses the question: H did not get it, so its
 *   silence means nothing.
 */
export class LivenessProbe {
  readonly #connection: LockConnection;
  /** When each connection last replied, by `now`. */
  #replies = new Map<string, number>();
  /** The same for those that have not replied since this map was current. */
  #oldReplies = new Map<string, number>();
  /** When the current map becomes the old one, by `now`. */
  #turn = 0;
  /** How long replies are remembered, in milliseconds; twice that at most. */
  #remembered = MIN_REMEMBERED_MS;
  /** What to call when a connection replies. */
  readonly #waiting = new Map<string, Set<() => void>>();
  /** The questions without a reply, by connection and timeout. */
  readonly #open = new Map<string, Set<Question>>();

  /** Creates a probe that asks through a connection. */
  constructor(connection: LockConnection) {
    this.#connection = connection;
  }

  /** Records that a connection replied. */
  onAlive(connectionId: string): void {
    const time = now();
    if (time >= this.#turn) this.#forgetOld(time);
    this.#replies.set(connectionId, time);
    for (const settle of this.#waiting.get(connectionId) ?? []) settle();
  }

  /**
   * Asks a member, unless it replied within the last `timeout` milliseconds. To
   * be called with the same object for each question of one waiter.
   */
  ask(member: string, question: Question): void {
    const { connectionId } = parseMember(member);
    if (connectionId === this.#connection.id) return;
    this.#remembered = Math.max(this.#remembered, question.timeout);
    if (now() - this.#lastReply(connectionId) < question.timeout) return;
    const id = `${connectionId} ${question.timeout}`;
    const open = this.#open.get(id);
    if (open) return void open.add(question);
    const questions = new Set([question]);
    this.#open.set(id, questions);
    this.#askTwice(member, question, questions)
      .finally(() => this.#open.delete(id));
  }

  #lastReply(connectionId: string): number {
    return this.#replies.get(connectionId) ??
      this.#oldReplies.get(connectionId) ?? -Infinity;
  }

  /** Forgets without a look at each reply: a thousand sessions may reply. */
  #forgetOld(time: number): void {
    this.#oldReplies = this.#replies;
    this.#replies = new Map();
    this.#turn = time + this.#remembered;
  }

  async #askTwice(
    member: string,
    { keys, timeout }: Question,
    questions: ReadonlySet<Question>,
  ): Promise<void> {
    const isWanted = () => [...questions].some((asked) => asked.isWanted());
    const { connectionId } = parseMember(member);
    const askOnce = () => this.#askOnce(connectionId, keys, timeout);
    let found = await askOnce();
    if (found === "silent" && isWanted()) {
      for (const { onSilent } of [...questions]) onSilent?.();
      found = await askOnce();
    }
    if (found === "alive" || !isWanted()) return;
    if (found === "silent" && !await this.#kill(member)) return;
    for (const { onGone } of questions) onGone();
  }

  async #askOnce(
    connectionId: string,
    keys: LockKeys,
    timeout: number,
  ): Promise<"alive" | "silent" | "gone"> {
    const connection = this.#connection;
    const asked = now();
    const { replied, settle } = this.#waitForReply(connectionId, timeout);
    const sent = connection.send([
      keys.sharded ? "SPUBLISH" : "PUBLISH",
      replyChannelPrefix(keys) + connectionId,
      `ask ${connection.replyChannel(keys)}`,
    ]);
    let receivers: unknown;
    sent.then((count) => {
      receivers = count;
      if (count === 0) settle();
    }, () => {
      receivers = "refused";
      settle();
    });
    await replied;
    if (receivers === 0) return "gone";
    if (receivers === "refused") return "alive";
    if (this.#lastReply(connectionId) >= asked) return "alive";
    try {
      // A reply that has arrived, but was not read, is read before this.
      await connection.roundTrip();
    } catch {
      return "alive";
    }
    return this.#lastReply(connectionId) < asked ? "silent" : "alive";
  }

  /** Waits for a reply, until `settle` is called or the time is over. */
  #waitForReply(connectionId: string, timeout: number) {
    let settle = () => {};
    const replied = new Promise<void>((resolve) => settle = resolve);
    this.#untilReply(connectionId, timeout, replied, settle);
    return { replied, settle };
  }

  async #untilReply(
    connectionId: string,
    timeout: number,
    replied: Promise<void>,
    settle: () => void,
  ): Promise<void> {
    const waiting = this.#waiting.get(connectionId) ?? new Set();
    this.#waiting.set(connectionId, waiting);
    waiting.add(settle);
    const timer = setTimeout(settle, Math.min(timeout, MAX_TIMER_MS));
    timer.unref();
    await replied;
    clearTimeout(timer);
    waiting.delete(settle);
    if (waiting.size === 0) this.#waiting.delete(connectionId);
  }

  /**
   * Kills the connection of a member, after checking its name: a server that
   * restarted gives the same numbers to other connections.
   *
   * @returns Whether it is killed.
   */
  async #kill(member: string): Promise<boolean> {
    const { connectionId, clientId } = parseMember(member);
    const connection = this.#connection;
    try {
      const list = await connection.send(["CLIENT", "LIST", "ID", clientId]);
      const named = String(list).includes(` name=${clientName(connectionId)} `);
      if (named) await connection.send(["CLIENT", "KILL", "ID", clientId]);
      return named;
    } catch {
      // Without the permission, the waiter waits until the server closes the
      // connection by itself.
      return false;
    }
  }
}
