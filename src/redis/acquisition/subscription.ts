/** What one session has on one channel: its entries and its subscription. */

import { Entry } from "./acquisition.ts";
import { RESERVED } from "../keys.ts";
import type { Kind, Names } from "../keys.ts";
import type { Session } from "../connection/connection.ts";
import { answer, responseChannel } from "../python/protocol.ts";
import type { Mode } from "../python/protocol.ts";

/** From the first entry to the last it is subscribed. */
export class Presence {
  readonly session: Session;
  readonly names: Names;
  readonly #entries = new Set<Entry>();
  readonly #channels: string[];
  readonly #ended: () => void;
  /** Asked for, and not refused. */
  #subscribed: Promise<unknown> | undefined;
  #answered = false;
  #unsubscribed: Promise<unknown> | undefined;

  constructor(session: Session, names: Names, ended: () => void) {
    this.session = session;
    this.names = names;
    this.#ended = ended;
    const { key, shared, sharded } = names;
    this.#channels = [
      key,
      ...shared === undefined ? [] : [shared],
      ...sharded ? [session.channel(names)] : [],
    ];
  }

  /** Whether it is subscribed to a channel. */
  listensTo(channel: string): boolean {
    return this.#channels.includes(channel);
  }

  /** A new entry, and the subscription unless it is there. */
  enter(kind: Kind): { entry: Entry; subscribed: Promise<unknown> } {
    const subscribed = this.#subscribed ??= this.#subscribe();
    const entry = new Entry(this, kind);
    this.#entries.add(entry);
    this.session.entries.set(entry.number, entry);
    return { entry, subscribed };
  }

  /** Forgets an entry; with the last one ends the subscription. */
  leave(entry: Entry): Promise<unknown> | undefined {
    this.#entries.delete(entry);
    this.session.entries.delete(entry.number);
    return this.#answered ? this.#endIfEmpty() : this.#endOnceAnswered();
  }

  /** Nothing of it counts any more. */
  lose(error: unknown): void {
    for (const entry of this.#entries) entry.lose(error);
  }

  #subscribe(): Promise<unknown> {
    const subscribed = this.#subscription("subscribe", "sSubscribe");
    subscribed.then(
      () => this.#answered = true,
      // Who comes next asks again.
      () => this.#subscribed = undefined,
    );
    return subscribed;
  }

  /**
   * node-redis knows of a subscription once it is answered. Until then it would
   * take one that is given up for one that is there, or for somebody else's.
   */
  async #endOnceAnswered(): Promise<void> {
    while (this.#subscribed && !this.#answered && !this.session.lost) {
      await this.#subscribed.catch(() => {});
    }
    await this.#endIfEmpty();
  }

  /** Whoever comes after that has a presence, and a subscription, of its own. */
  #endIfEmpty(): Promise<unknown> | undefined {
    if (this.#entries.size > 0 || this.#unsubscribed) return this.#unsubscribed;
    this.#ended();
    const subscribed = this.#answered && !this.session.lost;
    return this.#unsubscribed = subscribed
      ? this.#subscription("unsubscribe", "sUnsubscribe")
      : Promise.resolve();
  }

  #subscription(
    command: "subscribe" | "unsubscribe",
    sharded: "sSubscribe" | "sUnsubscribe",
  ): Promise<unknown> {
    const { connection } = this.session;
    const send = this.names.sharded ? sharded : command;
    return connection[send](this.#channels, this.#heard);
  }

  readonly #heard = (message: string, channel: string): void => {
    const { names, session } = this;
    if (channel !== names.shared) {
      if (names.sharded && channel !== names.key) session.told(names, message);
      return;
    }
    const responses = responseChannel(message);
    if (responses === undefined) return;
    session.say(names, responses, answer(session.id, this.#mode()));
    if (responses.startsWith(RESERVED)) return;
    for (const entry of this.#entries) entry.checkSoon();
  };

  /** How this session takes part, as Python calls it. */
  #mode(): Mode {
    const entries = [...this.#entries];
    if (entries.some(({ held, kind }) => held && kind === "x")) {
      return "exclusive";
    }
    const shared = entries.length > 0 && entries.every(({ held }) => held);
    return shared ? "shared" : "pending";
  }
}
