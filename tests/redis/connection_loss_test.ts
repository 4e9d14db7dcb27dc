import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { createCluster, createSentinel } from "redis";
import { AlreadyLocked, LockException } from "../../mod.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import type { RedisLease, RedisLockOptions } from "../../src/redis/mod.ts";
import { runtimes } from "../support/env.ts";
import { test } from "../support/test.ts";
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
  startRedisProcess,
  unsharedOptions,
  waitForNoConnections,
  waitForQueueLength,
} from "./support/inspect.ts";

const suite = redisSuite("a lost lock in Redis", removeDeadHolders);

async function assertLost(lease: RedisLease, why: RegExp): Promise<void> {
  const reason = await abortReason(lease.signal);
  assert.ok(reason instanceof LockException);
  assert.match(reason.message, /^Lost the lock on /);
  assert.match(reason.message, why);
  assert.ok(reason.cause instanceof Error);
  assert.equal(lease.held, false);
}

suite("its holder knows, and can acquire it anew", async (server) => {
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
  assert.equal(signal.reason.name, "LockException");
  await again.release();
});

suite("every lease of the session is, asked or not", async (server) => {
  const options = unsharedOptions(server);
  const leases: RedisLease[] = [];
  for (const channel of ["a", "b", "c"]) {
    leases.push(await new RedisLock(channel, options).acquire());
  }
  await abortReason(await kill(server, leases[0]));
  for (const lease of leases) await assertLost(lease, /closed|ended/i);
});

suite("nobody subscribes again by itself", async (server) => {
  await waitForNoConnections(server);
  const options = unsharedOptions(server);
  const lease = await new RedisLock("silent", options).acquire();
  await abortReason(await kill(server, lease));
  // Another lock has a session again, which knows nothing of the lost one.
  await using _ = await new RedisLock("other", options).acquire();
  await sleep(100);
  const found = await server.command("PUBSUB", "NUMSUB", "silent");
  assert.deepEqual(found, ["silent", 0]);
  assert.equal((await lockConnections(server)).length, 1);
  await lease.release();
});

suite("who waited has it", async (server) => {
  const [lock, other] = ["x", "y"].map(() =>
    new RedisLock("next", unsharedOptions(server, { checkInterval: 50 }))
  );
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

suite("a waiter whose connection ended waits on", async (server) => {
  const lease = await new RedisLock("wait", unsharedOptions(server)).acquire();
  const wait = new RedisLock("wait", unsharedOptions(server)).acquire();
  await waitForQueueLength(server, "wait", 1);
  const queue = () => server.command("LRANGE", "portalock:{wait}:queue", 0, 9);
  const before = String(await queue());
  const mine = await connectionIdOf(server, lease);
  for (const { id } of await lockConnections(server)) {
    if (id !== mine) await server.command("CLIENT", "KILL", "ID", id);
  }
  await waitUntil(
    async () => !["", before].includes(String(await queue())),
    () => "a new entry in the queue",
  );
  await lease.release();
  await (await wait).release();
});

suite("run() says so, even if the work was done", async (server) => {
  const lock = new RedisLock("work", unsharedOptions(server));
  let done = false;
  const work = lock.run(async (lease) => {
    await abortReason(await kill(server, lease));
    done = true;
  });
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof LockException);
    assert.match(error.message, /Lost the lock on work/);
    return done;
  });
  await lock.run(() => {});
});

suite("a flushed server is noticed", async (server) => {
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

suite("the waiters of a flushed server get in", async (server) => {
  const options = { checkInterval: 20 };
  const lease = await new RedisLock("line", unsharedOptions(server, options))
    .acquire();
  const tasks = Array.from(
    { length: 5 },
    () => new RedisLock("line", unsharedOptions(server, options)).run(() => {}),
  );
  await waitForQueueLength(server, "line", 5);
  await server.command("DEL", "portalock:{line}:queue");
  await lease.release();
  await Promise.all(tasks);
});

suite("a server that dies and comes back", async (server) => {
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

suite("a server that dies while it is waited for", async (server) => {
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

suite("an attempt during it says why it failed", async (server) => {
  const lock = new RedisLock("why", unsharedOptions(server));
  await lock.run(() => {});
  await server.signal("SIGSTOP");
  const attempt = lock.tryAcquire();
  attempt.catch(() => {});
  // It is sent by then, through the session that was idle.
  await sleep(50);
  await server.signal("SIGKILL");
  await assert.rejects(attempt, /Cannot lock why: .*(closed|ECONNRESET)/);
  await server.restart();
  await lock.run(() => {});
});

suite("a release while the server is gone is harmless", async (server) => {
  const lock = new RedisLock("release", unsharedOptions(server));
  const lease = await lock.acquire();
  await server.signal("SIGKILL");
  await Promise.all([lease.release(), lease.release(), lock.release()]);
  assert.equal(lock.locked, false);
  await server.restart();
  await lock.run(() => {});
});

suite("a server that stops is noticed in time", async (server) => {
  const options = unsharedOptions(server, { unavailableTimeout: 200 });
  const lease = await new RedisLock("stops", options).acquire();
  const released = await new RedisLock("also", options).acquire();
  await server.signal("SIGSTOP");
  try {
    const release = released.release();
    await assertLost(lease, /silent for 200 ms/);
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

suite("a wait outlasts a server that stops", async (server) => {
  await waitForNoConnections(server);
  const options: RedisLockOptions = { unavailableTimeout: 200 };
  const lease = await new RedisLock("on", unsharedOptions(server)).acquire();
  const lock = new RedisLock("on", unsharedOptions(server, options));
  const wait = lock.acquire({ timeout: Infinity });
  await waitForQueueLength(server, "on", 1);
  const [{ id }] = (await lockConnections(server)).filter(({ name }) =>
    !name.includes(lease.holderId.split("-")[0])
  );
  await server.signal("SIGSTOP");
  // Not at once: it is the turns of the event loop that count.
  for (let i = 0; i < 14; i++) await sleep(50);
  await server.signal("SIGCONT");
  await waitUntil(
    async () =>
      !(await lockConnections(server)).some((other) => other.id === id),
    () => "the end of the waiter's first session",
  );
  await lease.release();
  await (await wait).release();
});

for (const runtime of runtimes) {
  const { name } = runtime;

  suite(`a blocked event loop is none, on ${name}`, async (server) => {
    await using worker = startRedisProcess(runtime);
    const options = { url: server.url, unavailableTimeout: 200 };
    await worker.call("acquire", "block", options);
    for (let i = 0; i < 2; i++) {
      await worker.call("block", 650);
      await worker.call("pause", 240);
    }
    assert.equal(await worker.call("held", "block"), true);
    assert.equal(await holderCount(server, "block"), 1);
    await worker.call("release", "block");
  });

  suite(`one during a blocked event loop, on ${name}`, async (server) => {
    await using worker = startRedisProcess(runtime);
    const options = { url: server.url, unavailableTimeout: 100 };
    await worker.call("acquire", "killed", options);
    const blocked = worker.call("block", 500);
    await sleep(200);
    await killLockConnections(server);
    await blocked;
    const { name, message } = await worker.call("lost", "killed") as Error;
    assert.equal(name, "LockException");
    assert.match(message, /Lost the lock on killed/);
    await worker.call("acquire", "killed", options);
    await worker.call("release", "killed");
  });
}

test("a lost lock in Redis: its slot moves to another node", async () => {
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

test("a lost lock in Redis: sentinels have another master", async () => {
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

/** Ends the connection through which a lease is held; gives its signal. */
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
