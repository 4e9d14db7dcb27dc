import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import process from "node:process";
import { WAIT_FOREVER } from "../../src/options/acquire_options.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import { lockKeys } from "../../src/redis/protocol/keys.ts";
import { ConnectionLocks } from "../../src/redis/acquisition/connection_locks.ts";
import type { Subscriber } from "../../src/redis/acquisition/subscription.ts";
import type { LockConnection } from "../../src/redis/connection/connection.ts";
import { SharedTimer } from "../../src/redis/connection/shared_timer.ts";
import { Deadline } from "../../src/wait/deadline.ts";
import { test } from "../support/test.ts";
import { DelayProxy } from "./support/delay_proxy.ts";
import { waitUntil } from "./support/binaries.ts";
import type { RedisServer } from "./support/server.ts";
import {
  holderCount,
  redisSuite,
  waitForNoConnections,
} from "./support/inspect.ts";

const it = redisSuite("late replies in Redis");

/** Returns the numbers of subscribers of both channels of a lock. */
async function subscriberCounts(server: RedisServer, channel: string) {
  const found = await server.command(
    ...["PUBSUB", "NUMSUB", channel, `portalock:v1:{${channel}}`],
  ) as [string, number, string, number];
  return [found[1], found[3]];
}

/** Waits until the server has recorded that many holders of a lock. */
const waitForHolders = (server: RedisServer, channel: string, count: number) =>
  waitUntil(
    async () => await holderCount(server, channel) === count,
    () => `${count} holders of ${channel}`,
  );

/** Waits until the server has replied to every command. */
const waitForReplies = (proxy: DelayProxy) =>
  waitUntil(async () => {
    const { heldReplies } = proxy;
    await sleep(30);
    return proxy.heldReplies === heldReplies;
  }, () => "the last reply");

/** Runs `body` with locks on a connection whose replies a proxy can hold. */
async function withDelayProxy(
  server: RedisServer,
  body: (proxy: DelayProxy, lock: () => RedisLock) => Promise<void>,
): Promise<void> {
  await using proxy = await DelayProxy.start(server.port);
  const options = { url: proxy.url, clientOptions: {} };
  const lock = () => new RedisLock("late", options);
  await using other = new RedisLock("other", options);
  // Loading node-redis takes some time.
  await other.acquire({ timeout: 60_000 });
  await body(proxy, lock);
  assert.equal(other.locked, true);
}

for (const when of ["before", "after"]) {
  it(`acquire() ${when} the reply to an aborted acquire() resolves`, async (server) => {
    await withDelayProxy(server, async (proxy, lock) => {
      const controller = new AbortController();
      const { signal } = controller;
      proxy.holdReplies();
      const first = lock().acquire({ signal });
      first.catch(() => {});
      await waitForHolders(server, "late", 1);
      const { heldReplies } = proxy;
      controller.abort();
      await waitForHolders(server, "late", 0);
      await waitForReplies(proxy);
      if (when === "after") {
        // The replies to the first commands, but not to the last one.
        proxy.deliver(heldReplies);
        await sleep(50);
      }
      const second = lock().acquire();
      await waitForHolders(server, "late", 1);
      proxy.deliverAll();
      await assert.rejects(first, { name: "AbortError" });
      const lease = await second;
      assert.deepEqual(await subscriberCounts(server, "late"), [1, 1]);
      await lease.release();
    });
    await waitForNoConnections(server);
  });
}

it("an abort after a pending release unsubscribes", async (server) => {
  await withDelayProxy(server, async (proxy, lock) => {
    const lease = await lock().acquire();
    proxy.holdReplies();
    const released = lease.release();
    await waitForHolders(server, "late", 0);
    await waitForReplies(proxy);
    const controller = new AbortController();
    const { signal } = controller;
    const second = lock().acquire({ signal });
    second.catch(() => {});
    await waitForHolders(server, "late", 1);
    controller.abort();
    await waitForHolders(server, "late", 0);
    proxy.deliverAll();
    await released;
    await assert.rejects(second, { name: "AbortError" });
    await waitUntil(
      async () => String(await subscriberCounts(server, "late")) === "0,0",
      () => "the end of the subscription",
    );
  });
  await waitForNoConnections(server);
});

it("a reply that arrives while the thread is blocked counts, although the time is over", async (server) => {
  const options = { url: server.url, clientOptions: {} };
  await using other = new RedisLock("other", options);
  await other.acquire({ timeout: 60_000 });
  const busy = server.command(
    "EVAL",
    "local function now() local t = redis.call('TIME') " +
      "return t[1] * 1000000 + t[2] end " +
      "local e = now() + 500000 while now() < e do end",
    0,
  );
  const acquiring = new RedisLock("late", options).acquire({ timeout: 400 });
  acquiring.catch(() => {});
  await sleep(100);
  // After this, Node runs timers before it reads input.
  await new Promise((resolve) => setImmediate(resolve));
  const end = performance.now() + 1000;
  while (performance.now() < end);
  await (await acquiring).release();
  await busy;
});

it("simultaneous aborts unsubscribe, and a later acquire() resolves", async (server) => {
  await withDelayProxy(server, async (proxy, lock) => {
    proxy.holdReplies();
    const controllers = [1, 2, 3].map(() => new AbortController());
    const attempts = controllers.map(({ signal }) =>
      lock().acquire({ signal })
    );
    for (const attempt of attempts) attempt.catch(() => {});
    await waitForHolders(server, "late", 1);
    for (const controller of controllers) controller.abort();
    await waitForHolders(server, "late", 0);
    proxy.deliverAll();
    for (const attempt of attempts) {
      await assert.rejects(attempt, { name: "AbortError" });
    }
    await waitUntil(
      async () => String(await subscriberCounts(server, "late")) === "0,0",
      () => "the end of the subscription",
    );
    const lease = await lock().acquire();
    assert.deepEqual(await subscriberCounts(server, "late"), [1, 1]);
    await lease.release();
    await waitUntil(
      async () => String(await subscriberCounts(server, "late")) === "0,0",
      () => "the end of the subscription",
    );
  });
  await waitForNoConnections(server);
});

test("late replies in Redis: a subscription that is not confirmed ends once, after the reply", async () => {
  let answer = () => {};
  const unsubscribed: (readonly string[])[] = [];
  const connection = {
    subscribe: () => new Promise<void>((resolve) => answer = resolve),
    unsubscribe: (channels: readonly string[]) => {
      unsubscribed.push(channels);
      return Promise.resolve();
    },
    failure: undefined,
  } as unknown as LockConnection;
  const locks = ConnectionLocks.of(connection);
  const subscription = locks.subscription(
    lockKeys("together", { prefix: "", sharded: false }),
  );
  const subscribers = [1, 2, 3].map((id) => ({ id }) as Subscriber);
  for (const subscriber of subscribers) subscription.add(subscriber);
  for (const subscriber of subscribers) subscription.remove(subscriber);
  await sleep(300);
  assert.deepEqual(unsubscribed, []);
  answer();
  await waitUntil(
    () => Promise.resolve(unsubscribed.length > 0),
    () => "the end of the subscription",
  );
  await sleep(150);
  assert.deepEqual(unsubscribed, [["portalock:v1:{together}", "together"]]);
});

test("late replies in Redis: the late end of a refused subscription keeps the next one", async () => {
  const keys = lockKeys("twice", { prefix: "", sharded: false });
  let refuse = (_error: Error) => {};
  let ends = 0;
  const lost: unknown[] = [];
  const next: Partial<Subscriber> = {
    id: 3,
    lost: (error) => void lost.push(error),
  };
  const connection = {
    subscribe: () => new Promise((_, reject) => refuse = reject),
    // Read before each end. The next one is used before the second end.
    get failure() {
      if (++ends === 2) {
        locks.subscription(keys).add(next as Subscriber).catch(() => {});
      }
      return undefined;
    },
  } as unknown as LockConnection;
  const locks = ConnectionLocks.of(connection);
  const first = locks.subscription(keys);
  first.pythonSeen = true;
  for (const id of [1, 2]) {
    const subscriber = { id } as Subscriber;
    first.add(subscriber).catch(() => {});
    first.remove(subscriber);
  }
  refuse(new Error("NOPERM"));
  await waitUntil(() => Promise.resolve(ends >= 2), () => "both ends");
  await sleep(1);
  assert.notEqual(locks.subscription(keys), first);
  const ended = new Error("the connection ended");
  locks.onLost(ended);
  assert.deepEqual(lost, [ended]);
});

test("late replies in Redis: a subscription that the server has ended is not used again", async () => {
  const keys = lockKeys("moved", { prefix: "", sharded: true });
  const sent: string[] = [];
  const connection = {
    replyChannel: () => "portalock:v1:{moved}:session",
    subscribe: () => Promise.resolve(sent.push("SSUBSCRIBE")),
    unsubscribe: () => Promise.resolve(sent.push("SUNSUBSCRIBE")),
    failure: undefined,
  } as unknown as LockConnection;
  const locks = ConnectionLocks.of(connection);
  const idle = locks.subscription(keys);
  const first = { id: 1 } as Subscriber;
  await idle.add(first);
  idle.remove(first);
  locks.onChannelMoved(keys.key);
  const next = locks.subscription(keys);
  assert.equal(next.confirmed, false);
  await next.add({ id: 2 } as Subscriber);
  // Longer than a subscription is idle.
  await sleep(200);
  assert.deepEqual(sent, ["SSUBSCRIBE", "SSUBSCRIBE"]);
});

test("late replies in Redis: a wait that is over ends at once, without a warning", async () => {
  const warnings: string[] = [];
  const warned = ({ name }: Error) => warnings.push(name);
  process.on("warning", warned);
  try {
    const deadline = new Deadline(WAIT_FOREVER);
    const woken = await deadline.sleepUntilWoken(-1, () => () => {});
    assert.equal(woken, false);
    await sleep(1);
  } finally {
    process.off("warning", warned);
  }
  assert.deepEqual(warnings, []);
});

test("late replies in Redis: a shared timer that is late fires at once", async () => {
  const warnings: string[] = [];
  const onWarning = ({ name }: Error) => warnings.push(name);
  process.on("warning", onWarning);
  const timer = new SharedTimer();
  try {
    let fired = false;
    timer.set(-1, () => fired = true);
    while (!fired) await sleep(1);
  } finally {
    timer.clear();
    process.off("warning", onWarning);
  }
  assert.deepEqual(warnings, []);
});

test("late replies in Redis: a shared timer fires once for each wait", async () => {
  const timer = new SharedTimer();
  const fired: string[] = [];
  timer.set(30, () => fired.push("second"));
  timer.set(5, () => fired.push("first"));
  const clear = timer.set(10, () => fired.push("cleared"));
  clear();
  await waitUntil(
    () => Promise.resolve(fired.length >= 2),
    () => "both timers",
  );
  await sleep(100);
  // If the thread was busy, both are due at once.
  assert.deepEqual(fired.sort(), ["first", "second"]);
});

test("late replies in Redis: a shared timer that is due is not called once it is cleared", async () => {
  const timer = new SharedTimer();
  const fired: string[] = [];
  const clears: (() => void)[] = [];
  for (const name of ["a", "b"]) {
    clears.push(timer.set(1, () => {
      fired.push(name);
      for (const clear of clears) clear();
    }));
  }
  // Both are due when the timer fires.
  const end = performance.now() + 20;
  while (performance.now() < end);
  await waitUntil(() => Promise.resolve(fired.length > 0), () => "a timer");
  await sleep(20);
  assert.deepEqual(fired, ["a"]);
});
