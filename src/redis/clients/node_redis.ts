/** Finds servers through the clients, pools, sentinels and clusters of node-redis. */

import type { RedisClientOptions } from "redis";
import { errorCode, Unsupported } from "../../../ffi/types.ts";
import { LockException } from "../../core/errors.ts";
import { keySlot } from "../protocol/key_slot.ts";
import { hello } from "./hello.ts";
import { hasMethod, singleServer } from "./types.ts";
import type {
  ConnectionEvents,
  OpenedConnection,
  RedisConnection,
  RedisSource,
  Server,
} from "./types.ts";

/** The methods of a node-redis client that a connection needs. */
interface Client {
  connect(): Promise<unknown>;
  destroy(): void;
  ref(): void;
  unref(): void;
  on(event: string, listener: (argument: unknown) => void): unknown;
  sendCommand(args: readonly string[]): Promise<unknown>;
  subscribe: Subscribe;
  unsubscribe: Subscribe;
  sSubscribe: Subscribe;
  sUnsubscribe: Subscribe;
}

type Subscribe = (
  channels: readonly string[],
  listener: (message: string, channel: string) => void,
) => Promise<unknown>;

/** A client of node-redis 5 or 6, from `createClient`. */
export interface RedisClientLike {
  /** Returns a new client with the same options. */
  duplicate(overrides?: never): object;
  /** The options of the client. */
  readonly options: object;
  /** Closes the client. */
  destroy(): void;
}

/** A pool of node-redis 5 or 6, from `createClientPool`. */
export interface RedisPoolLike {
  /** Calls a function with one of the clients. */
  execute(body: never): Promise<unknown>;
}

/** A cluster of node-redis 6, from `createCluster`. */
export interface RedisClusterLike {
  /** Returns the client of the node that has a key. */
  getNodeClientForKey(key: string, isReadonly?: boolean): Promise<object>;
  /** Sends a command to the node that has a key. */
  sendCommand(
    key: string,
    isReadonly: boolean,
    args: string[],
  ): Promise<unknown>;
}

/** A cluster of node-redis 5, from `createCluster`. */
export interface RedisCluster5Like
  extends Omit<RedisClusterLike, "getNodeClientForKey"> {
  /** The nodes that have each slot. */
  readonly slots: readonly { readonly master: object }[];
  /** Returns the client of a node. */
  nodeClient(node: never): object | Promise<object>;
  /** Closes the clients. */
  destroy(): void;
}

/** Sentinels of node-redis 5 or 6, from `createSentinel`. */
export interface RedisSentinelLike {
  /** Returns the address of the master. */
  getMasterNode(): { host: string; port: number } | undefined;
}

/** A client of node-redis that a lock can use. */
export type NodeRedisArgument =
  | RedisClientLike
  | RedisPoolLike
  | RedisClusterLike
  | RedisCluster5Like
  | RedisSentinelLike;

/**
 * Options that connections need, no matter what the caller's client has.
 * node-redis accepts `undefined` for each, although its types do not say so.
 */
const OVERRIDES: { readonly [Name in keyof RedisClientOptions]: unknown } = {
  RESP: 3,
  disableOfflineQueue: true,
  readonly: false,
  maintNotifications: "disabled",
  emitInvalidate: false,
  clientSideCache: undefined,
  pingInterval: undefined,
  commandsQueueMaxLength: undefined,
  // By default, node-redis sets a timer for each command.
  commandOptions: { timeout: undefined },
};

/** Returns the server that a URL, or other options of node-redis, name. */
export function fromUrl(
  poolKey: object,
  options: RedisClientOptions,
): RedisSource {
  const server = serverOf(
    options.url ?? "",
    (overrides) => createConnection(options, overrides),
  );
  return { ...singleServer(poolKey, server), load };
}

/** The command that installs the newest version that is tested. */
const INSTALL = "npm install redis@6";

let loaded = false;

/** Imports the redis package. A caller that passes a client does not need it. */
async function nodeRedis(): Promise<typeof import("redis")> {
  const module = await importRedis();
  rejectOldPackage(module);
  loaded = true;
  return module;
}

async function importRedis(): Promise<typeof import("redis")> {
  try {
    return await import("redis");
  } catch (cause) {
    throw new LockException(
      `the redis package is missing; install it (${INSTALL})`,
      { code: errorCode(cause) ?? "ERR_MODULE_NOT_FOUND", cause },
    );
  }
}

/**
 * Rejects node-redis 4 and older. They do not have RESP3 or sentinels, and the
 * clients of node-redis 3 connect when they are created.
 *
 * @throws {Unsupported} If the module does not export `createSentinel`.
 */
export function rejectOldPackage(module: object): void {
  if ("createSentinel" in module) return;
  throw new Unsupported(
    "the installed redis package is node-redis 4 or older, which does not " +
      `support RESP3; update it (${INSTALL})`,
  );
}

const load = () => loaded ? undefined : nodeRedis();

async function createConnection(
  options: RedisClientOptions,
  overrides: RedisClientOptions,
): Promise<Client> {
  const { createClient } = await nodeRedis();
  // node-redis creates a class with a method for each command, which takes
  // longer than to connect, for each different name. A duplicate shares the
  // class of its model.
  const model = createClient(connectionOptions(options, {}));
  const connection = duplicate(model, overrides);
  destroy(model);
  return connection;
}

/** Returns the servers of a client, a pool, a cluster or sentinels. */
export function fromClient(
  client: NodeRedisArgument,
  options: RedisClientOptions | undefined,
): RedisSource | undefined {
  if (hasMethod<RedisSentinelLike>(client, "getMasterNode")) {
    return sentinel(client, options ?? {});
  }
  if (options !== undefined) {
    throw new TypeError(
      "clientOptions need url or sentinels; a client has its own options",
    );
  }
  if (hasMethod<RedisClusterLike>(client, "getNodeClientForKey")) {
    return cluster(client, (key) => client.getNodeClientForKey(key));
  }
  if (hasMethod<RedisPoolLike>(client, "execute")) {
    const execute = client.execute.bind(client) as (
      body: (client: RedisClientLike) => Client,
    ) => Promise<Client>;
    const create: CreateClient = (overrides) =>
      execute((borrowed) => duplicate(borrowed, overrides));
    return singleServer(client, serverOf("", create));
  }
  // Of the clients of node-redis 4, none has it.
  if (!hasMethod<RedisClientLike>(client, "destroy")) return undefined;
  if (hasMethod<RedisCluster5Like>(client, "nodeClient")) {
    return cluster(client, (key) => nodeWithKey(client, key));
  }
  if (hasMethod<RedisClientLike>(client, "duplicate")) {
    const create: CreateClient = (overrides) => duplicate(client, overrides);
    return singleServer(client, serverOf("", create));
  }
  return undefined;
}

/** Creates a client that is not connected yet. */
type CreateClient = (overrides: { name: string }) => Client | Promise<Client>;

function serverOf(
  address: string,
  createClient: CreateClient,
  sharded = false,
): Server {
  return {
    address,
    async create(name, events) {
      const client = await createClient({ name });
      return new NodeRedisConnection(client, events, sharded);
    },
  };
}

/**
 * A connection of node-redis.
 *
 * node-redis finishes connecting even if it is destroyed meanwhile. So a client
 * that was closed earlier is destroyed when it has connected.
 */
class NodeRedisConnection implements RedisConnection {
  readonly ordered = true;
  readonly #client: Client;
  readonly #events: ConnectionEvents;
  readonly #sharded: boolean;
  /** Before, node-redis 5 would not close the socket. */
  #hasSocket = false;
  #closed = false;
  #opened = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(client: Client, events: ConnectionEvents, sharded: boolean) {
    this.#client = client;
    this.#events = events;
    this.#sharded = sharded;
    // An "error" event without a listener would be an uncaught exception.
    client.on("error", (error) => this.#end(error));
    client.on("end", () => this.#end(new Error("the connection ended")));
    client.on("sharded-channel-moved", (channel) => {
      if (!this.#closed) events.onMoved(String(channel));
    });
    client.on("connect", () => {
      this.#hasSocket = true;
      if (this.#closed) destroy(client);
    });
  }

  async open(): Promise<OpenedConnection> {
    const sharded = this.#sharded;
    try {
      if (this.#closed) throw new Error("the connection was closed");
      await this.#client.connect();
      const opened = await hello(this.send, { sharded, protocol: 3 });
      if (this.#failure) throw this.#failure.error;
      this.#opened = true;
      return opened;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  readonly send = (args: readonly string[]): Promise<unknown> =>
    this.#client.sendCommand(args);

  subscribe(channels: readonly string[], sharded: boolean): Promise<unknown> {
    const client = this.#client;
    return sharded
      ? client.sSubscribe(channels, this.#onMessage)
      : client.subscribe(channels, this.#onMessage);
  }

  unsubscribe(channels: readonly string[], sharded: boolean): Promise<unknown> {
    const client = this.#client;
    return sharded
      ? client.sUnsubscribe(channels, this.#onMessage)
      : client.unsubscribe(channels, this.#onMessage);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#hasSocket) destroy(this.#client);
  }

  ref(): void {
    this.#client.ref();
  }

  unref(): void {
    this.#client.unref();
  }

  readonly #onMessage = (message: string, channel: string): void => {
    if (!this.#closed) this.#events.onMessage(channel, message);
  };

  #end(error: unknown): void {
    if (this.#closed || this.#failure) return;
    this.#failure = { error };
    if (this.#opened) this.#events.onEnd(error);
  }
}

function cluster(
  client: RedisClusterLike | RedisCluster5Like,
  getNodeClient: (key: string) => object | Promise<object>,
): RedisSource {
  return {
    sharded: true,
    poolKey: client,
    async locate(key) {
      const node = await getNodeClient(key) as RedisClientLike;
      const { socket } = node.options as RedisClientOptions;
      return serverOf(
        JSON.stringify(socket),
        (overrides) => duplicate(node, overrides),
        true,
      );
    },
    // node-redis updates its slots when the node redirects the command.
    refreshSlots: (key) => client.sendCommand(key, false, ["EXISTS", key]),
  };
}

/** Returns the client of the node that has a key. */
function nodeWithKey(
  client: RedisCluster5Like,
  key: string,
): object | Promise<object> {
  const shard = client.slots[keySlot(key)];
  if (shard === undefined) throw new Error("no node has the slot of the key");
  return client.nodeClient(shard.master as never);
}

function sentinel(
  client: RedisSentinelLike,
  options: RedisClientOptions,
): RedisSource {
  return {
    sharded: false,
    poolKey: client,
    load,
    locate() {
      const master = client.getMasterNode();
      if (master === undefined) {
        return Promise.reject(new Error("the sentinels do not know a master"));
      }
      const { host, port } = master;
      const socket = { ...options.socket, host, port };
      return serverOf(
        `${host} ${port}`,
        (overrides) => createConnection({ ...options, socket }, overrides),
      );
    },
    refreshSlots: () => Promise.resolve(),
  };
}

function duplicate(
  client: RedisClientLike,
  overrides: RedisClientOptions,
): Client {
  const options = client.options as RedisClientOptions;
  return client.duplicate(
    connectionOptions(options, overrides) as never,
  ) as Client;
}

/** Closes a connection, if it is open. */
function destroy(connection: { destroy(): void }): void {
  try {
    connection.destroy();
  } catch {
    // node-redis 5 throws if it is closed.
  }
}

function connectionOptions(
  options: RedisClientOptions,
  overrides: RedisClientOptions,
): RedisClientOptions {
  const socket = {
    ...options.socket,
    // A connection that reconnected would not have its locks any more.
    reconnectStrategy: false,
    // The user of the connection sends heartbeats.
    socketTimeout: undefined,
  };
  const all = { ...options, ...OVERRIDES, ...overrides, socket };
  return all as unknown as RedisClientOptions;
}
