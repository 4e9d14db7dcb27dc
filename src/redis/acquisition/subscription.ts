/** What one session has on one channel: its entries and its subscription. */

import { Acquisition } from "./acquisition.ts";
import { RESERVED } from "../protocol/keys.ts";
import type { LockKeys, LockType } from "../protocol/keys.ts";
import type { LockConnection } from "../connection/connection.ts";
import { pongMessage, replyChannel } from "../python/protocol.ts";
import type { Role } from "../python/protocol.ts";

/** From the first entry to the last it is subscribed. */
export class ChannelSubscription {
  readonly connection: LockConnection;
  readonly keys: LockKeys;
  readonly #acquisitions = new Set<Acquisition>();
  readonly #channels: string[];
  readonly #onEmpty: () => void;
  /** Asked for, and not refused. */
  #subscribed: Promise<unknown> | undefined;
  #confirmed = false;
  #unsubscribed: Promise<unknown> | undefined;

  constructor(connection: LockConnection, keys: LockKeys, ended: () => void) {
    this.connection = connection;
    this.keys = keys;
    this.#onEmpty = ended;
    const { key, shared, sharded } = keys;
    this.#channels = [
      key,
      ...shared === undefined ? [] : [shared],
      ...sharded ? [connection.replyChannel(keys)] : [],
    ];
  }

  /** Whether it is subscribed to a channel. */
  listensTo(channel: string): boolean {
    return this.#channels.includes(channel);
  }

  /** A new entry, and the subscription unless it is there. */
  add(
    lockType: LockType,
  ): { acquisition: Acquisition; subscribed: Promise<unknown> } {
    const subscribed = this.#subscribed ??= this.#subscribe();
    const acquisition = new Acquisition(this, lockType);
    this.#acquisitions.add(acquisition);
    this.connection.acquisitions.set(acquisition.id, acquisition);
    return { acquisition, subscribed };
  }

  /** Forgets an entry; with the last one ends the subscription. */
  remove(acquisition: Acquisition): Promise<unknown> | undefined {
    this.#acquisitions.delete(acquisition);
    this.connection.acquisitions.delete(acquisition.id);
    return this.#confirmed
      ? this.#unsubscribeIfEmpty()
      : this.#unsubscribeOnceConfirmed();
  }

  /** Nothing of it counts any more. */
  fail(error: unknown): void {
    for (const acquisition of this.#acquisitions) acquisition.lost(error);
  }

  #subscribe(): Promise<unknown> {
    const subscribed = this.#subscription("subscribe", "sSubscribe");
    subscribed.then(
      () => this.#confirmed = true,
      // Who comes next asks again.
      () => this.#subscribed = undefined,
    );
    return subscribed;
  }

  /**
   * node-redis knows of a subscription once it is answered. Until then it would
   * take one that is given up for one that is there, or for somebody else's.
   */
  async #unsubscribeOnceConfirmed(): Promise<void> {
    while (this.#subscribed && !this.#confirmed && !this.connection.failure) {
      await this.#subscribed.catch(() => {});
    }
    await this.#unsubscribeIfEmpty();
  }

  /** Whoever comes after that has a presence, and a subscription, of its own. */
  #unsubscribeIfEmpty(): Promise<unknown> | undefined {
    if (this.#acquisitions.size > 0 || this.#unsubscribed) {
      return this.#unsubscribed;
    }
    this.#onEmpty();
    const subscribed = this.#confirmed && !this.connection.failure;
    return this.#unsubscribed = subscribed
      ? this.#subscription("unsubscribe", "sUnsubscribe")
      : Promise.resolve();
  }

  #subscription(
    command: "subscribe" | "unsubscribe",
    sharded: "sSubscribe" | "sUnsubscribe",
  ): Promise<unknown> {
    const { client } = this.connection;
    const send = this.keys.sharded ? sharded : command;
    return client[send](this.#channels, this.#onMessage);
  }

  readonly #onMessage = (message: string, channel: string): void => {
    const { keys, connection } = this;
    if (channel !== keys.shared) {
      if (keys.sharded && channel !== keys.key) {
        connection.onMessage(keys, message);
      }
      return;
    }
    const responses = replyChannel(message);
    if (responses === undefined) return;
    connection.publish(
      keys,
      responses,
      pongMessage(connection.id, this.#role()),
    );
    if (responses.startsWith(RESERVED)) return;
    for (const acquisition of this.#acquisitions) acquisition.pollSoon();
  };

  /** How this session takes part, as Python calls it. */
  #role(): Role {
    const acquisitions = [...this.#acquisitions];
    if (
      acquisitions.some(({ held, lockType }) => held && lockType === "x")
    ) {
      return "exclusive";
    }
    const shared = acquisitions.length > 0 &&
      acquisitions.every(({ held }) => held);
    return shared ? "shared" : "pending";
  }
}
