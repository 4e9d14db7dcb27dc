/** What the rest of `src/redis/` needs of a client library. */

/** One connection, opened by a library of the caller. */
export interface RedisConnection {
  /**
   * Whether replies and messages arrive on one connection, in the order of the
   * server. This needs RESP3. Otherwise messages have a connection of their
   * own, and a command that relies on a subscription must wait for its reply.
   */
  readonly ordered: boolean;
  /**
   * Connects, authenticates and, outside a cluster, selects database 0.
   *
   * @throws {LockException} If the server cannot hold locks.
   * @throws The error of the library or of the server.
   */
  open(): Promise<OpenedConnection>;
  /**
   * Sends a command.
   *
   * @returns A string, a number, `null`, or an array of these. A map may be an
   * object or a flat array.
   * @throws The error of the library or of the server.
   */
  send(args: readonly string[]): Promise<unknown>;
  /** Subscribes, with `SSUBSCRIBE` if `sharded`. Settles with the reply. */
  subscribe(channels: readonly string[], sharded: boolean): Promise<unknown>;
  /**
   * Unsubscribes. To be called only after the reply to
   * {@linkcode RedisConnection.subscribe}: libraries register a subscription
   * when the server confirms it.
   */
  unsubscribe(channels: readonly string[], sharded: boolean): Promise<unknown>;
  /**
   * Closes the connection at once, even while it is being opened. Never throws.
   * No event follows.
   */
  close(): void;
  /** Lets the socket keep the process alive, if the library can. */
  ref(): void;
  /** Lets the process end while the socket is open, if the library can. */
  unref(): void;
}

/** What a connection knows once it is open. */
export interface OpenedConnection {
  /** The `CLIENT ID` of the connection that has the subscriptions. */
  readonly clientId: string;
}

/** What happens to a connection. Passed when the connection is created. */
export interface ConnectionEvents {
  /** Handles a message on any channel. */
  onMessage(channel: string, message: string): void;
  /** Handles the end of an open connection. Called once at most. */
  onEnd(error: unknown): void;
  /** Handles that a sharded channel moved to another node. */
  onMoved(channel: string): void;
}

/** A server. */
export interface Server {
  /** Differs from the addresses of the other servers of the same client. */
  readonly address: string;
  /**
   * Creates a connection that is not open yet.
   *
   * @param name The name that it has in `CLIENT LIST`.
   * @param events What is called when something happens to it.
   */
  create(
    name: string,
    events: ConnectionEvents,
  ): RedisConnection | Promise<RedisConnection>;
}

/** How to find the server that has the keys of a lock. */
export interface RedisSource {
  /** Whether the server is a cluster. */
  readonly sharded: boolean;
  /** Locks with the same object share their connections. */
  readonly poolKey: object;
  /** The server, if it is always the same and its package is imported. */
  readonly server?: Server | undefined;
  /** Imports a client package, if one is needed and not imported yet. */
  load?(): Promise<unknown> | undefined;
  /** Returns the server that has a key. */
  locate(key: string): Server | Promise<Server>;
  /** Updates the slots of a cluster, after a key has moved to another node. */
  refreshSlots(key: string): Promise<unknown>;
}

/** A source whose server is always the same. */
export function singleServer(poolKey: object, server: Server): RedisSource {
  return {
    sharded: false,
    poolKey,
    server,
    locate: () => server,
    refreshSlots: () => Promise.resolve(),
  };
}

/** The marks by which a client is recognized. */
export interface Marks {
  readonly methods: readonly string[];
  readonly properties?: readonly string[];
}

/** Whether a value has all of these methods and properties. */
export function hasMarks<T extends object>(
  value: object,
  { methods, properties = [] }: Marks,
): value is T {
  const members = value as Record<string, unknown>;
  return methods.every((name) => typeof members[name] === "function") &&
    properties.every((name) => name in value);
}
