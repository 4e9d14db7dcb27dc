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
  /** Whether it holds the lock. */
  readonly held: boolean;
  /** Handles that the server granted the lock. */
  granted(token: string): void;
  /** Handles that the lock, or the place in the queue, is lost. */
  lost(error: unknown): void;
  /** Handles a ping of a Python client. */
  onPing(): void;
  /** Asks the server whether the lock is still held. Never rejects. */
  verify(): Promise<void>;
}

/** What a subscription shares with the others of its connection. */
export interface SubscriptionContext {
  /** All acquisitions of the connection, by number. */
  readonly subscribers: Map<number, Subscriber>;
  /** Called once, when the last acquisition is removed. */
  readonly onEmpty: () => void;
}

/**
 * Stays subscribed from its first acquisition to its last.
 *
 * node-redis registers a subscription when the server confirms it. An
 * `UNSUBSCRIBE` that is sent earlier would remove nothing, or the subscription
 * of an acquisition that follows. Consider acquisitions A and B:
 *
 * - A.1 sends `SUBSCRIBE` and its script. A.2 is aborted and removed before the
 *   reply to A.1: the end of the subscription has to wait for that reply.
 * - B.1 is added before that reply arrives: it uses the subscription of A.1,
 *   and the reply finds the subscription in use.
 * - B.1 is added after A has sent `UNSUBSCRIBE`: this object is no longer
 *   known to the connection, and B has a new one with its own `SUBSCRIBE`.
 * - A and B are removed before the reply to A.1: both wait for the same reply,
 *   and only the first sends `UNSUBSCRIBE`.
 */
export class ChannelSubscription {
  readonly connection: LockConnection;
  readonly keys: LockKeys;
  readonly #context: SubscriptionContext;
  readonly #subscribers = new Set<Subscriber>();
  readonly #channels: string[];
  /** Set when `SUBSCRIBE` is sent, unset when it is refused. */
  #subscribed: Promise<unknown> | undefined;
  #confirmed = false;
  #unsubscribed: Promise<unknown> | undefined;

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
    this.#channels = [
      key,
      ...shared === undefined ? [] : [shared],
      ...sharded ? [connection.replyChannel(keys)] : [],
    ];
  }

  /** Whether this includes a channel. */
  listensTo(channel: string): boolean {
    return this.#channels.includes(channel);
  }

  /**
   * Adds an acquisition, and subscribes if it is the first.
   *
   * @returns A promise that settles with the reply to `SUBSCRIBE`.
   */
  add(subscriber: Subscriber): Promise<unknown> {
    const subscribed = this.#subscribed ??= this.#subscribe();
    this.#subscribers.add(subscriber);
    this.#context.subscribers.set(subscriber.id, subscriber);
    return subscribed;
  }

  /** Removes an acquisition, and unsubscribes if it was the last. */
  remove(subscriber: Subscriber): Promise<unknown> | undefined {
    this.#subscribers.delete(subscriber);
    this.#context.subscribers.delete(subscriber.id);
    return this.#confirmed
      ? this.#unsubscribeIfEmpty()
      : this.#unsubscribeOnceConfirmed();
  }

  /** Reports to all acquisitions that they are lost. */
  fail(error: unknown): void {
    for (const subscriber of this.#subscribers) subscriber.lost(error);
  }

  #subscribe(): Promise<unknown> {
    const { connection, keys: { sharded } } = this;
    const subscribed = connection.subscribe(
      this.#channels,
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

  /** Waits for the reply to `SUBSCRIBE` first; see the class. */
  async #unsubscribeOnceConfirmed(): Promise<void> {
    while (this.#subscribed && !this.#confirmed && !this.connection.failure) {
      await this.#subscribed.catch(() => {});
    }
    await this.#unsubscribeIfEmpty();
  }

  #unsubscribeIfEmpty(): Promise<unknown> | undefined {
    if (this.#subscribers.size > 0 || this.#unsubscribed) {
      return this.#unsubscribed;
    }
    // The next acquisition gets a new object, and a subscription of its own.
    this.#context.onEmpty();
    const { connection, keys: { sharded } } = this;
    const subscribed = this.#confirmed && !connection.failure;
    return this.#unsubscribed = subscribed
      ? connection.unsubscribe(this.#channels, sharded, this.#onMessage)
      : Promise.resolve();
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
    connection.publish(keys, replyTo, pongMessage(connection.id, this.#role()));
    if (replyTo.startsWith(keys.namespace)) return;
    for (const subscriber of this.#subscribers) subscriber.onPing();
  };

  /** How this connection takes part in the lock, in Python's words. */
  #role(): Role {
    const subscribers = [...this.#subscribers];
    if (subscribers.some(({ held, lockType }) => held && lockType === "x")) {
      return "exclusive";
    }
    const shared = subscribers.length > 0 &&
      subscribers.every(({ held }) => held);
    return shared ? "shared" : "pending";
  }
}
