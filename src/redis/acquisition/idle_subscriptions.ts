/** The subscriptions of one connection that no acquisition uses. */

import { clearTimeout, setTimeout } from "node:timers";
import type { LockConnection } from "../connection/connection.ts";
import type { ChannelSubscription } from "./subscription.ts";

/** A subscription is idle for once or twice this time, in milliseconds. */
const IDLE_MS = 50;

/** The largest number of channels in one command, or a few more. */
const MAX_CHANNELS = 500;

/**
 * Unsubscribes after a moment, so that a lock that is acquired and released in
 * a row needs one command for each. One timer serves all locks.
 */
export class IdleSubscriptions {
  readonly #connection: LockConnection;
  readonly #onEnd: (subscription: ChannelSubscription) => void;
  /** Idle since the timer was last set. */
  #young = new Set<ChannelSubscription>();
  /** Idle since before that. */
  #old = new Set<ChannelSubscription>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Creates an empty set. `onEnd` is called before each unsubscribes. */
  constructor(
    connection: LockConnection,
    onEnd: (subscription: ChannelSubscription) => void,
  ) {
    this.#connection = connection;
    this.#onEnd = onEnd;
  }

  /**
   * Adds a subscription that is not used any more. It may be known already: it
   * was used and left again before the server confirmed it.
   */
  add(subscription: ChannelSubscription): void {
    this.#old.delete(subscription);
    this.#young.add(subscription);
    if (this.#timer === undefined) this.#setTimer();
  }

  /** Removes a subscription that is used again. */
  delete(subscription: ChannelSubscription): void {
    this.#young.delete(subscription) || this.#old.delete(subscription);
  }

  /** Unsubscribes at once. */
  end(subscription: ChannelSubscription): void {
    this.delete(subscription);
    this.#unsubscribe([subscription]);
  }

  /** Forgets all, because the connection has ended. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#young.clear();
    this.#old.clear();
  }

  #setTimer(): void {
    this.#timer = setTimeout(() => this.#onTimer(), IDLE_MS);
    this.#timer.unref();
  }

  #onTimer(): void {
    const ended = [];
    for (const subscription of this.#old) {
      if (subscription.leaving === 0) ended.push(subscription);
      else this.#young.add(subscription);
    }
    this.#old = this.#young;
    this.#young = new Set();
    this.#timer = undefined;
    if (this.#old.size > 0) this.#setTimer();
    this.#unsubscribe(ended);
  }

  #unsubscribe(subscriptions: readonly ChannelSubscription[]): void {
    // The channels of one lock stay together. Between two commands, this
    // connection would be counted as a Python client.
    let channels: string[] = [];
    for (const subscription of subscriptions) {
      // Client libraries do not know it before the server has confirmed it.
      if (!subscription.confirmed) this.#endLater(subscription);
      else {
        this.#onEnd(subscription);
        // In a cluster, the channels of one command belong to one slot.
        if (subscription.keys.sharded) this.#send(subscription.channels, true);
        else channels.push(...subscription.channels);
      }
      if (channels.length < MAX_CHANNELS) continue;
      this.#send(channels, false);
      channels = [];
    }
    if (channels.length > 0) this.#send(channels, false);
  }

  async #endLater(subscription: ChannelSubscription): Promise<void> {
    const idle = await subscription.idleOnceConfirmed();
    if (!idle || this.#connection.failure) return;
    if (subscription.confirmed) this.add(subscription);
    // The server has refused it.
    else this.#onEnd(subscription);
  }

  #send(channels: readonly string[], sharded: boolean): void {
    if (this.#connection.failure) return;
    this.#connection.unsubscribe(channels, sharded).catch(() => {});
  }
}
