/** The locks that one connection holds or waits for. */

import { silence } from "../connection/connection.ts";
import type {
  ConnectionListener,
  LockConnection,
  OwnChannel,
} from "../connection/connection.ts";
import { connectionChannel } from "../protocol/keys.ts";
import type { LockKeys } from "../protocol/keys.ts";
import { IdleSubscriptions } from "./idle_subscriptions.ts";
import { LivenessProbe } from "./liveness.ts";
import { ChannelSubscription } from "./subscription.ts";
import type { Subscriber, SubscriptionContext } from "./subscription.ts";

/** How many locks one heartbeat checks. */
const MAX_CHECKED = 256;

/**
 * Passes what happens to a connection on to its acquisitions.
 *
 * Messages between connections are `granted NUMBER TOKEN`, which the server
 * sends to a waiter; `look NUMBER`, which it sends to the fourth waiter;
 * `adopted NUMBER`, which it sends to a holder that has transferred its lease;
 * `ask CHANNEL`, to which a connection that is alive replies on that channel;
 * and this reply, `here IDENTIFIER`. A connection sends `echo NUMBER` to itself.
 */
export class ConnectionLocks
  implements ConnectionListener, SubscriptionContext {
  readonly liveness: LivenessProbe;
  /** All acquisitions, by number. */
  readonly subscribers: Map<number, Subscriber> = new Map();
  readonly #connection: LockConnection;
  /** By the key of the lock. */
  readonly #subscriptions = new Map<string, ChannelSubscription>();
  readonly #idle: IdleSubscriptions;
  /** The acquisitions that the next heartbeats check. */
  #unchecked: Iterator<Subscriber> = [].values();

  private constructor(connection: LockConnection) {
    this.#connection = connection;
    this.liveness = new LivenessProbe(connection);
    this.#idle = new IdleSubscriptions(
      connection,
      (subscription) => this.#forget(subscription),
    );
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
    const subscription = new ChannelSubscription(this.#connection, keys, this);
    this.#subscriptions.set(keys.key, subscription);
    return subscription;
  }

  /** Forgets a subscription, unless a new one has taken its place. */
  #forget(subscription: ChannelSubscription): void {
    const { key } = subscription.keys;
    if (this.#subscriptions.get(key) !== subscription) return;
    this.#subscriptions.delete(key);
  }

  /** Keeps a subscription for a moment. */
  onIdle(subscription: ChannelSubscription): void {
    if (!this.#connection.failure) this.#idle.add(subscription);
  }

  /** Keeps a subscription that is used again. */
  onUsed(subscription: ChannelSubscription): void {
    this.#idle.delete(subscription);
  }

  /** Ends a subscription that is not used. */
  onEnd(subscription: ChannelSubscription): void {
    this.#idle.end(subscription);
  }

  /** Handles a message of the server or of another connection. */
  onMessage(keys: Pick<LockKeys, "sharded">, message: string): void {
    const [verb, subject = "", token = ""] = message.split(" ");
    if (verb === "granted") {
      this.subscribers.get(Number(subject))?.granted(token);
    } else if (verb === "look") {
      this.subscribers.get(Number(subject))?.onLook();
    } else if (verb === "adopted") {
      this.subscribers.get(Number(subject))?.adopted?.();
    } else if (verb === "ask") {
      // The prefix, and in a cluster the name of the lock, may contain spaces.
      const channel = message.slice("ask ".length);
      this.#connection.publish(keys, channel, `here ${this.#connection.id}`);
    } else if (verb === "here") {
      this.liveness.onAlive(subject);
    } else if (verb === "echo") {
      this.#connection.onEcho(Number(subject));
    }
  }

  /** Reports to all acquisitions that they are lost. */
  onLost(error: unknown): void {
    this.#idle.clear();
    for (const subscription of this.#subscriptions.values()) {
      subscription.fail(error);
    }
  }

  /** Reports to the acquisitions with these timeouts that they are lost. */
  onSilent(timeout: number): void {
    for (const subscriber of [...this.subscribers.values()]) {
      const { unavailableTimeout } = subscriber;
      if (unavailableTimeout <= timeout) {
        subscriber.lost(silence(unavailableTimeout));
      }
    }
  }

  /**
   * Handles that the server has ended the subscription to a channel. Its
   * acquisitions are lost, and later ones subscribe anew: the slot may return.
   */
  onChannelMoved(channel: string): void {
    const moved = new Error("the lock moved to another node of the cluster");
    for (const subscription of [...this.#subscriptions.values()]) {
      if (!subscription.listensTo(channel)) continue;
      subscription.fail(moved);
      this.#idle.delete(subscription);
      this.#forget(subscription);
    }
  }

  /** Asks the server whether some of the locks that are held still are. */
  onHeartbeat(): void {
    for (let checked = 0; checked < MAX_CHECKED;) {
      const { value, done } = this.#unchecked.next();
      if (done) {
        // The next heartbeat begins anew.
        this.#unchecked = this.subscribers.values();
        return;
      }
      if (!value.held) continue;
      value.verify();
      checked++;
    }
  }

  /** Returns a channel to which only this connection is subscribed. */
  ownChannel(): OwnChannel | undefined {
    const [first] = this.#subscriptions.values();
    if (first === undefined) return undefined;
    const { keys: { namespace, sharded } } = first;
    const channel = sharded
      ? this.#connection.replyChannel(first.keys)
      : connectionChannel(namespace, this.#connection.id);
    return { channel, sharded };
  }
}
