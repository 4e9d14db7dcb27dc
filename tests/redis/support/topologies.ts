/** Every kind of client and server that a lock in Redis supports. */

import { createClient, createClientPool, createCluster } from "redis";
import { createSentinel } from "redis";
import * as redis5 from "redis-5";
import type { RedisSemaphoreOptions } from "../../../src/redis/mod.ts";
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
  /** Lists the keys and channels that are left on the servers. */
  remaining(): Promise<unknown[]>;
}

interface TopologyFactory {
  name: string;
  needs: Capability;
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

async function startSingleServer(
  client: (url: string) => Promise<{ destroy(): void } | undefined>,
  start: Parameters<typeof RedisServer.start>[0] = {},
): Promise<Topology> {
  const server = await RedisServer.start(start);
  const connected = await client(server.url);
  return {
    options: { client: connected as never },
    servers: [server],
    remaining: () => remainingNames([server]),
    async [Symbol.asyncDispose]() {
      connected?.destroy();
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
  create: CreateCluster,
): TopologyFactory {
  return {
    name,
    needs: "redis-server",
    async start() {
      const cluster = await RedisCluster.start();
      const client = create({
        rootNodes: cluster.urls.map((url) => ({ url })),
      });
      client.on("error", () => {});
      await client.connect();
      return {
        options: { client: client as never },
        servers: cluster.nodes,
        remaining: () => remainingNames(cluster.nodes),
        async [Symbol.asyncDispose]() {
          client.destroy();
          await cluster[Symbol.asyncDispose]();
        },
      };
    },
  };
}

/** Every topology. The tests close the clients and handle their errors. */
export const TOPOLOGIES: TopologyFactory[] = [
  ...SERVERS.map((program): TopologyFactory => ({
    name: `a client of ${program.name}`,
    needs: program.needs,
    start: () =>
      startSingleServer(
        (url) => createClient({ url }).on("error", () => {}).connect(),
        { program },
      ),
  })),
  {
    name: "a client of RESP2",
    needs: "redis-server",
    start: () =>
      startSingleServer((url) =>
        createClient({ url, RESP: 2 }).on("error", () => {}).connect()
      ),
  },
  {
    name: "a pool",
    needs: "redis-server",
    start: () =>
      startSingleServer((url) =>
        createClientPool({ url }).on("error", () => {}).connect()
      ),
  },
  {
    name: "a URL",
    needs: "redis-server",
    async start() {
      const server = await RedisServer.start({ password: "s e c" });
      return {
        options: { url: server.url },
        servers: [server],
        remaining: () => remainingNames([server]),
        [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
      };
    },
  },
  {
    name: "a client of node-redis 5",
    needs: "redis-server",
    start: () =>
      startSingleServer((url) =>
        redis5.createClient({ url }).on("error", () => {}).connect()
      ),
  },
  clusterTopology("a cluster", createCluster),
  clusterTopology("a cluster of node-redis 5", redis5.createCluster),
  {
    name: "sentinels",
    needs: "redis-server",
    async start() {
      const sentinel = await RedisSentinel.start();
      const client = await createSentinel({
        name: sentinel.name,
        sentinelRootNodes: sentinel.roots,
      }).on("error", () => {}).connect();
      return {
        options: { client },
        servers: [sentinel.master],
        remaining: () => remainingNames([sentinel.master]),
        async [Symbol.asyncDispose]() {
          await client.destroy();
          await sentinel[Symbol.asyncDispose]();
        },
      };
    },
  },
];
