/** Libraries that cannot send every command on a connection that subscribes. */

import type {
  ConnectionEvents,
  OpenedConnection,
  RedisConnection,
  Server,
} from "./types.ts";

/** Returns a server whose connections are pairs of connections. */
export function withTwoConnections(server: Server): Server {
  return {
    address: server.address,
    async create(name, events) {
      const pair = new TwoConnections(events);
      await pair.create(server, name);
      return pair;
    },
  };
}

/**
 * Two connections that look like one: one for commands, one for subscriptions.
 * The locks live as long as the second one, which has the name. If one of them
 * ends, the other is closed.
 *
 * A command must not overtake a subscription that was sent before it. Consider
 * a user A and the server:
 *
 * - A.1 sends `SUBSCRIBE`, A.2 sends a script that counts subscribers. The
 *   script waits for the reply to A.1, and commands after it wait, too.
 * - A.1 sends a script, A.2 sends `UNSUBSCRIBE`, which may overtake it. So a
 *   record may count as dead before `release` removes it. Both mean the same.
 * - The server sends a message, then the reply to A.1. The user may get either
 *   of them first.
 */
class TwoConnections implements RedisConnection {
  readonly ordered = false;
  readonly #events: ConnectionEvents;
  #commands!: RedisConnection;
  #subscriber!: RedisConnection;
  #closed = false;
  #opened = false;
  /** The number of `SUBSCRIBE`s without a reply. */
  #subscribing = 0;
  /** Sends the commands that wait for these replies. */
  readonly #waiting: (() => void)[] = [];
  #failure: { readonly error: unknown } | undefined;

  constructor(events: ConnectionEvents) {
    this.#events = events;
  }

  /** Creates both connections. */
  async create(server: Server, name: string): Promise<void> {
    const onEnd = (error: unknown) => this.#end(error);
    const { onMessage, onMoved } = this.#events;
    this.#subscriber = await server.create(name, { onMessage, onMoved, onEnd });
    this.#commands = await server.create(`${name}:commands`, {
      onMessage() {},
      onMoved() {},
      onEnd,
    });
  }

  async open(): Promise<OpenedConnection> {
    try {
      const [opened] = await Promise.all([
        this.#subscriber.open(),
        this.#commands.open(),
      ]);
      // The first one may have ended before the second one was open.
      if (this.#failure) throw this.#failure.error;
      this.#opened = true;
      return opened;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  send(args: readonly string[]): Promise<unknown> {
    if (this.#subscribing === 0) return this.#commands.send(args);
    return new Promise((resolve, reject) => {
      const send = () => this.#commands.send(args).then(resolve, reject);
      this.#waiting.push(send);
    });
  }

  subscribe(channels: readonly string[], sharded: boolean): Promise<unknown> {
    const subscribed = this.#subscriber.subscribe(channels, sharded);
    this.#subscribing++;
    const settled = () => this.#onSubscribed();
    subscribed.then(settled, settled);
    return subscribed;
  }

  unsubscribe(channels: readonly string[], sharded: boolean): Promise<unknown> {
    return this.#subscriber.unsubscribe(channels, sharded);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#subscriber.close();
    this.#commands.close();
    this.#sendWaiting();
  }

  ref(): void {
    this.#subscriber.ref();
    this.#commands.ref();
  }

  unref(): void {
    this.#subscriber.unref();
    this.#commands.unref();
  }

  #onSubscribed(): void {
    this.#subscribing--;
    if (this.#subscribing === 0) this.#sendWaiting();
  }

  /** Sends them, or has the closed connection reject them. */
  #sendWaiting(): void {
    for (const send of this.#waiting.splice(0)) send();
  }

  #end(error: unknown): void {
    if (this.#closed || this.#failure) return;
    this.#failure = { error };
    this.close();
    if (this.#opened) this.#events.onEnd(error);
  }
}
