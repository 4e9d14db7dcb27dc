/** What the connections of all libraries have in common: their life. */

import { hello } from "./hello.ts";
import type { Expected } from "./hello.ts";
import type {
  ConnectionEvents,
  OpenedConnection,
  RedisConnection,
} from "./types.ts";

/**
 * A connection that a library opens, and that ends once.
 *
 * The events of the library can interleave with the calls of the user. A is
 * the user, L the library:
 *
 * - A.1 opens it, L.1 reports an error: `open` rejects with that error, since
 *   the rejection of the library may only say that the connection ended. The
 *   user gets no event.
 * - A.1 opens it, A.2 closes it, L.1 connects: the library is closed again by
 *   {@linkcode ClientConnection.open}.
 * - A.1 closes it, L.1 reports the end or a message: the user gets no event.
 * - L.1 reports an error, L.2 reports the end: the user gets the first.
 */
export abstract class ClientConnection implements RedisConnection {
  abstract readonly ordered: boolean;
  readonly #events: ConnectionEvents;
  readonly #expected: Expected;
  #closed = false;
  #opened = false;
  #failure: { readonly error: unknown } | undefined;

  /** Creates a connection that is not open yet. */
  constructor(events: ConnectionEvents, expected: Expected) {
    this.#events = events;
    this.#expected = expected;
  }

  abstract send(args: readonly string[]): Promise<unknown>;
  abstract subscribe(
    channels: readonly string[],
    sharded: boolean,
  ): Promise<unknown>;
  abstract unsubscribe(
    channels: readonly string[],
    sharded: boolean,
  ): Promise<unknown>;
  abstract ref(): void;
  abstract unref(): void;

  /** Connects and authenticates. */
  protected abstract connect(): Promise<unknown>;
  /** Closes the connection of the library. May throw. */
  protected abstract destroy(): void;

  async open(): Promise<OpenedConnection> {
    try {
      this.#throwIfEnded();
      await this.connect();
      const opened = await hello((args) => this.send(args), this.#expected);
      this.#throwIfEnded();
      this.#opened = true;
      return opened;
    } catch (error) {
      this.#closed = true;
      this.#destroy();
      throw this.#failure ? this.#failure.error : error;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#destroy();
  }

  /** Whether the connection was closed by its user, or could not be opened. */
  protected get closed(): boolean {
    return this.#closed;
  }

  /** Passes a message on. */
  protected onMessage(channel: string, message: string): void {
    if (!this.#closed) this.#events.onMessage(channel, message);
  }

  /** Reports that a sharded channel moved. */
  protected onMoved(channel: string): void {
    if (!this.#closed) this.#events.onMoved(channel);
  }

  /** Reports the end of the connection. All calls but the first do nothing. */
  protected onEnd(error: unknown): void {
    if (this.#closed || this.#failure) return;
    this.#failure = { error };
    if (this.#opened) this.#events.onEnd(asEnd(error));
  }

  #throwIfEnded(): void {
    if (this.#failure) throw this.#failure.error;
    if (this.#closed) throw new Error("the connection was closed");
  }

  #destroy(): void {
    try {
      this.destroy();
    } catch {
      // Some versions throw if the connection has ended.
    }
  }
}

/**
 * Returns why an open connection ended. A library may report a mistake of its
 * own, such as a reply that it did not expect. Later, it would be taken for an
 * invalid option of the caller, with which a retry cannot succeed.
 */
function asEnd(error: unknown): unknown {
  const isMistake = error instanceof TypeError || error instanceof RangeError;
  if (!isMistake) return error;
  const message = `the client library failed: ${error.message}`;
  return new Error(message, { cause: error });
}
