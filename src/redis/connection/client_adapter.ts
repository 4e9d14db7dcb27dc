/** Finds servers through the clients, pools, sentinels and clusters of node-redis. */

import type { RedisClientOptions } from "redis";
import { errorCode, Unsupported } from "../../../ffi/types.ts";
import { LockException } from "../../core/errors.ts";
import { formatValue } from "../../options/validate.ts";
import { NO_RESP3 } from "../protocol/errors.ts";
import { keySlot } from "../protocol/key_slot.ts";

/** The methods of node-redis that the connection of this package needs. */
export interface RedisConnection {
  connect(): Promise<unknown>;
  destroy(): void;
  unref(): void;
  on(event: string, listener: (argument: unknown) => void): unknown;
  sendCommand(args: readonly string[]): Promise<unknown>;
  subscribe: Subscribe;
  unsubscribe: Subscribe;
  sSubscribe: Subscribe;
  sUnsubscribe: Subscribe;
}

type Subscribe = (
  channels: string[],
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

/** What a Redis lock can be given to find its server. */
export type RedisClientArgument =
  | RedisClientLike
  | RedisPoolLike
  | RedisClusterLike
  | RedisCluster5Like
  | RedisSentinelLike;

/** A server. */
export interface Server {
  /** Differs from the addresses of the other servers of the same client. */
  readonly address: string;
  /** Creates a client that is not connected yet. */
  connect(overrides: { name: string }): Promise<RedisConnection>;
}

/** How to find the server that has the keys of a lock. */
export interface RedisSource {
  /** Whether the server is a cluster. */
  readonly sharded: boolean;
  /** Locks with the same object share their connections. */
  readonly poolKey: object;
  /** Imports the redis package, if it is needed and not imported yet. */
  load?(): Promise<unknown> | undefined;
  /** Returns the server that has a key. */
  locate(key: string): Server | Promise<Server>;
  /** Updates the slots of a cluster, after a key has moved to another node. */
  refreshSlots(key: string): Promise<unknown>;
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

/** Returns the server that a URL, or other options of node-redis, name. */
export function fromUrl(
  poolKey: object,
  options: RedisClientOptions,
): RedisSource {
  const address = options.url ?? "";
  const connect: Server["connect"] = (overrides) =>
    createConnection(options, overrides);
  return { ...singleServer(poolKey, address, connect), load };
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
): Promise<RedisConnection> {
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
  client: RedisClientArgument,
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
      body: (client: RedisClientLike) => RedisConnection,
    ) => Promise<RedisConnection>;
    return singleServer(
      client,
      "",
      (overrides) => execute((borrowed) => duplicate(borrowed, overrides)),
    );
  }
  // Of the clients of node-redis 4, none has it.
  if (!hasMethod<RedisClientLike>(client, "destroy")) return undefined;
  if (hasMethod<RedisCluster5Like>(client, "nodeClient")) {
    return cluster(client, (key) => nodeWithKey(client, key));
  }
  if (hasMethod<RedisClientLike>(client, "duplicate")) {
    return singleServer(
      client,
      "",
      (overrides) => Promise.resolve(duplicate(client, overrides)),
    );
  }
  return undefined;
}

/** Says what the value is that {@linkcode fromClient} does not support. */
export function describeUnsupported(client: unknown): string {
  // It may be a URL with a password.
  if (typeof client === "string") return "a string: pass a URL as url";
  if (typeof client !== "object" || client === null) return formatValue(client);
  const isOld = hasMethod<RedisConnection>(client, "sSubscribe");
  if (isOld) return `one of node-redis 4: update it (${INSTALL})`;
  return hasMethod<RedisClientLike>(client, "duplicate")
    ? `one of node-redis 3 or of another package: use node-redis (${INSTALL})`
    : formatValue(client);
}

function hasMethod<T extends object>(
  client: object,
  method: keyof T,
): client is T {
  return typeof (client as T)[method] === "function";
}

function singleServer(
  poolKey: object,
  address: string,
  connect: Server["connect"],
): RedisSource {
  const server = { address, connect };
  return {
    sharded: false,
    poolKey,
    locate: () => server,
    refreshSlots: () => Promise.resolve(),
  };
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
      return {
        address: JSON.stringify((node.options as RedisClientOptions).socket),
        connect: (overrides) => Promise.resolve(duplicate(node, overrides)),
      };
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
      return Promise.resolve({
        address: `${host} ${port}`,
        connect: (overrides) =>
          createConnection({ ...options, socket }, overrides),
      });
    },
    refreshSlots: () => Promise.resolve(),
  };
}

function duplicate(
  client: RedisClientLike,
  overrides: RedisClientOptions,
): RedisConnection {
  const options = client.options as RedisClientOptions;
  return client.duplicate(
    connectionOptions(options, overrides) as never,
  ) as RedisConnection;
}

/** Closes a connection, if it is open. */
export function destroy(connection: { destroy(): void }): void {
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
    // LockConnection sends heartbeats.
    socketTimeout: undefined,
  };
  const all = { ...options, ...OVERRIDES, ...overrides, socket };
  return all as unknown as RedisClientOptions;
}

/** The reply to `HELLO`. */
export interface HelloReply {
  /** The number of the connection, `CLIENT ID`. */
  readonly id: string;
}

/**
 * Sends `HELLO`, and selects the database of the locks.
 *
 * @throws {LockException} If the server cannot hold locks.
 * @throws The error of the server or of the client.
 */
export async function hello(
  connection: RedisConnection,
  sharded: boolean,
): Promise<HelloReply> {
  const reply = connection.sendCommand(["HELLO"]);
  // Channels belong to the server and keys to a database. So all locks are in
  // one database.
  const selected = sharded
    ? undefined
    : connection.sendCommand(["SELECT", "0"]);
  // A sentinel refuses SELECT; the error below is clearer.
  selected?.catch(() => {});
  const { id, mode, proto } = await reply as Record<string, unknown>;
  if (proto !== 3) {
    throw new LockException(NO_RESP3, { code: "EPROTONOSUPPORT" });
  }
  if (mode === "sentinel") {
    throw new LockException(
      "the server is a sentinel; pass a client from createSentinel",
      { code: "EINVAL" },
    );
  }
  if ((mode === "cluster") !== sharded) {
    throw new LockException(
      sharded
        ? "the server is not part of a cluster; pass a client from createClient"
        : "the server is part of a cluster; pass a client from createCluster",
      { code: "EINVAL" },
    );
  }
  await selected;
  return { id: String(id) };
}
