/** What waiters ask the server and each other, and what dead ones cost. */

import assert from "node:assert/strict";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";
import { AlreadyLocked } from "../../mod.ts";
import { IdleSubscriptions } from "../../src/redis/acquisition/idle_subscriptions.ts";
import { lookInterval } from "../../src/redis/acquisition/wait.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import type { RedisLease } from "../../src/redis/mod.ts";
import { currentRuntime } from "../support/env.ts";
import { test } from "../support/test.ts";
import { SHORT_WAIT_MS } from "../support/waits.ts";
import { waitUntil } from "./support/binaries.ts";
import { DelayProxy } from "./support/delay_proxy.ts";
import { FakePython } from "./support/fake_python.ts";
import {
  lockConnections,
  startRedisProcess,
  unsharedOptions,
  waitForNoConnections,
  waitForQueueLength,
} from "./support/inspect.ts";
import { RedisServer } from "./support/server.ts";
import type { Capability } from "../support/capabilities.ts";

const it = (
  promise: string,
  body: (server: RedisServer) => Promise<void>,
  ...needs: Capability[]
) =>
  test(
    `Redis waiters: ${promise}`,
    async () => {
      await using server = await RedisServer.start();
      await body(server);
    },
    "redis-server",
    ...needs,
  );

/** Counts the looks of each waiter, by the number of its connection. */
async function watchLooks(server: RedisServer) {
  const client = createClient({ url: server.url }).on("error", () => {});
  await client.connect();
  const looks = new Map<string, number>();
  await client.monitor((line) => {
    const [, session] = /"check" "x:(\w+):/.exec(String(line)) ?? [];
    if (session) looks.set(session, (looks.get(session) ?? 0) + 1);
  });
  return { looks, [Symbol.dispose]: () => client.destroy() };
}

/** Starts waiters with connections of their own, in this order. */
async function queueUp(
  server: RedisServer,
  count: number,
  options: object,
  before = 0,
): Promise<Promise<RedisLease>[]> {
  const waits: Promise<RedisLease>[] = [];
  for (let i = 1; i <= count; i++) {
    const lock = new RedisLock("line", unsharedOptions(server, options));
    waits.push(lock.acquire({ timeout: Infinity }));
    await waitForQueueLength(server, "line", before + i);
  }
  return waits;
}

/** Returns the connections of the waiters, in the order of the queue. */
async function queuedSessions(server: RedisServer): Promise<string[]> {
  const queue = await server.command(
    ...["LRANGE", "portalock:v1:{line}:queue", 0, -1],
  ) as string[];
  return queue.map((member) => member.split(":")[1] ?? "");
}

async function serveAll(lease: RedisLease, waits: Promise<RedisLease>[]) {
  await lease.release();
  for (const wait of waits) await (await wait).release();
}

it("the first four look often, the others seldom until they are notified", async (server) => {
  const lease = await new RedisLock("line", unsharedOptions(server)).acquire();
  const waits = await queueUp(server, 24, { checkInterval: 40 });
  const sessions = await queuedSessions(server);
  {
    using watch = await watchLooks(server);
    const count = (i: number) => watch.looks.get(sessions[i]!) ?? 0;
    await waitUntil(
      () => Promise.resolve([0, 1, 2, 3].every((i) => count(i) >= 20)),
      () => "20 looks of the first four",
    );
    const most = Math.max(count(0), count(3));
    assert.ok(count(23) <= most / 4, `${count(23)} of ${most}`);
  }
  await serveAll(lease, waits);
});

it("a waiter far behind is notified when it becomes one of the first four", async (server) => {
  const lease = await new RedisLock("line", unsharedOptions(server)).acquire();
  const controller = new AbortController();
  const { signal } = controller;
  const often = { checkInterval: 300 };
  const leaving = await queueUp(server, 20, { ...often, signal });
  for (const wait of leaving) wait.catch(() => {});
  const waits = await queueUp(server, 4, often, 20);
  const sessions = (await queuedSessions(server)).slice(20);
  // Looks as often as one of the first four.
  const other = await new RedisLock("clock", unsharedOptions(server)).acquire();
  const clock = new RedisLock("clock", unsharedOptions(server, often))
    .acquire({ timeout: Infinity });
  await waitForQueueLength(server, "clock", 1);
  controller.abort();
  await waitForQueueLength(server, "line", 4);
  {
    using watch = await watchLooks(server);
    const count = (id: string) => watch.looks.get(id) ?? 0;
    await waitUntil(
      () => Promise.resolve(sessions.every((id) => count(id) >= 3)),
      () => "three looks of all",
    );
    const [ticks = 0] = [...watch.looks.entries()]
      .flatMap(([id, n]) => sessions.includes(id) ? [] : [n]);
    // Without the message, one of them would look after 18 intervals.
    assert.ok(ticks < 12, `${ticks}`);
  }
  await other.release();
  await (await clock).release();
  await serveAll(lease, waits);
});

it("a dead waiter leaves the queue while others wait ahead of it", async (server) => {
  const lease = await new RedisLock("line", unsharedOptions(server)).acquire();
  const waits = await queueUp(server, 2, {});
  const queue = "portalock:v1:{line}:queue";
  const last = String(await server.command("LINDEX", queue, 1));
  const dead = `x:${"0".repeat(32)}:1:1`;
  await server.command("LINSERT", queue, "BEFORE", last, dead);
  // Otherwise, the last one would look and ask without a pause.
  await waitForQueueLength(server, "line", 2);
  await serveAll(lease, waits);
});

it("a waiter enters soon if all ahead of it die at once", async (server) => {
  await using dying = startRedisProcess(currentRuntime);
  await dying.call("acquire", "line", { url: server.url });
  for (let i = 1; i <= 60; i++) {
    await dying.call("begin", "line", { url: server.url, timeout: 60_000 });
    await waitForQueueLength(server, "line", i);
  }
  const live = new RedisLock(
    "line",
    unsharedOptions(server, {
      unavailableTimeout: 500,
      checkInterval: 60_000,
    }),
  ).acquire({ timeout: 60_000 });
  await waitForQueueLength(server, "line", 61);
  await dying.kill();
  await (await live).release();
}, "sockets that close when their process is killed");

it(
  "a waiter that looks seldom finds a dead holder by asking it",
  async (server) => {
    await using dying = startRedisProcess(currentRuntime);
    await dying.call("acquire", "line", { url: server.url });
    const live = new RedisLock(
      "line",
      unsharedOptions(server, {
        unavailableTimeout: 300,
        checkInterval: 60_000,
      }),
    ).acquire({ timeout: 40_000 });
    await waitForQueueLength(server, "line", 1);
    await dying.kill();
    await (await live).release();
  },
  "sockets that close when their process is killed",
);

it("a ping of a Python client makes only the first waiter look sooner", async (server) => {
  const lease = await new RedisLock("line", unsharedOptions(server)).acquire();
  const waits = await queueUp(server, 3, { checkInterval: 60_000 });
  const sessions = await queuedSessions(server);
  {
    using watch = await watchLooks(server);
    for (let i = 0; i < 5; i++) await FakePython.ping(server.url, "line");
    assert.ok((watch.looks.get(sessions[0]!) ?? 0) >= 5);
    assert.deepEqual([...watch.looks.keys()], [sessions[0]]);
  }
  await serveAll(lease, waits);
});

it("dead waiters do not cost their time one after the other", async (server) => {
  const holder = await new RedisLock("line", unsharedOptions(server)).acquire();
  await using proxy = await DelayProxy.start(server.port);
  const controller = new AbortController();
  const { signal } = controller;
  const dead = Array.from({ length: 20 }, async (_, i) => {
    const options = { url: proxy.url, clientOptions: {} };
    await new RedisLock(`own ${i}`, options).acquire();
    await new RedisLock("line", options).acquire({
      timeout: Infinity,
      signal,
    });
  });
  for (const wait of dead) wait.catch(() => {});
  await waitForQueueLength(server, "line", 20);
  const live = new RedisLock(
    "line",
    unsharedOptions(server, {
      unavailableTimeout: 1000,
      // Only the probe finds out.
      checkInterval: 60_000,
    }),
  ).acquire({ timeout: Infinity });
  await waitForQueueLength(server, "line", 21);
  const all = (await lockConnections(server)).length;
  proxy.cut();
  // The holder lives, so it is the waiter that asks all members ahead of it.
  // One after the other, they would take 40 s, which is more than this waits.
  await waitUntil(
    async () => (await lockConnections(server)).length === all - 20,
    () => "the end of all dead waiters",
  );
  assert.equal(holder.held, true);
  controller.abort();
  await holder.release();
  await (await live).release();
});

it(
  "a stopped holder and stopped waiters lose their places at once",
  async (server) => {
    await using stopped = startRedisProcess(currentRuntime);
    const options = { url: server.url, timeout: 60_000 };
    await stopped.call("acquire", "line", { ...options, clientOptions: {} });
    for (let i = 1; i <= 3; i++) {
      await stopped.call("begin", "line", { ...options, clientOptions: {} });
      await waitForQueueLength(server, "line", i);
    }
    process.kill(stopped.process.pid!, "SIGSTOP");
    const lock = new RedisLock(
      "line",
      unsharedOptions(server, {
        unavailableTimeout: 300,
        checkInterval: 60_000,
      }),
    );
    await (await lock.acquire({ timeout: Infinity })).release();
    process.kill(stopped.process.pid!, "SIGCONT");
  },
  "signals",
);

it(
  "a waiter that gives up does not kill the holder that it has asked",
  async (server) => {
    await using stopped = startRedisProcess(currentRuntime);
    await stopped.call("acquire", "line", { url: server.url });
    const before = await lockConnections(server);
    process.kill(stopped.process.pid!, "SIGSTOP");
    const lock = new RedisLock(
      "line",
      unsharedOptions(server, {
        unavailableTimeout: 400,
        checkInterval: 10,
      }),
    );
    await assert.rejects(lock.acquire({ timeout: 600 }), AlreadyLocked);
    await sleep(600);
    const ids = (await lockConnections(server)).map(({ id }) => id);
    assert.ok(ids.includes(before[0]!.id));
    process.kill(stopped.process.pid!, "SIGCONT");
    await stopped.call("release", "line");
  },
  "signals",
);

/** Returns how often the server has run a command since the last reset. */
async function calls(server: RedisServer, command: string): Promise<number> {
  const stats = await server.info("INFO", "commandstats");
  return Number(
    /calls=(\d+)/.exec(stats[`cmdstat_${command}`] ?? "")?.[1] ?? 0,
  );
}

it("AlreadyLocked names the channel that other programs are subscribed to", async (server) => {
  const client = createClient({ url: server.url }).on("error", () => {});
  await client.connect();
  const lock = new RedisLock("news", unsharedOptions(server));
  const rejects = (message: RegExp) =>
    assert.rejects(lock.acquire({ timeout: SHORT_WAIT_MS }), (error) => {
      assert.ok(error instanceof AlreadyLocked, String(error));
      assert.match(error.message, message);
      return true;
    });
  try {
    await client.subscribe("news", () => {});
    await rejects(/subscribed to news; .*another name or another prefix/);
    await client.unsubscribe("news");
    // It counts against a Python client, which could be hidden behind it.
    await client.subscribe("portalock:v1:{news}", () => {});
    await rejects(/subscribed to "portalock:v1:\{news\}", which hides/);
    const waiting = lock.acquire({ timeout: 60_000, checkInterval: 20 });
    await waitForQueueLength(server, "news", 1);
    await client.unsubscribe("portalock:v1:{news}");
    await (await waiting).release();
  } finally {
    client.destroy();
  }
});

it("a lock that is acquired and released in a row sends one script for each", async (server) => {
  const options = unsharedOptions(server);
  const lock = new RedisLock("row", options);
  await lock.run(() => {});
  await server.command("CONFIG", "RESETSTAT");
  const pairs = 500;
  for (let i = 0; i < pairs; i++) await lock.run(() => {});
  assert.equal(await calls(server, "evalsha"), 2 * pairs);
  // It may be idle at the wrong moment, if the machine is busy.
  assert.ok(await calls(server, "subscribe") < pairs / 10);
  assert.ok(await calls(server, "unsubscribe") < pairs / 10);
  await waitForChannels(server, "row", "0,0");
  await waitForNoConnections(server);
});

const waitForChannels = (server: RedisServer, name: string, counts: string) =>
  waitUntil(async () => {
    const found = await server.command(
      ...["PUBSUB", "NUMSUB", name, `portalock:v1:{${name}}`],
    ) as [string, number, string, number];
    return `${found[1]},${found[3]}` === counts;
  }, () => `${counts} subscribers`);

it("a subscription does not end while its release is under way", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  const options = { url: proxy.url, unavailableTimeout: 60_000 };
  const lock = new RedisLock("slow", options);
  const other = new RedisLock("other", options);
  const lease = await lock.acquire();
  await (await other.acquire()).release();
  proxy.holdReplies();
  const released = lease.release();
  await waitUntil(
    () => Promise.resolve(proxy.heldReplies > 0),
    () => "a reply",
  );
  // It would end in the same moment as that of the other lock, or 50 ms later.
  await waitForChannels(server, "other", "0,0");
  await sleep(150);
  await waitForChannels(server, "slow", "1,1");
  proxy.deliverAll();
  await released;
  await waitForChannels(server, "slow", "0,0");
});

it("a Python client's ping ends a subscription that is not used, without a reply", async (server) => {
  const options = unsharedOptions(server);
  const lock = new RedisLock("idle", options);
  const python = createClient({ url: server.url }).on("error", () => {});
  await python.connect();
  const replies: string[] = [];
  const replyTo = "idle-0.1";
  const subscriber = await python.duplicate().on("error", () => {}).connect();
  await subscriber.subscribe(replyTo, (message) => replies.push(message));
  const ping = JSON.stringify({ message: "ping", response_channel: replyTo });
  try {
    // Without the ping, it would end after 50 ms or more.
    let ended = false;
    for (let i = 0; i < 100 && !ended; i++) {
      const lease = await lock.acquire();
      const start = performance.now();
      await lease.release();
      const received = await python.publish("idle", ping);
      await sleep(5);
      const [, count] = await server.command(
        ...["PUBSUB", "NUMSUB", "idle"],
      ) as [string, number];
      const quick = performance.now() - start < 45;
      ended = quick && received === 1 && count === 0;
    }
    assert.ok(ended);
    assert.deepEqual(replies, []);
  } finally {
    python.destroy();
    subscriber.destroy();
  }
});

test("Redis waiters: a subscription that is confirmed late, and used again, stays", async () => {
  const sent: string[] = [];
  const connection = {
    unsubscribe: (channels: string[]) =>
      Promise.resolve(sent.push(...channels)),
  };
  let confirm = () => {};
  const confirmed = new Promise<void>((resolve) => confirm = resolve);
  let waits = 0;
  const subscription = {
    confirmed: false,
    leaving: 0,
    channels: ["a"],
    keys: { sharded: false },
    idleOnceConfirmed: () => (waits++, confirmed.then(() => true)),
  };
  const idle = new IdleSubscriptions(connection as never, () => {});
  idle.add(subscription as never);
  await waitUntil(() => Promise.resolve(waits > 0), () => "the end");
  // Used and left again.
  idle.add(subscription as never);
  await sleep(75);
  subscription.confirmed = true;
  confirm();
  await sleep(0);
  // Used.
  idle.delete(subscription as never);
  await sleep(150);
  assert.deepEqual(sent, []);
});

test("Redis waiters: with any checkInterval, a waiter looks before the queue expires", () => {
  for (const position of [0, 3, 4, 1000]) {
    for (const checkInterval of [250, 60_000, 1e12]) {
      const interval = lookInterval(checkInterval, position);
      assert.ok(interval <= 3_600_000, `${checkInterval}: ${interval}`);
      assert.ok(interval >= Math.min(checkInterval, 3_600_000));
    }
  }
});
