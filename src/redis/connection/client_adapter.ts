/** Where the server of a lock is: clients, pools, sentinels and clusters. */

import type { RedisClientOptions } from "redis";
import { LockException } from "../../core/errors.ts";
import { errorCode } from "../../../ffi/types.ts";

/** What is needed of a client of node-redis, not of the user's: of our own. */
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

/** A client of node-redis 6, of `createClient`. */
export interface RedisClientLike {
  /** Makes a client with the same options. */
  duplicate(overrides?: never): object;
  /** The options that the client was made with. */
  readonly options: object;
}

/** A pool of node-redis 6, of `createClientPool`. */
export interface RedisPoolLike {
  /** Lends one of its clients. */
  execute(body: never): Promise<unknown>;
}

/** A cluster of node-redis 6, of `createCluster`. */
export interface RedisClusterLike {
  /** The client of the node that has the key. */
  getNodeClientForKey(key: string, isReadonly?: boolean): Promise<object>;
  /** Sends a command to the node that has the key. */
  sendCommand(
    key: string,
    isReadonly: boolean,
    args: string[],
  ): Promise<unknown>;
}

/** Sentinels of node-redis 6, of `createSentinel`. */
export interface RedisSentinelLike {
  /** Where the master is. */
  getMasterNode(): { host: string; port: number } | undefined;
}

/** What of node-redis can say where the server is. */
export type RedisClientArgument =
  | RedisClientLike
  | RedisPoolLike
  | RedisClusterLike
  | RedisSentinelLike;

/** A server, by a name that differs from those of others. */
export interface Server {
  readonly address: string;
  /** Makes a client that is not connected yet. */
  connect(overrides: RedisClientOptions): Promise<RedisConnection>;
}

/** How to find the server of a lock. */
export interface RedisSource {
  /** Whether it is a cluster. */
  readonly sharded: boolean;
  /** Objects or names by which others find the same sessions. */
  readonly poolKey: object;
  /** Loads what connections are made with, unless it is loaded. */
  load?(): Promise<unknown> | undefined;
  /** Finds the server that has a key. */
  locate(key: string): Server | Promise<Server>;
  /** Called when that server said that it has the key no more. */
  refreshSlots(key: string): Promise<unknown>;
}

/** What sessions need, whatever the user's options are. */
const OVERRIDES: RedisClientOptions = {
  RESP: 3,
  disableOfflineQueue: true,
  readonly: false,
  maintNotifications: "disabled",
  emitInvalidate: false,
  clientSideCache: undefined,
  pingInterval: undefined,
  commandsQueueMaxLength: undefined,
  // The default is a timer for each command.
  commandOptions: { timeout: undefined },
};

/** The server that a URL, or options of node-redis, name. */
export function fromUrl(
  poolKey: object,
  options: RedisClientOptions,
): RedisSource {
  const address = options.url ?? "";
  const connect: Server["connect"] = (overrides) =>
    createConnection(options, overrides);
  return { ...singleServer(poolKey, address, connect), load };
}

let loaded = false;

/** The package is only loaded by those who have no client. */
async function nodeRedis(): Promise<typeof import("redis")> {
  try {
    const module = await import("redis");
    loaded = true;
    return module;
  } catch (cause) {
    throw new LockException(
      "the redis package is missing; install it (npm install redis)",
      { code: errorCode(cause), cause },
    );
  }
}

const load = () => loaded ? undefined : nodeRedis();

async function createConnection(
  options: RedisClientOptions,
  overrides: RedisClientOptions,
): Promise<RedisConnection> {
  const { createClient } = await nodeRedis();
  // Each name would cost a class of its own with a method for each command,
  // which takes longer than to connect. A duplicate has the class of its model.
  const model = createClient(connectionOptions(options, {}));
  const connection = duplicate(model, overrides);
  model.destroy();
  return connection;
}

/** The server, or the servers, of what the user has already. */
export function fromClient(
  client: RedisClientArgument,
  options: RedisClientOptions | undefined,
): RedisSource | undefined {
  if (isA<RedisSentinelLike>(client, "getMasterNode")) {
    return sentinel(client, options ?? {});
  }
  if (options !== undefined) {
    throw new TypeError(
      "clientOptions go with url, or with sentinels; a client has its own",
    );
  }
  if (isA<RedisClusterLike>(client, "getNodeClientForKey")) {
    return cluster(client);
  }
  if (isA<RedisPoolLike>(client, "execute")) {
    const execute = client.execute.bind(client) as (
      body: (client: RedisClientLike) => RedisConnection,
    ) => Promise<RedisConnection>;
    return singleServer(
      client,
      "",
      (overrides) => execute((lent) => duplicate(lent, overrides)),
    );
  }
  if (isA<RedisClientLike>(client, "duplicate")) {
    return singleServer(
      client,
      "",
      (overrides) => Promise.resolve(duplicate(client, overrides)),
    );
  }
  return undefined;
}

function isA<T extends object>(client: object, method: keyof T): client is T {
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

function cluster(client: RedisClusterLike): RedisSource {
  return {
    sharded: true,
    poolKey: client,
    async locate(key) {
      const node = await client.getNodeClientForKey(key) as RedisClientLike;
      return {
        address: JSON.stringify((node.options as RedisClientOptions).socket),
        connect: (overrides) => Promise.resolve(duplicate(node, overrides)),
      };
    },
    // Being redirected, the client learns where the slots are now.
    refreshSlots: (key) => client.sendCommand(key, false, ["EXISTS", key]),
  };
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
        return Promise.reject(new Error("the sentinels know no master"));
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

function connectionOptions(
  options: RedisClientOptions,
  overrides: RedisClientOptions,
): RedisClientOptions {
  const socket = {
    ...options.socket,
    // A session that came back by itself would not have its locks any more.
    reconnectStrategy: false,
    // Sessions have a heartbeat of their own.
    socketTimeout: undefined,
  } as const;
  return { ...options, ...OVERRIDES, ...overrides, socket };
}

/** What a server says of itself when it is greeted. */
export interface HelloReply {
  readonly id: string;
}

/** Greets a server; throws if it is not one that can keep locks. */
export async function hello(
  connection: RedisConnection,
  sharded: boolean,
): Promise<HelloReply> {
  const greeting = connection.sendCommand(["HELLO"]);
  // Subscriptions are the server's and records a database's: so it is one.
  const selected = sharded
    ? undefined
    : connection.sendCommand(["SELECT", "0"]);
  // A sentinel has none, which its greeting explains better.
  selected?.catch(() => {});
  const { id, mode, proto } = await greeting as Record<string, unknown>;
  if (proto !== 3) {
    throw new LockException(
      "the server or a proxy before it speaks no RESP3, which needs Redis 6",
    );
  }
  if (mode === "sentinel") {
    throw new LockException("this is a sentinel; give a client of its master");
  }
  if ((mode === "cluster") !== sharded) {
    throw new LockException(
      sharded
        ? "the server is no part of a cluster; give an ordinary client"
        : "the server is part of a cluster; give a cluster client",
    );
  }
  await selected;
  return { id: String(id) };
}
