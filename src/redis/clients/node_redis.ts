/** Finds servers through the clients, pools, sentinels and clusters of node-redis. */

import { clearTimeout, setTimeout } from "node:timers";
import type { RedisClientOptions } from "redis";
import { Unsupported } from "../../../ffi/types.ts";
import { LockException } from "../../core/errors.ts";
import { keySlot } from "../protocol/key_slot.ts";
import { ClientConnection } from "./client_connection.ts";
import { importError } from "./import_error.ts";
import { hasMarks, singleServer } from "./types.ts";
import { parseUrl } from "./url.ts";
import type { ConnectionEvents, Marks, RedisSource, Server } from "./types.ts";

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
  /** The number of clients that are not used. */
  readonly idleClients: number;
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

/** The command that installs the newest version that is tested. */
export const INSTALL = "npm install redis@6";

type NodeRedis = typeof import("redis");

/**
 * Imports the redis package. A caller that passes a client does not need it.
 *
 * @throws {LockException} If it is not installed.
 * @throws {Unsupported} If it is node-redis 4 or older, or fails.
 */
export async function importNodeRedis(): Promise<NodeRedis> {
  const module = await importRedis();
  rejectOldPackage(module);
  return module;
}

/** Bundlers report a missing package as an error if nothing catches that. */
async function importRedis(): Promise<NodeRedis> {
  try {
    return await import("redis");
  } catch (cause) {
    throw importError("redis", INSTALL, cause);
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

/** Options of ioredis for what node-redis has in `socket`. */
const IOREDIS_OPTIONS = ["host", "path", "port", "sentinels", "tls"];

/**
 * Returns the server that a URL, or other options of node-redis, name.
 *
 * @throws {LockException} If the options are those of ioredis. node-redis would
 * ignore them, and connect to another server.
 */
export function serverOfNodeRedis(
  module: NodeRedis,
  url: string | undefined,
  options: RedisClientOptions,
): Server {
  const other = IOREDIS_OPTIONS.find((name) => name in options);
  if (other !== undefined) {
    throw new LockException(
      `clientOptions.${other} is an option of ioredis, but node-redis is ` +
        "installed; pass host, port, path and tls in socket, or pass a client",
      { code: "EINVAL" },
    );
  }
  const all = url === undefined ? options : withUrl(options, url);
  return serverOf(
    url ?? "",
    (overrides) => createConnection(module, all, overrides),
  );
}

/** Adds a URL. node-redis 5 cannot parse that of a socket. */
function withUrl(
  options: RedisClientOptions,
  url: string,
): RedisClientOptions {
  if (!url.startsWith("unix:")) return { ...options, url };
  const { path, username, password } = parseUrl(url);
  const credentials = username === undefined && password === undefined
    ? {}
    : { username, password };
  const socket = { ...options.socket, path };
  return { ...options, ...credentials, socket } as RedisClientOptions;
}

function createConnection(
  { createClient }: NodeRedis,
  options: RedisClientOptions,
  overrides: RedisClientOptions,
): Client {
  // node-redis creates a class with a method for each command, which takes
  // longer than to connect, for each different name. A duplicate shares the
  // class of its model.
  const model = createClient(connectionOptions(options, {}));
  const connection = duplicate(model, overrides);
  destroy(model);
  return connection;
}

/**
 * Returns the servers of a client, a pool, a cluster or sentinels of node-redis
 * 5 or 6, and `undefined` for any other value.
 *
 * @param options The options for the connections to the master of sentinels.
 * @throws {TypeError} If there are options, and it is not sentinels.
 */
export function fromClient(
  client: object,
  options: RedisClientOptions | undefined,
): RedisSource | undefined {
  // Of the clients of node-redis 4 and of other packages, none has all.
  if (!hasMarks(client, ANY)) return undefined;
  if (hasMarks<RedisSentinelLike>(client, SENTINEL)) {
    return sentinel(client, options ?? {});
  }
  if (options !== undefined) rejectOptions();
  if (hasMarks<AnyCluster>(client, CLUSTER)) return cluster(client);
  if (hasMarks<RedisPoolLike>(client, POOL)) return poolSource(client);
  if (!hasMarks<RedisClientLike>(client, CLIENT)) return undefined;
  const create: CreateClient = (overrides) => duplicate(client, overrides);
  return singleServer(client, serverOf("", create));
}

/** Whether a value is of node-redis 5 or 6. */
export function isNodeRedis(client: object): boolean {
  return hasMarks(client, ANY);
}

const ANY: Marks = {
  methods: ["close", "destroy", "on"],
  properties: ["isOpen"],
};

const SENTINEL: Marks = { methods: ["acquire", "getMasterNode"] };

const CLUSTER: Marks = {
  methods: ["nodeClient", "sendCommand"],
  properties: ["slots"],
};

const POOL: Marks = { methods: ["execute"], properties: ["idleClients"] };

const CLIENT: Marks = {
  methods: ["duplicate", "sSubscribe", "sendCommand"],
  properties: ["options"],
};

/** Rejects `clientOptions` beside a client that has options of its own. */
export function rejectOptions(): never {
  throw new TypeError(
    "clientOptions need url or sentinels; a client has its own options",
  );
}

/** How long the first use waits for a pool without an idle client. */
const BORROW_TIMEOUT_MS = 500;

/** What a pool says if no client becomes idle in its `acquireTimeout`. */
const NO_IDLE_CLIENT = /Timeout waiting for a client/;

/**
 * Returns the server of a pool. Only a client of the pool has its options, so
 * one is borrowed once: at once if one is idle, and otherwise when the lock is
 * first used. A caller that uses the last one of them while it acquires the
 * lock would wait for itself. So the pool is not asked again.
 */
function poolSource(pool: RedisPoolLike): RedisSource {
  let model: RedisClientLike | undefined;
  let borrowing: Promise<void> | undefined;
  const execute = pool.execute.bind(pool) as (
    body: (client: RedisClientLike) => void,
  ) => Promise<void>;
  const borrow = () =>
    borrowing ??= execute((client) => void (model = client))
      .catch((error) => {
        if (!NO_IDLE_CLIENT.test(String(error))) throw error;
      })
      .finally(() => borrowing = undefined);
  if (pool.idleClients > 0) borrow().catch(() => {});
  const create: CreateClient = async (overrides) => {
    if (model === undefined) await withinTime(borrow());
    if (model !== undefined) return duplicate(model, overrides);
    throw new Error(
      "all clients of the pool are in use; create the lock before " +
        "pool.execute(), or pass the client that it passes",
    );
  };
  return singleServer(pool, serverOf("", create));
}

/** Waits for {@linkcode BORROW_TIMEOUT_MS} at most. */
async function withinTime(borrowing: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timedOut = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, BORROW_TIMEOUT_MS);
  });
  // The pool may reject after this function has given up.
  borrowing.catch(() => {});
  try {
    await Promise.race([borrowing, timedOut]);
  } finally {
    clearTimeout(timer);
  }
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
class NodeRedisConnection extends ClientConnection {
  readonly ordered = true;
  readonly #client: Client;
  /** Before, node-redis 5 would not close the socket. */
  #hasSocket = false;

  constructor(client: Client, events: ConnectionEvents, sharded: boolean) {
    super(events, { sharded, protocol: 3 });
    this.#client = client;
    // An "error" event without a listener would be an uncaught exception.
    client.on("error", (error) => this.onEnd(error));
    client.on("end", () => this.onEnd(new Error("the connection ended")));
    client.on("sharded-channel-moved", (channel) => {
      this.onMoved(String(channel));
    });
    client.on("connect", () => {
      this.#hasSocket = true;
      if (this.closed) destroy(client);
    });
  }

  send(args: readonly string[]): Promise<unknown> {
    return this.#client.sendCommand(args);
  }

  subscribe(channels: readonly string[], sharded: boolean): Promise<unknown> {
    const client = this.#client;
    return sharded
      ? client.sSubscribe(channels, this.#listener)
      : client.subscribe(channels, this.#listener);
  }

  unsubscribe(channels: readonly string[], sharded: boolean): Promise<unknown> {
    const client = this.#client;
    return sharded
      ? client.sUnsubscribe(channels, this.#listener)
      : client.unsubscribe(channels, this.#listener);
  }

  ref(): void {
    this.#client.ref();
  }

  unref(): void {
    this.#client.unref();
  }

  protected connect(): Promise<unknown> {
    return this.#client.connect();
  }

  protected destroy(): void {
    if (this.#hasSocket) destroy(this.#client);
  }

  readonly #listener = (message: string, channel: string): void =>
    this.onMessage(channel, message);
}

/** What the clusters of node-redis 5 and 6 have in common. */
type AnyCluster = RedisCluster5Like & { readonly isOpen: boolean };

function cluster(client: AnyCluster): RedisSource {
  return {
    sharded: true,
    poolKey: client,
    async locate(key) {
      const node = await nodeWithKey(client, key) as RedisClientLike;
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

/**
 * Returns the client of the node that has a key. `getNodeClientForKey`, which
 * only node-redis 6 has, throws a `TypeError` if no node has it for a while.
 */
function nodeWithKey(
  client: AnyCluster,
  key: string,
): object | Promise<object> {
  const shard = client.slots[keySlot(key)];
  if (shard !== undefined) return client.nodeClient(shard.master as never);
  throw new Error(
    client.isOpen
      ? "no node has the slot of the key"
      : "the client is not connected; await its connect()",
  );
}

function sentinel(
  client: RedisSentinelLike,
  options: RedisClientOptions,
): RedisSource {
  let module: NodeRedis | undefined;
  // The client of sentinels does not have a method that duplicates it.
  const load = async () => module ??= await importNodeRedis();
  return {
    sharded: false,
    poolKey: client,
    load: () => module ? undefined : load(),
    async locate() {
      const master = client.getMasterNode();
      if (master === undefined) {
        throw new Error("the sentinels do not know a master");
      }
      const { host, port } = master;
      const socket = { ...options.socket, host, port };
      const all = { ...options, socket };
      const loaded = module ?? await load();
      return serverOf(
        `${host} ${port}`,
        (overrides) => createConnection(loaded, all, overrides),
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
