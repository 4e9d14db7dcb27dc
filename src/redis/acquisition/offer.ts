/** A lease that was transferred and waits to be adopted. */

import { clearTimeout, setTimeout } from "node:timers";
import type { LockType } from "../protocol/keys.ts";
import type { ChannelSubscription, Subscriber } from "./subscription.ts";

/** The record of a lease that was transferred. */
export interface OfferedRecord {
  /** The number of the acquisition on its connection. */
  readonly id: number;
  readonly lockType: LockType;
  readonly unavailableTimeout: number;
  /** Whether the server still has the record, as far as it replies. */
  isThere(): Promise<boolean>;
  /** Removes the record from the server. Never rejects. */
  remove(): Promise<void>;
}

/**
 * Keeps the record of a lease on the server, until another process adopts it.
 *
 * The giver G calls `transfer` (T), which ends its lease: its `signal` aborts,
 * and only its record stays. Nothing that G does afterwards is protected. The
 * receiver R gets the text and runs the adopting script (A), which replaces the
 * record of G by one of R and sends G a message (M). The offer may expire (X),
 * which removes the record of G and grants the lock to the next waiter. The
 * connection of G may end on the server (D).
 *
 * - T A M: there is one record at any time, so no waiter is granted the lock,
 *   and no Python client is alone: both connections are subscribed during A.
 * - T A A: the text is used twice. The first A has removed the record of G, so
 *   the second one is refused. A member and its token are never used again.
 * - T X A: the record is gone. A is refused.
 * - T A X: X removes a member that does not exist. R keeps the lock.
 * - T D A: the record of G does not count any more, and a waiter or a Python
 *   client may hold the lock. A finds that nothing is subscribed to the channel
 *   of G, and is refused, also if no step has removed the record yet.
 * - T A D: the record is the one of R, which does not depend on G.
 * - D T A: G did not know yet that it had lost the lock. A is refused, as above.
 * - T, and R dies before A: X grants the lock to the next waiter. If G dies,
 *   too, D does.
 * - T, and the server is silent for the time of G, but other locks keep the
 *   connection open: this is X. Otherwise, the record would stay as long as the
 *   connection.
 * - T A, and R dies: the record of R belongs to a connection that has ended.
 * - T A, and R does not get the reply: R tries again on another connection, and
 *   is refused. Its first record belongs to a connection that has ended. If R
 *   gives up instead, it sends `release` for its own member.
 * - R has a connection of its own for messages, which ends on the server before
 *   A: A changes nothing, and R tries again on another connection.
 * - The server restarts, or loses its data, after T: there is neither a record
 *   nor a connection. A is refused.
 * - A replica takes over after T: it may have the record, but not the connection
 *   of G. A is refused. If it takes over after A, R is lost as any holder is.
 * - M arrives after the reply to a heartbeat, on a connection of its own: the
 *   reply says that the record is gone, which ends the offer, too.
 * - G and R are the same process: A takes the lease back.
 */
export class Offer implements Subscriber {
  readonly id: number;
  readonly lockType: LockType;
  readonly unavailableTimeout: number;
  /** Python clients and heartbeats see a lock that is held. */
  readonly held = true;
  /** Settles when it is adopted, or the record is removed or lost. */
  readonly ended: Promise<void>;
  readonly #subscription: ChannelSubscription;
  readonly #record: OfferedRecord;
  readonly #timer: ReturnType<typeof setTimeout>;
  #over = false;
  #settle: () => void = () => {};

  /** Creates an offer, which takes the place of the acquisition next. */
  constructor(
    subscription: ChannelSubscription,
    record: OfferedRecord,
    timeout: number,
  ) {
    this.#subscription = subscription;
    this.#record = record;
    this.id = record.id;
    this.lockType = record.lockType;
    this.unavailableTimeout = record.unavailableTimeout;
    const { connection } = subscription;
    connection.addUser(record.unavailableTimeout);
    // The process must not end, with its connection, before the adoption.
    this.ended = connection.keepAliveWhile(
      new Promise<void>((resolve) => this.#settle = resolve),
    );
    this.#timer = setTimeout(() => this.#end(true), timeout);
  }

  /** Handles that another process holds the lock now. */
  adopted(): void {
    this.#end(false);
  }

  /**
   * Handles that the connection ended, and with it the record. If only the
   * server was silent, the connection may live on, and keep the record.
   */
  lost(): void {
    this.#end(this.#subscription.connection.failure === undefined);
  }

  /** Ends if the message of the adoption did not arrive. Never rejects. */
  async verify(): Promise<void> {
    if (!await this.#record.isThere()) this.#end(false);
  }

  /** A record is granted once. */
  granted(): void {}

  /** Only waiters look. */
  onLook(): void {}

  /** Only waiters poll. */
  onPing(): void {}

  async #end(remove: boolean): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    const removed = remove ? this.#record.remove() : Promise.resolve();
    const left = removed.then(() => this.#subscription.remove(this));
    const { connection } = this.#subscription;
    // As long as the server refuses the command, the connection sends it again.
    // If no other lock keeps the connection open, it ends with the record.
    await new Promise<void>((resolve) => {
      const clear = connection.replyTimer.set(this.unavailableTimeout, resolve);
      left.then(clear).then(resolve);
    });
    connection.removeUser(this.unavailableTimeout);
    this.#settle();
  }
}
