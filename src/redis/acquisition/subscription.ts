/** The subscription of one connection to the channels of one lock. */

import type { LockConnection } from "../connection/connection.ts";
import type { LockKeys, LockType } from "../protocol/keys.ts";
import { pongMessage, replyChannel } from "../python/protocol.ts";
import type { Role } from "../python/protocol.ts";

/** One acquisition, as its subscription and its connection see it. */
export interface Subscriber {
  /** The number of the acquisition on its connection. */
  readonly id: number;
  readonly lockType: LockType;
  /** How long the server may be silent, in milliseconds. */
  readonly unavailableTimeout: number;
  /** Whether it holds the lock. */
  readonly held: boolean;
  /** Handles that the server granted the lock. */
  granted(token: string): void;
  /** Handles that the lock, or the place in the queue, is lost. */
  lost(error: unknown): void;
  /** Handles that it came to the fourth place of the queue. */
  onLook(): void;
  /** Handles a ping of a Python client. */
  onPing(): void;
  /** Handles that another process has adopted the lock. */
  adopted?(): void;
  /** Asks the server whether the lock is still held. Never rejects. */
  verify(): Promise<void>;
}

/** What a subscription shares with the others of its connection. */
export interface SubscriptionContext {
  /** All acquisitions of the connection, by number. */
  readonly subscribers: Map<number, Subscriber>;
  /** Called when the last acquisition is removed. */
  onIdle(subscription: ChannelSubscription): void;
  /** Called when an acquisition is added after that. */
  onUsed(subscription: ChannelSubscription): void;
  /** Called once, when the subscription ends. */
  onEnd(subscription: ChannelSubscription): void;
}

/**
 * Stays subscribed from its first acquisition until a moment after its last,
 * because a lock is often acquired again soon. Until then it is idle. Consider
 * acquisitions A and B:
 *
 * - A.1 sends `SUBSCRIBE` and its script. A.2 is aborted and removed before the
 *   reply to A.1. Client libraries register a subscription when the server
 *   confirms it, so an `UNSUBSCRIBE` has to wait for that reply.
 * - B.1 is added before that reply arrives, or while the subscription is idle:
 *   it uses the subscription of A.1.
 * - B.1 is added after `UNSUBSCRIBE` was sent: this object is no longer known
 *   to the connection, and B has a new one with its own `SUBSCRIBE`.
 *
 * P is a Python client, which acquires the lock only if it is alone, or if all
 * others reply that they share and their number does not change meanwhile:
 *
 * - P.1 pings while A holds the lock, and A.2 releases it: it unsubscribes at
 *   once, because the next ping of P would fail if it were idle.
 * - P.1 pings while this is idle. No reply is needed: it unsubscribes, and P
 *   finds itself alone. If B.1 is sent before that, B is added and the reply is
 *   `pending`. If B.1 is sent after that, P is subscribed before B, and the
 *   script of B counts it.
 * - A.1 holds the lock, A.2 sends `release`, and P.1 pings: A is removed when
 *   A.2 is sent, so there is no reply. P waits until A.2 is executed and the
 *   subscription ended, in any order: both belong to a lock that A has given up.
 *
 * If replies and messages have connections of their own, the order of a ping
 * and of the reply to a script is not known:
 *
 * - A.1 is granted the lock, P.1 pings, and P.1 is read first: A is still
 *   waiting here, and the reply is `pending`. Python does not enter beside it.
 * - A.1 shares the lock and B.1 is granted it, too: as long as the reply to B.1
 *   is not read, the reply to a ping is `pending`. It is `shared` only while
 *   every acquisition holds, as far as this connection has read.
 * - A.1 shares the lock and sends `release`, and P.1 is read before the server
 *   executes A.1: there is no reply, as above.
 * - A.1 subscribes and sends its script: the script waits for the reply to
 *   `SUBSCRIBE` (`AcquireWait`), or P could be alone while A is granted the
 *   lock.
 * - A.1 sends `release`, and the idle subscription ends before the server
 *   executes A.1: P may enter beside the record of A, which has given it up.
 * - A.1 is in the queue and gives up. `UNSUBSCRIBE` overtakes its `release`,
 *   and the server grants it the lock in between: as before.
 */
export class ChannelSubscription {
  readonly connection: LockConnection;
  readonly keys: LockKeys;
  readonly channels: readonly string[];
  readonly #context: SubscriptionContext;
  readonly #subscribers = new Set<Subscriber>();
  /** Set when `SUBSCRIBE` is sent, unset when it is refused. */
  #subscribed: Promise<unknown> | undefined;
  #confirmed = false;
  /**
   * How many acquisitions wait for the reply to `release`. The next one often
   * follows that reply, so the subscription does not end before.
   */
  leaving = 0;
  /** Whether a Python client takes part. It would count an idle subscription. */
  pythonSeen = false;

  /** Creates a subscription, without sending anything. */
  constructor(
    connection: LockConnection,
    keys: LockKeys,
    context: SubscriptionContext,
  ) {
    this.connection = connection;
    this.keys = keys;
    this.#context = context;
    const { key, shared, sharded } = keys;
    this.channels = [
      key,
      ...shared === undefined ? [] : [shared],
      ...sharded ? [connection.replyChannel(keys)] : [],
    ];
  }

  /** Whether this includes a channel. */
  listensTo(channel: string): boolean {
    return this.channels.includes(channel);
  }

  /** Whether the server has confirmed it. */
  get confirmed(): boolean {
    return this.#confirmed;
  }

  /**
   * Adds an acquisition, and subscribes if it is the first.
   *
   * @returns A promise that settles with the reply to `SUBSCRIBE`.
   */
  add(subscriber: Subscriber): Promise<unknown> {
    const subscribed = this.#subscribed ??= this.#subscribe();
    if (this.#subscribers.size === 0) this.#context.onUsed(this);
    this.#subscribers.add(subscriber);
    this.#context.subscribers.set(subscriber.id, subscriber);
    return subscribed;
  }

  /**
   * Puts one in the place of another with the same number. This stays
   * subscribed: between a removal and an addition, it could end.
   */
  replace(subscriber: Subscriber, successor: Subscriber): void {
    this.#subscribers.delete(subscriber);
    this.#subscribers.add(successor);
    this.#context.subscribers.set(successor.id, successor);
  }

  /** Removes an acquisition. After the last, the subscription ends soon. */
  remove(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber);
    this.#context.subscribers.delete(subscriber.id);
    if (this.#subscribers.size > 0) return;
    if (this.pythonSeen) this.#context.onEnd(this);
    else this.#context.onIdle(this);
  }

  /**
   * Settles once the server has replied to `SUBSCRIBE`, and returns whether the
   * subscription is idle then. Never rejects.
   */
  async idleOnceConfirmed(): Promise<boolean> {
    await this.#subscribed?.catch(() => {});
    return this.#subscribers.size === 0;
  }

  /** Reports to all acquisitions that they are lost. */
  fail(error: unknown): void {
    for (const subscriber of this.#subscribers) subscriber.lost(error);
  }

  #subscribe(): Promise<unknown> {
    const { connection, keys: { sharded } } = this;
    const subscribed = connection.subscribe(
      this.channels,
      sharded,
      this.#onMessage,
    );
    subscribed.then(
      () => this.#confirmed = true,
      // The next acquisition sends it again.
      () => this.#subscribed = undefined,
    );
    return subscribed;
  }

  readonly #onMessage = (message: string, channel: string): void => {
    const { keys, connection } = this;
    if (channel !== keys.shared) {
      if (keys.sharded && channel !== keys.key) {
        connection.listener?.onMessage(keys, message);
      }
      return;
    }
    const replyTo = replyChannel(message);
    if (replyTo === undefined) return;
    const fromPython = !replyTo.startsWith(keys.namespace);
    if (fromPython) this.pythonSeen = true;
    if (this.#subscribers.size === 0) {
      if (fromPython) this.#context.onEnd(this);
      return;
    }
    connection.publish(keys, replyTo, pongMessage(connection.id, this.#role()));
    if (!fromPython) return;
    for (const subscriber of this.#subscribers) subscriber.onPing();
  };

  /** How this connection takes part in the lock, in Python's words. */
  #role(): Role {
    const subscribers = [...this.#subscribers];
    if (subscribers.some(({ held, lockType }) => held && lockType === "x")) {
      return "exclusive";
    }
    return subscribers.every(({ held }) => held) ? "shared" : "pending";
  }
}
