/** Every kind of client and server that a lock in Redis supports. */

import { createClient, createClientPool, createCluster } from "redis";
import { createSentinel } from "redis";
import * as redis5 from "redis-5";
import { Cluster, Redis } from "ioredis";
import * as ioredis5 from "ioredis-5";
import type { RedisSemaphoreOptions } from "../../../src/redis/mod.ts";
import { builtin } from "../../../ffi/mod.ts";
import { RedisCluster } from "./cluster.ts";
import { RedisSentinel } from "./sentinel.ts";
import { RedisServer, SERVERS } from "./server.ts";
import type { Capability } from "../../support/capabilities.ts";

/** One or more servers for tests. */
export interface Topology extends AsyncDisposable {
  /** Options of a lock on these servers. */
  options: RedisSemaphoreOptions;
  /** The servers that may contain keys. */
  servers: RedisServer[];
  /** The cluster, or the sentinels, that these servers belong to. */
  cluster?: RedisCluster;
  sentinel?: RedisSentinel;
  /** Lists the keys and channels that are left on the servers. */
  remaining(): Promise<unknown[]>;
}

interface TopologyFactory {
  name: string;
  kind?: "cluster" | "sentinels";
  needs: Capability[];
  start(): Promise<Topology>;
}

/** Lists keys, and channels with subscribers. */
async function remainingNames(servers: RedisServer[]): Promise<unknown[]> {
  const found: unknown[] = [];
  for (const server of servers) {
    for (
      const command of [["KEYS", "*"], ["PUBSUB", "CHANNELS"], [
        "PUBSUB",
        "SHARDCHANNELS",
      ]]
    ) {
      found.push(...await server.command(...command) as unknown[]);
    }
  }
  // An idle connection stays open for a second. Sentinels have a channel, too.
  return found.filter((name) =>
    !/^(.*portalock:v1:(session:|.*clock$)|__sentinel__)/.test(
      String(name),
    )
  );
}

/** A client that a test closes. */
type Client = { destroy(): void } | { disconnect(): void } | { close(): void };

function close(client: Client): void {
  if ("destroy" in client) client.destroy();
  else if ("disconnect" in client) client.disconnect();
  else client.close();
}

async function startSingleServer(
  client: (url: string) => Promise<Client | undefined>,
  start: Parameters<typeof RedisServer.start>[0] = {},
): Promise<Topology> {
  const server = await RedisServer.start(start);
  const connected = await client(server.url);
  return {
    options: { client: connected as never },
    servers: [server],
    remaining: () => remainingNames([server]),
    async [Symbol.asyncDispose]() {
      if (connected) close(connected);
      await server[Symbol.asyncDispose]();
    },
  };
}

/** What the tests need of `createCluster`, in each version of node-redis. */
export type CreateCluster = (options: {
  rootNodes: { url: string }[];
  defaults?: { username: string; password: string };
}) => {
  on(event: "error", listener: () => void): unknown;
  connect(): Promise<unknown>;
  destroy(): void;
};

function clusterTopology(
  name: string,
  connect: (urls: string[]) => Promise<Client>,
): TopologyFactory {
  return {
    name,
    kind: "cluster",
    needs: ["redis-server"],
    async start() {
      const cluster = await RedisCluster.start();
      const client = await connect(cluster.urls);
      return {
        options: { client: client as never },
        servers: cluster.nodes,
        cluster,
        remaining: () => remainingNames(cluster.nodes),
        async [Symbol.asyncDispose]() {
          close(client);
          await cluster[Symbol.asyncDispose]();
        },
      };
    },
  };
}

/** Connects a cluster of node-redis. */
function connectCluster(create: CreateCluster) {
  return async (urls: string[]) => {
    const client = create({ rootNodes: urls.map((url) => ({ url })) });
    client.on("error", () => {});
    await client.connect();
    return client;
  };
}

/** What the tests need of ioredis, in each version. */
interface Ioredis {
  readonly Redis: new (url: string | object, options: object) => IoredisClient;
  readonly Cluster: new (urls: string[], options: object) => IoredisClient;
}

interface IoredisClient {
  on(event: "error", listener: () => void): unknown;
  connect(): Promise<unknown>;
  disconnect(): void;
}

async function connectIoredis(client: IoredisClient): Promise<IoredisClient> {
  client.on("error", () => {});
  await client.connect();
  return client;
}

/** The options are some that a connection must not take over from the client. */
const IOREDIS_OPTIONS = {
  lazyConnect: true,
  db: 1,
  keyPrefix: "prefix:",
  stringNumbers: true,
  enableAutoPipelining: true,
  connectionName: "test",
  // ioredis 5 ignores it.
  protocol: 2,
};

function ioredisTopologies(
  version: string,
  { Redis, Cluster }: Ioredis,
): TopologyFactory[] {
  return [
    {
      name: `a client of ioredis ${version}`,
      needs: ["redis-server"],
      start: () =>
        startSingleServer((url) =>
          connectIoredis(new Redis(url, IOREDIS_OPTIONS))
        ),
    },
    clusterTopology(
      `a cluster of ioredis ${version}`,
      (urls) => {
        // With `stringNumbers`, ioredis itself cannot read the slots.
        const redisOptions = {
          ...IOREDIS_OPTIONS,
          db: 0,
          stringNumbers: false,
        };
        const options = { lazyConnect: true, redisOptions };
        return connectIoredis(new Cluster(urls, options));
      },
    ),
    sentinelTopology(
      `sentinels of ioredis ${version}`,
      ({ name, roots }) =>
        connectIoredis(
          new Redis({ ...IOREDIS_OPTIONS, sentinels: roots, name }, {}),
        ),
    ),
  ];
}

function sentinelTopology(
  name: string,
  connect: (sentinel: RedisSentinel) => Promise<Client>,
): TopologyFactory {
  return {
    name,
    kind: "sentinels",
    needs: ["redis-server"],
    async start() {
      const sentinel = await RedisSentinel.start();
      const client = await connect(sentinel);
      return {
        options: { client: client as never },
        servers: [sentinel.master],
        sentinel,
        remaining: () => remainingNames([sentinel.master]),
        async [Symbol.asyncDispose]() {
          close(client);
          await sentinel[Symbol.asyncDispose]();
        },
      };
    },
  };
}

/** The module that Bun has built in. */
interface BunModule {
  readonly RedisClient: new (url: string, options?: object) => {
    connect(): Promise<unknown>;
    close(): void;
  };
}

/** Clients of Bun. The tests on other runtimes are skipped. */
const BUN: TopologyFactory[] = [true, false].map((autoReconnect) => ({
  name: `a RedisClient of Bun${
    autoReconnect ? "" : " that does not reconnect"
  }`,
  needs: ["redis-server", "Bun's RedisClient"],
  start: () =>
    startSingleServer(async (url) => {
      const { RedisClient } = builtin<BunModule>("bun")!;
      const client = new RedisClient(url, { autoReconnect });
      await client.connect();
      return client;
    }),
}));

function urlTopology(
  name: string,
  other: RedisSemaphoreOptions = {},
): TopologyFactory {
  return {
    name,
    needs: ["redis-server"],
    async start() {
      const server = await RedisServer.start({ password: "s e c" });
      return {
        options: { url: server.url, ...other },
        servers: [server],
        remaining: () => remainingNames([server]),
        [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
      };
    },
  };
}

/** Every topology. The tests close the clients and handle their errors. */
export const TOPOLOGIES: TopologyFactory[] = [
  ...SERVERS.map((program): TopologyFactory => ({
    name: `a client of ${program.name}`,
    needs: [program.needs],
    start: () =>
      startSingleServer(
        (url) => createClient({ url }).on("error", () => {}).connect(),
        { program },
      ),
  })),
  {
    name: "a client of RESP2",
    needs: ["redis-server"],
    start: () =>
      startSingleServer((url) =>
        createClient({ url, RESP: 2 }).on("error", () => {}).connect()
      ),
  },
  {
    name: "a pool",
    needs: ["redis-server"],
    start: () =>
      startSingleServer((url) =>
        createClientPool({ url }).on("error", () => {}).connect()
      ),
  },
  urlTopology("a URL"),
  urlTopology("a URL with options of node-redis", { clientOptions: {} }),
  {
    name: "a client of node-redis 5",
    needs: ["redis-server"],
    start: () =>
      startSingleServer((url) =>
        redis5.createClient({ url }).on("error", () => {}).connect()
      ),
  },
  clusterTopology("a cluster", connectCluster(createCluster)),
  clusterTopology(
    "a cluster of node-redis 5",
    connectCluster(redis5.createCluster),
  ),
  sentinelTopology(
    "sentinels",
    ({ name, roots: sentinelRootNodes }) =>
      createSentinel({ name, sentinelRootNodes }).on("error", () => {})
        .connect(),
  ),
  ...ioredisTopologies("6", { Redis, Cluster }),
  ...ioredisTopologies("5", ioredis5),
  ...BUN,
];
