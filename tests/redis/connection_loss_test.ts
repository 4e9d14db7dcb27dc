import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { createCluster, createSentinel } from "redis";
import { AlreadyLocked, LockException, LockLostError } from "../../mod.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import type { RedisLease, RedisLockOptions } from "../../src/redis/mod.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import { RedisCluster } from "./support/cluster.ts";
import { waitUntil } from "./support/binaries.ts";
import { RedisSentinel } from "./support/sentinel.ts";
import type { RedisServer } from "./support/server.ts";
import {
  abortReason,
  assertNothingLeft,
  connectionIdOf,
  holderCount,
  killLockConnections,
  lockConnections,
  redisSuite,
  removeDeadHolders,
  unsharedOptions,
  waitForNoConnections,
  waitForQueueLength,
} from "./support/inspect.ts";

const it = redisSuite("Redis connection loss", removeDeadHolders);

/** Asserts that a lease aborts its signal with a reason that matches. */
async function assertLost(lease: RedisLease, why: RegExp): Promise<void> {
  const reason = await abortReason(lease.signal);
  assert.ok(reason instanceof LockLostError);
  assert.equal(reason.code, "ERR_LOCK_LOST");
  assert.match(reason.message, /^Lost the lock on /);
  assert.match(reason.message, why);
  assert.ok(reason.cause instanceof Error);
  assert.equal(lease.held, false);
}

it("the signal of the lease aborts, and the holder can acquire again", async (server) => {
  const lock = new RedisLock("jobs", unsharedOptions(server));
  const lease = await lock.acquire();
  const { signal } = lease;
  await killLockConnections(server);
  await assertLost(lease, /closed|ended/i);
  assert.equal(lease.signal, signal);
  assert.equal(lock.locked, false);
  await lease.release();
  await lock.release();
  const again = await lock.acquire();
  assert.notEqual(again.holderId.split("-")[0], lease.holderId.split("-")[0]);
  assert.ok(again.fencingToken > lease.fencingToken);
  assert.equal(signal.reason.name, "LockLostError");
  await again.release();
});

it("the signals of all leases of the connection abort", async (server) => {
  const options = unsharedOptions(server);
  const leases: RedisLease[] = [];
  for (const channel of ["a", "b", "c"]) {
    leases.push(await new RedisLock(channel, options).acquire());
  }
  await abortReason(await kill(server, at(leases, 0)));
  for (const lease of leases) await assertLost(lease, /closed|ended/i);
});

it("a connection never resubscribes by itself", async (server) => {
  await waitForNoConnections(server);
  const options = unsharedOptions(server);
  const lease = await new RedisLock("silent", options).acquire();
  await abortReason(await kill(server, lease));
  // Another lock opens a new connection, which does not restore the lost lock.
  await using _ = await new RedisLock("other", options).acquire();
  await sleep(100);
  const found = await server.command("PUBSUB", "NUMSUB", "silent");
  assert.deepEqual(found, ["silent", 0]);
  assert.equal((await lockConnections(server)).length, 1);
  await lease.release();
});

it("the next waiter acquires the lost lock", async (server) => {
  const newLock = () =>
    new RedisLock("next", unsharedOptions(server, { checkInterval: 50 }));
  const [lock, other] = [newLock(), newLock()];
  const lease = await lock.acquire();
  const wait = other.acquire({ timeout: 60_000 });
  await waitForQueueLength(server, "next", 1);
  await kill(server, lease);
  const next = await wait;
  await assertLost(lease, /closed|ended/i);
  assert.equal(await lock.tryAcquire(), null);
  await lease.release();
  assert.equal(next.held, true);
  assert.equal(await holderCount(server, "next"), 1);
  await next.release();
});

it("a waiter whose connection ended continues to wait", async (server) => {
  const lease = await new RedisLock("wait", unsharedOptions(server)).acquire();
  const wait = new RedisLock("wait", unsharedOptions(server)).acquire();
  await waitForQueueLength(server, "wait", 1);
  const queue = () =>
    server.command("LRANGE", "portalock:v1:{wait}:queue", 0, 9);
  const before = String(await queue());
  const holderId = await connectionIdOf(server, lease);
  for (const { id } of await lockConnections(server)) {
    if (id !== holderId) await server.command("CLIENT", "KILL", "ID", id);
  }
  await waitUntil(
    async () => !["", before].includes(String(await queue())),
    () => "a new entry in the queue",
  );
  await lease.release();
  await (await wait).release();
});

it("run() rejects with the loss even if the function completes", async (server) => {
  const lock = new RedisLock("work", unsharedOptions(server));
  let done = false;
  const work = lock.run(async (lease) => {
    await abortReason(await kill(server, lease));
    done = true;
  });
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof LockLostError);
    assert.match(error.message, /Lost the lock on work/);
    return done;
  });
  await lock.run(() => {});
});

it("a holder detects that the server lost its data", async (server) => {
  const options = { unavailableTimeout: 1000 };
  const lock = new RedisLock("flushed", unsharedOptions(server, options));
  const lease = await lock.acquire();
  const other = new RedisLock(
    "flushed",
    unsharedOptions(server, { checkInterval: 50 }),
  );
  const wait = other.acquire();
  await waitForQueueLength(server, "flushed", 1);
  await server.command("FLUSHALL");
  await assertLost(lease, /lost the record/);
  await (await wait).release();
  await lock.run(() => {});
});

it("waiters acquire after the server lost the queue", async (server) => {
  const options = { checkInterval: 20 };
  const lease = await new RedisLock("line", unsharedOptions(server, options))
    .acquire();
  const tasks = Array.from(
    { length: 5 },
    () => new RedisLock("line", unsharedOptions(server, options)).run(() => {}),
  );
  await waitForQueueLength(server, "line", 5);
  await server.command("DEL", "portalock:v1:{line}:queue");
  await lease.release();
  await Promise.all(tasks);
});

it("a waiter acquires after the server is restarted", async (server) => {
  const lock = new RedisLock("dies", unsharedOptions(server));
  const lease = await lock.acquire();
  const other = new RedisLock("dies", unsharedOptions(server));
  const wait = other.acquire({ timeout: 60_000 });
  await waitForQueueLength(server, "dies", 1);
  await server.stop();
  await assertLost(lease, /closed|ended|ECONNRESET/i);
  await lease.release();
  await server.restart();
  const next = await wait;
  assert.equal(next.held, true);
  assert.equal(await lock.tryAcquire(), null);
  await next.release();
  await lock.run(() => {});
});

it("a waiter rejects with the reason when the server stays down", async (server) => {
  const lease = await new RedisLock("gone", unsharedOptions(server)).acquire();
  const wait = new RedisLock("gone", unsharedOptions(server)).acquire({
    timeout: 3000,
  });
  await waitForQueueLength(server, "gone", 1);
  await server.stop();
  await assert.rejects(wait, (error) => {
    assert.ok(error instanceof LockException);
    assert.ok(!(error instanceof AlreadyLocked));
    assert.match(error.message, /^Cannot lock gone: .*\(waited \d+ ms\)$/);
    assert.ok(error.cause instanceof Error);
    return true;
  });
  await lease.release();
  await server.restart();
});

it("tryAcquire() rejects with the reason when the server is killed", async (server) => {
  const lock = new RedisLock("why", unsharedOptions(server));
  await lock.run(() => {});
  await server.signal("SIGSTOP");
  const attempt = lock.tryAcquire();
  attempt.catch(() => {});
  // By then, the attempt is sent over the connection that was idle.
  await sleep(50);
  await server.signal("SIGKILL");
  await assert.rejects(attempt, {
    code: "ECONNRESET",
    message: /Cannot lock why: .*(closed|ECONNRESET)/,
  });
  await server.restart();
  await lock.run(() => {});
});

it("release() resolves while the server is down", async (server) => {
  const lock = new RedisLock("release", unsharedOptions(server));
  const lease = await lock.acquire();
  await server.signal("SIGKILL");
  await Promise.all([lease.release(), lease.release(), lock.release()]);
  assert.equal(lock.locked, false);
  await server.restart();
  await lock.run(() => {});
});

it("a holder detects a stopped server within unavailableTimeout", async (server) => {
  const options = unsharedOptions(server, { unavailableTimeout: 1000 });
  const lease = await new RedisLock("stops", options).acquire();
  const released = await new RedisLock("also", options).acquire();
  await server.signal("SIGSTOP");
  try {
    const release = released.release();
    await assertLost(lease, /silent for 1000 ms/);
    await Promise.all([lease.release(), release]);
    await assert.rejects(
      new RedisLock("stops", options).tryAcquire(),
      /Cannot lock stops: the server does not answer/,
    );
  } finally {
    await server.signal("SIGCONT");
  }
  await new RedisLock("stops", options).run(() => {});
  await new RedisLock("also", options).run(() => {});
});

it("a wait continues after the server was stopped", async (server) => {
  await waitForNoConnections(server);
  const options: RedisLockOptions = { unavailableTimeout: 200 };
  const lease = await new RedisLock("on", unsharedOptions(server)).acquire();
  const lock = new RedisLock("on", unsharedOptions(server, options));
  const wait = lock.acquire({ timeout: Infinity });
  await waitForQueueLength(server, "on", 1);
  const holder = await connectionIdOf(server, lease);
  const { id } = at(
    (await lockConnections(server)).filter(({ id }) => id !== holder),
    0,
  );
  await server.signal("SIGSTOP");
  // Several short sleeps, because turns of the event loop count as silence.
  for (let i = 0; i < 14; i++) await sleep(50);
  await server.signal("SIGCONT");
  await waitUntil(
    async () =>
      !(await lockConnections(server)).some((other) => other.id === id),
    () => "the end of the first connection of the waiter",
  );
  await lease.release();
  await (await wait).release();
});

test(
  "Redis connection loss: a node that is cut off from its cluster ends the lease",
  async () => {
    await using cluster = await RedisCluster.start();
    const client = createCluster({
      rootNodes: cluster.urls.map((url) => ({ url })),
    }).on("error", () => {});
    await client.connect();
    try {
      const lock = new RedisLock("down", { client, unavailableTimeout: 400 });
      const lease = await lock.acquire();
      const slot = await cluster.slotOf("{down}");
      const node = await cluster.nodeOf(slot);
      // Like a partition, this makes the node refuse every command.
      const ranges = await node.command("CLUSTER", "SLOTS") as number[][];
      const own = ranges.filter(([first = 0, last = 0]) =>
        first <= slot && slot <= last
      );
      const [[first = 0, last = 0] = []] = own;
      await node.command("CLUSTER", "DELSLOTS", slot === first ? last : first);
      const { message } = await abortReason(lease.signal) as Error;
      assert.match(message, /CLUSTERDOWN/);
      assert.equal(lease.held, false);
    } finally {
      client.destroy();
    }
  },
  "redis-server",
);

test("Redis connection loss: a waiter follows a moved slot", async () => {
  await using cluster = await RedisCluster.start();
  const client = createCluster({
    rootNodes: cluster.urls.map((url) => ({ url })),
  }).on("error", () => {});
  await client.connect();
  try {
    const lock = new RedisLock("slot", { client });
    const lease = await lock.acquire();
    const wait = new RedisLock("slot", { client }).acquire({ timeout: 60_000 });
    const slot = await cluster.slotOf("{slot}");
    const from = await cluster.nodeOf(slot);
    await waitForQueueLength(from, "slot", 1);
    const to = cluster.nodes.find((node) => node !== from)!;
    await cluster.migrate(slot, to);
    await abortReason(lease.signal);
    assert.equal(lease.held, false);
    await lease.release();
    const next = await wait;
    assert.equal(next.held, true);
    assert.equal(await holderCount(to, "slot"), 1);
    assert.equal(await lock.tryAcquire(), null);
    await next.release();
    await lock.run(() => {});
    await assertNothingLeft(to);
  } finally {
    client.destroy();
  }
}, "redis-server");

test("Redis connection loss: a waiter survives a failover", async () => {
  await using group = await RedisSentinel.start();
  const client = await createSentinel({
    name: group.name,
    sentinelRootNodes: group.roots,
  }).on("error", () => {}).connect();
  try {
    const lock = new RedisLock("fails over", { client });
    const lease = await lock.acquire();
    const other = new RedisLock("fails over", { client });
    const wait = other.acquire({ timeout: 60_000 });
    await waitForQueueLength(group.master, "fails over", 1);
    await group.failover();
    await abortReason(lease.signal);
    await lease.release();
    const next = await wait;
    assert.equal(await holderCount(group.master, "fails over"), 1);
    assert.equal(await lock.tryAcquire(), null);
    await next.release();
    await lock.run(() => {});
  } finally {
    client.destroy();
  }
}, "redis-server");

/** Kills the connection of a lease, and returns the signal of the lease. */
async function kill(
  server: RedisServer,
  lease: RedisLease,
): Promise<AbortSignal> {
  await server.command(
    "CLIENT",
    "KILL",
    "ID",
    await connectionIdOf(server, lease),
  );
  return lease.signal;
}
