/** The locks that one connection holds or waits for. */

import type {
  ConnectionListener,
  LockConnection,
} from "../connection/connection.ts";
import type { LockKeys } from "../protocol/keys.ts";
import { LivenessProbe } from "./liveness.ts";
import { ChannelSubscription } from "./subscription.ts";
import type { Subscriber } from "./subscription.ts";

/**
 * Passes what happens to a connection on to its acquisitions.
 *
 * Messages between connections are `granted NUMBER TOKEN`, which the server
 * sends to a waiter; `ask CHANNEL`, to which a connection that is alive replies
 * on that channel; and this reply, `here IDENTIFIER`.
 */
export class ConnectionLocks implements ConnectionListener {
  readonly liveness: LivenessProbe;
  readonly #connection: LockConnection;
  /** All acquisitions, by number. */
  readonly #subscribers = new Map<number, Subscriber>();
  /** By the key of the lock. */
  readonly #subscriptions = new Map<string, ChannelSubscription>();

  private constructor(connection: LockConnection) {
    this.#connection = connection;
    this.liveness = new LivenessProbe(connection);
  }

  /** Returns the locks of a connection. */
  static of(connection: LockConnection): ConnectionLocks {
    const { listener } = connection;
    if (listener instanceof ConnectionLocks) return listener;
    const locks = new ConnectionLocks(connection);
    connection.listener = locks;
    return locks;
  }

  /** Returns the subscription to a lock, which may be new. */
  subscription(keys: LockKeys): ChannelSubscription {
    const existing = this.#subscriptions.get(keys.key);
    if (existing) return existing;
    const subscription = new ChannelSubscription(this.#connection, keys, {
      subscribers: this.#subscribers,
      onEmpty: () => this.#subscriptions.delete(keys.key),
    });
    this.#subscriptions.set(keys.key, subscription);
    return subscription;
  }

  /** Handles a message of the server or of another connection. */
  onMessage(keys: Pick<LockKeys, "sharded">, message: string): void {
    const [verb, subject = "", token = ""] = message.split(" ");
    if (verb === "granted") {
      this.#subscribers.get(Number(subject))?.granted(token);
    } else if (verb === "ask") {
      this.#connection.publish(keys, subject, `here ${this.#connection.id}`);
    } else if (verb === "here") {
      this.liveness.onAlive(subject);
    }
  }

  /** Reports to all acquisitions that they are lost. */
  onLost(error: unknown): void {
    for (const subscription of this.#subscriptions.values()) {
      subscription.fail(error);
    }
  }

  /** Reports to the acquisitions of a lock that they are lost. */
  onChannelMoved(channel: string): void {
    const moved = new Error("the lock moved to another node of the cluster");
    for (const subscription of this.#subscriptions.values()) {
      if (subscription.listensTo(channel)) subscription.fail(moved);
    }
  }

  /** Asks the server whether each lock that is held still is. */
  onHeartbeat(): Promise<unknown>[] {
    return [...this.#subscribers.values()]
      .filter(({ held }) => held)
      .map((subscriber) => subscriber.verify());
  }
}
