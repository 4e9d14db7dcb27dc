/** The permissions that docs/redis.md lists. */

import assert from "node:assert/strict";
import { Cluster } from "ioredis";
import * as ioredis5 from "ioredis-5";
import { createClient, createCluster } from "redis";
import * as redis5 from "redis-5";
import { AlreadyLocked } from "../../mod.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import type { RedisSemaphoreOptions } from "../../src/redis/mod.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import { RedisCluster } from "./support/cluster.ts";
import { waitForQueueLength } from "./support/inspect.ts";
import { RedisServer } from "./support/server.ts";
import type { CreateCluster } from "./support/topologies.ts";

const USER = { username: "limited", password: "p" };

/** The rules for every server, with the name of the lock as a channel. */
const RULES = "+@connection +evalsha +eval +subscribe +unsubscribe +publish " +
  "+client|list +client|kill " +
  "+pubsub +time +exists +expire +get +mget +set +hget +hset +hdel +hkeys " +
  "+hlen +lindex +llen +lpos +lrange +lrem +lpop +rpush";

/** The names for a lock without a prefix. */
const NAMES = "~portalock:* ~jobs-fence &portalock:* &jobs*";

/** The names for locks with the prefix `tenant:`. */
const TENANT = "~tenant:* &tenant:*";

/** The additional rules for a cluster. */
const CLUSTER_RULES = "+cluster|slots +ssubscribe +sunsubscribe +spublish";

async function limit(servers: RedisServer[], rules: string) {
  const { username, password } = USER;
  const user = ["reset", "on", `>${password}`, ...rules.split(" ")];
  for (const server of servers) {
    await server.command("ACL", "SETUSER", username, ...user);
  }
}

/** Asserts that the server has not refused any command. */
async function assertNothingDenied(servers: RedisServer[]) {
  for (const server of servers) {
    const log = await server.command("ACL", "LOG") as unknown[];
    assert.deepEqual(log, []);
  }
}

/** Acquires locks of each kind, with and without a waiter. */
async function useLocks(
  given: RedisSemaphoreOptions,
  nodeOf: (name: string) => Promise<RedisServer>,
) {
  const options = { ...given, info: { pid: 7 } };
  const lock = new RedisLock("jobs", options);
  const lease = await lock.acquire();
  await assert.rejects(lock.acquire({ timeout: 1000 }), AlreadyLocked);
  const other = new RedisLock("jobs", options);
  await assert.rejects(other.acquire({ failWhenLocked: true }), (error) => {
    assert.ok(error instanceof AlreadyLocked);
    assert.ok(error.holder);
    return true;
  });
  assert.equal(await lock.tryAcquire(), null);
  const wait = new RedisLock("jobs", options).acquire({ timeout: 60_000 });
  const { prefix = "" } = options;
  await waitForQueueLength(await nodeOf("jobs"), "jobs", 1, prefix);
  const { holders, waiters } = await lock.probe();
  for (const { info, address } of [at(holders, 0), at(waiters, 0)]) {
    assert.deepEqual(info, { pid: 7 });
    assert.ok(address);
  }
  await (await other.adopt(lease.transfer())).release();
  await (await wait).release();
  await new RedisLock("jobs", { ...options, shared: true }).run(() => {});
  await new RedisSemaphore("jobs", 2, options).run(() => {});
}

const SERVER_CASES: [title: string, names: string, prefix?: string][] = [
  ["the documented ones suffice for locks of a server", NAMES],
  ["~PREFIX* and &PREFIX* suffice with the option prefix", TENANT, "tenant:"],
];

for (const [title, names, prefix = ""] of SERVER_CASES) {
  test(
    `Redis permissions: ${title}`,
    async () => {
      await using server = await RedisServer.start();
      await limit([server], `${RULES} ${names}`);
      const client = createClient({ url: server.url, ...USER });
      await client.on("error", () => {}).connect();
      try {
        await useLocks({ client, prefix }, () => Promise.resolve(server));
        await assertNothingDenied([server]);
        await assertOnlyPrefixed(server, prefix);
        const other = new RedisLock("jobs", { client, prefix: "other:" });
        await assert.rejects(other.tryAcquire(), { code: "NOPERM" });
      } finally {
        client.destroy();
      }
    },
    "redis-server",
  );
}

/** Asserts that every key and channel begins with the prefix. */
async function assertOnlyPrefixed(server: RedisServer, prefix: string) {
  const names = [
    ...await server.command("KEYS", "*") as string[],
    ...await server.command("PUBSUB", "CHANNELS") as string[],
  ];
  assert.ok(names.length > 0);
  for (const name of names) assert.ok(name.startsWith(prefix), name);
}

const CLUSTER_VERSIONS: [version: number, create: CreateCluster][] = [
  [5, redis5.createCluster],
  [6, createCluster],
];

for (const [version, create] of CLUSTER_VERSIONS) {
  test(
    `Redis permissions: the documented ones suffice for a cluster of node-redis ${version}`,
    async () => {
      await using cluster = await RedisCluster.start();
      await limit(cluster.nodes, `${RULES} ${NAMES} ${CLUSTER_RULES}`);
      const client = create({
        rootNodes: cluster.urls.map((url) => ({ url })),
        defaults: USER,
      });
      client.on("error", () => {});
      await client.connect();
      try {
        const slot = await cluster.slotOf("{jobs}");
        const options = { client: client as never };
        await useLocks(options, () => cluster.nodeOf(slot));
        const from = await cluster.nodeOf(slot);
        const to = at(cluster.nodes.filter((node) => node !== from), 0);
        // The client reads the slots again.
        await cluster.migrate(slot, to);
        await useLocks(options, () => Promise.resolve(to));
        await assertNothingDenied(cluster.nodes);
      } finally {
        client.destroy();
      }
    },
    "redis-server",
  );
}

for (const [version, Class] of [[5, ioredis5.Cluster], [6, Cluster]] as const) {
  test(
    `Redis permissions: the documented ones suffice for a cluster of ioredis ${version} with a prefix of its own`,
    async () => {
      await using cluster = await RedisCluster.start();
      const rules = `${RULES} ${NAMES} ${CLUSTER_RULES} +cluster|info +info`;
      await limit(cluster.nodes, rules);
      const client = new Class(cluster.urls, {
        lazyConnect: true,
        keyPrefix: "app:",
        redisOptions: USER,
      });
      client.on("error", () => {});
      try {
        const slot = await cluster.slotOf("{jobs}");
        const options = { client: client as never };
        await useLocks(options, () => cluster.nodeOf(slot));
        await assertNothingDenied(cluster.nodes);
      } finally {
        client.disconnect();
      }
    },
    "redis-server",
  );
}
