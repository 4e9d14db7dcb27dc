/** Heartbeats: what they cost, and when they end a lease. */

import assert from "node:assert/strict";
import * as fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import * as ioredis5 from "ioredis-5";
import { LOCK_SH } from "../../mod.ts";
import { WAIT_FOREVER } from "../../src/options/acquire_options.ts";
import { fromUrl } from "../../src/redis/clients/mod.ts";
import { withTwoConnections } from "../../src/redis/clients/two_connections.ts";
import type { RedisSource } from "../../src/redis/clients/types.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import { lockKeys } from "../../src/redis/protocol/keys.ts";
import { RedisLockBase } from "../../src/redis/redis_lock_base.ts";
import { FifoMutex } from "../../src/wait/fifo_mutex.ts";
import type { RedisLease, RedisLockOptions } from "../../src/redis/mod.ts";
import { currentRuntime } from "../support/env.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { waitUntil } from "./support/binaries.ts";
import { DelayProxy } from "./support/delay_proxy.ts";
import { FakePython } from "./support/fake_python.ts";
import {
  abortReason,
  assertNothingLeft,
  connectionIdOf,
  holderCount,
  lockConnections,
  startRedisProcess,
  unsharedOptions,
  waitForQueueLength,
} from "./support/inspect.ts";
import { Connection } from "./support/resp.ts";
import { RedisServer } from "./support/server.ts";

const it = (promise: string, body: (server: RedisServer) => Promise<void>) =>
  test(`Redis heartbeats: ${promise}`, async () => {
    await using server = await RedisServer.start();
    await body(server);
    await assertNothingLeft(server);
  }, "redis-server");

/** Returns how often the server has run a command since the last reset. */
async function calls(server: RedisServer, command: string): Promise<number> {
  const stats = await server.info("INFO", "commandstats");
  const text = stats[`cmdstat_${command}`] ?? "";
  return Number(/calls=(\d+)/.exec(text)?.[1] ?? 0);
}

/** Waits until the server has got that many heartbeats since the last reset. */
const heartbeats = (server: RedisServer, count: number) =>
  waitUntil(
    async () => await calls(server, "hello") >= count,
    () => `${count} heartbeats`,
  );

const isHeld = ({ held, signal }: RedisLease) => held && !signal.aborted;

const releaseAll = (leases: readonly RedisLease[]) =>
  Promise.all(leases.map((lease) => lease.release()));

/** Blocks the thread. */
function block(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

it("one heartbeat asks for the records of at most 256 leases, in turn, without a script", async (server) => {
  const options = unsharedOptions(server, {
    flags: LOCK_SH,
    unavailableTimeout: 400,
  });
  const leases: RedisLease[] = [];
  for (let i = 0; i < 600; i++) {
    leases.push(await new RedisLock(`of ${i % 2}`, options).acquire());
  }
  await server.command("CONFIG", "RESETSTAT");
  await heartbeats(server, 4);
  const [hget, hello, evalsha] = await Promise.all(
    ["hget", "hello", "evalsha"].map((name) => calls(server, name)),
  ) as [number, number, number];
  assert.equal(evalsha, 0);
  assert.ok(hget <= (hello + 1) * 256, `${hget} for ${hello} heartbeats`);
  assert.ok(leases.every(isHeld));
  // Every record is checked in the end.
  await server.command("HDEL", "portalock:v1:{of 1}", "x");
  await server.command("DEL", "portalock:v1:{of 1}");
  await Promise.all(
    leases.filter((_, i) => i % 2 === 1).map(({ signal }) =>
      abortReason(signal)
    ),
  );
  assert.ok(leases.every((lease, i) => i % 2 === 1 || isHeld(lease)));
  await releaseAll(leases);
});

it("a lock with a short unavailableTimeout loses no lock with a long one", async (server) => {
  const options = unsharedOptions(server);
  const short = { ...options, unavailableTimeout: 200 };
  const patient = await new RedisLock("patient", options).acquire();
  const hasty = await new RedisLock("hasty", short).acquire();
  // A lock that is not held any more does not influence them either.
  await new RedisLock("once", { ...options, unavailableTimeout: 100 })
    .run(() => {});
  await server.signal("SIGSTOP");
  try {
    const { message } = await abortReason(hasty.signal) as Error;
    assert.match(message, /silent for 200 ms/);
    await sleep(500);
  } finally {
    await server.signal("SIGCONT");
  }
  // New locks do not use a connection that was silent.
  const before = (await lockConnections(server)).length;
  await new RedisLock("new", options).run(async () => {
    assert.equal((await lockConnections(server)).length, before + 1);
  });
  assert.ok(isHeld(patient));
  await patient.release();
});

it("the late end of a connection that was silent keeps the one that replaced it", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  // The connection of both.
  const options = { url: proxy.url, clientOptions: {} };
  const patient = new RedisLock("patient", {
    ...options,
    unavailableTimeout: 60_000,
  });
  const old = await patient.acquire({ timeout: 60_000 });
  const hasty = new RedisLock("hasty", { ...options, unavailableTimeout: 200 });
  const silent = await hasty.acquire();
  proxy.holdReplies();
  await abortReason(silent.signal);
  proxy.deliverAll();
  const next = await patientLock("next", options).acquire();
  assert.equal((await lockConnections(server)).length, 2);
  await server.command(
    ...["CLIENT", "KILL", "ID", await connectionIdOf(server, old)],
  );
  await abortReason(old.signal);
  const last = await patientLock("last", options).acquire();
  assert.deepEqual(connectionOf(last), connectionOf(next));
  assert.equal((await lockConnections(server)).length, 1);
  await releaseAll([next, last]);
  // The next acquisition removes the record of the connection that ended.
  await patient.run(() => {});
});

const connectionOf = ({ holderId }: RedisLease) => holderId.split("-")[0];

const patientLock = (channel: string, options: RedisLockOptions) =>
  new RedisLock(channel, { ...options, timeout: 60_000 });

it("a lock that was used once does not shorten the timeout of another", async (server) => {
  const options = unsharedOptions(server);
  const patient = await new RedisLock("patient", options).acquire();
  await new RedisLock("once", { ...options, unavailableTimeout: 100 })
    .run(() => {});
  await server.signal("SIGSTOP");
  await sleep(600);
  await server.signal("SIGCONT");
  await new RedisLock("once", options).run(() => {});
  assert.ok(isHeld(patient));
  assert.equal((await lockConnections(server)).length, 1);
  await patient.release();
});

it("a lease survives while a script blocks the server", async (server) => {
  await server.command("CONFIG", "SET", "busy-reply-threshold", 1);
  const options = unsharedOptions(server, { unavailableTimeout: 400 });
  const lease = await new RedisLock("busy", options).acquire();
  const waiting = new RedisLock("busy", { ...options, checkInterval: 20 })
    .acquire({ timeout: 60_000 });
  await waitForQueueLength(server, "busy", 1);
  const queued = await server.command(
    ...["LRANGE", "portalock:v1:{busy}:queue", 0, 9],
  );
  const acquired = new RedisLock("other", options).acquire({ timeout: 60_000 });
  await acquired.then((other) => other.release());
  const endless = server.command("EVAL", "while true do end", 0);
  endless.catch(() => {});
  const retried = sleep(100).then(() =>
    new RedisLock("other", unsharedOptions(server)).acquire({ timeout: 60_000 })
  );
  await sleep(1500);
  assert.ok(isHeld(lease));
  // The first connection waits for the script.
  const control = await Connection.open(server.port);
  assert.equal(await control.command("SCRIPT", "KILL"), "OK");
  control.close();
  await assert.rejects(endless);
  assert.ok(isHeld(lease));
  await lease.release();
  // The looks of the waiter were refused, and it has kept its place.
  const next = await waiting;
  const [, session, number] = String(queued).split(":");
  assert.equal(next.holderId, `${session}-${number}`);
  await next.release();
  await (await retried).release();
});

it("replies that are late behind many others are not silence", async (server) => {
  const options = unsharedOptions(server, { unavailableTimeout: 3000 });
  await new RedisLock("first", options).run(() => {});
  const held = await new RedisLock("held", options).acquire();
  const leases = await Promise.all(
    Array.from(
      { length: 10_000 },
      (_, i) => new RedisLock(`burst ${i}`, options).tryAcquire(),
    ),
  );
  assert.ok(leases.every((lease) => lease !== null));
  assert.ok(held.held);
  await held.release();
  while (leases.length > 0) {
    await releaseAll(leases.splice(0, 500) as RedisLease[]);
  }
});

it("a heartbeat whose reply is late is not silence while others arrive", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  const options = {
    url: proxy.url,
    clientOptions: {},
    unavailableTimeout: 2000,
  };
  const lease = await new RedisLock("late", options).acquire();
  await server.command("CONFIG", "RESETSTAT");
  await heartbeats(server, 1);
  proxy.holdReplies();
  const others: Promise<RedisLease | null>[] = [];
  for (let i = 0; i < 30; i++) {
    others.push(new RedisLock(`of ${i}`, options).tryAcquire());
    await sleep(10);
  }
  await heartbeats(server, 2);
  for (let i = 0; i < 30; i++) {
    await sleep(100);
    proxy.deliver(1);
  }
  assert.equal(lease.held, true);
  proxy.deliverAll();
  for (const other of others) await (await other)?.release();
  await lease.release();
});

it("a server that becomes a replica ends the leases", async () => {
  await using master = await RedisServer.start();
  await using server = await RedisServer.start();
  const lease = await new RedisLock(
    "moves",
    unsharedOptions(server, { unavailableTimeout: 1000 }),
  ).acquire();
  // The record must not be missed: the new master has it, too.
  await master.command("REPLICAOF", "127.0.0.1", server.port);
  await waitUntil(
    async () => await holderCount(master, "moves") === 1,
    () => "the record on the new master",
  );
  await master.command("REPLICAOF", "NO", "ONE");
  await server.command("REPLICAOF", "127.0.0.1", master.port);
  const { message } = await abortReason(lease.signal) as Error;
  assert.match(message, /replica/);
});

it("a holder that is cut off learns of it before another holder enters, even if its thread is busy", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  await using holder = startRedisProcess(currentRuntime);
  const options = { unavailableTimeout: 2000, checkInterval: 20 };
  await holder.call("acquire", "cut", { url: proxy.url, ...options });
  const waiting = new RedisLock("cut", unsharedOptions(server, options))
    .acquire({ timeout: 60_000 });
  await waitForQueueLength(server, "cut", 1);
  const order: string[] = [];
  const entered = waiting.then((lease) => {
    order.push("entered");
    return lease;
  });
  proxy.cut();
  while (await holder.call("held", "cut")) {
    await holder.call("block", 600);
    await holder.call("pause", 1);
  }
  order.push("lost");
  await (await entered).release();
  assert.deepEqual(order, ["lost", "entered"]);
});

it("after a stall, a look at signal loses the lease on the spot", async (server) => {
  const options = unsharedOptions(server, { unavailableTimeout: 100 });
  for (const look of ["aborted", "throwIfAborted"] as const) {
    const lock = new RedisLock("stall", options);
    const lease = await lock.acquire();
    const { signal } = lease;
    let heard = false;
    signal.addEventListener("abort", () => heard = true);
    assert.equal(signal.aborted, false);
    signal.throwIfAborted();
    block(300);
    if (look === "aborted") assert.equal(signal.aborted, true);
    assert.throws(() => signal.throwIfAborted(), {
      name: "LockLostError",
      code: "ERR_LOCK_LOST",
      message: /this thread did not run for \d{3} ms/,
    });
    assert.equal(signal.aborted, true);
    assert.equal(AbortSignal.any([signal]).aborted, true);
    assert.deepEqual([heard, lock.locked], [true, false]);
    await lock.run(() => {});
  }
});

it("a holder whose thread was blocked while another entered sees the loss before its work goes on", async (server) => {
  const options = { unavailableTimeout: 200, checkInterval: 20 };
  using dir = tempDir();
  const file = `${dir.path}/entered`;
  await using holder = startRedisProcess(currentRuntime);
  await holder.call("acquire", "blocked", { url: server.url, ...options });
  const waiting = new RedisLock("blocked", unsharedOptions(server, options))
    .acquire({ timeout: 60_000 });
  await waitForQueueLength(server, "blocked", 1);
  const looking = holder.call("blockUntil", "blocked", file);
  const lease = await waiting;
  fs.writeFileSync(file, "");
  assert.equal(await looking, true);
  assert.equal(isHeld(lease), true);
  await lease.release();
});

it("a stall is remembered until the server has replied", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  const options = {
    url: proxy.url,
    clientOptions: {},
    unavailableTimeout: 400,
  };
  const lost = await new RedisLock("lost", options).acquire();
  proxy.holdReplies();
  block(1000);
  // The heartbeat runs, and gets no reply.
  await sleep(1);
  assert.equal(lost.signal.aborted, true);
  proxy.deliverAll();
  await lost.release();
  const kept = await new RedisLock(
    "kept",
    unsharedOptions(server, {
      unavailableTimeout: 100,
    }),
  ).acquire();
  const { signal } = kept;
  block(300);
  await server.command("CONFIG", "RESETSTAT");
  await heartbeats(server, 2);
  assert.equal(signal.aborted, false);
  await kept.release();
});

it("a stall before a lease was requested does not end it", async (server) => {
  // The heartbeat, which would end the stall, comes after two seconds.
  const options = unsharedOptions(server, { unavailableTimeout: 8000 });
  const before = await new RedisLock("before", options).acquire();
  const { now } = performance;
  performance.now = () => now.call(performance) + 60_000;
  try {
    const after = await new RedisLock("after", options).acquire();
    assert.equal(after.signal.aborted, false);
    assert.equal(before.signal.aborted, true);
    await after.release();
  } finally {
    performance.now = now;
  }
});

it("a lease is not lost by the slow heartbeats of another with a longer timeout", async (server) => {
  const options = unsharedOptions(server, { unavailableTimeout: 8000 });
  const slow = await new RedisLock("slow", options).acquire();
  await sleep(1950);
  const quick = new RedisLock("quick", { ...options, unavailableTimeout: 400 });
  const lease = await quick.acquire();
  assert.equal(lease.signal.aborted, false);
  await lease.release();
  await slow.release();
});

it("run() resolves after a stall if the lock was not lost, and rejects if it was", async (server) => {
  const options = unsharedOptions(server, { unavailableTimeout: 100 });
  const lock = new RedisLock("long", options);
  assert.equal(
    await lock.run(() => {
      block(300);
      return "done";
    }),
    "done",
  );
  const lost = lock.run(async () => {
    await server.command("DEL", "portalock:v1:{long}");
    block(300);
  });
  await assert.rejects(lost, { code: "ERR_LOCK_LOST" });
});

it("a lease renews the expiry of its record", async (server) => {
  const options: RedisLockOptions = unsharedOptions(server, {
    unavailableTimeout: 400,
    info: "me",
  });
  const lease = await new RedisLock("kept", options).acquire();
  const keys = ["portalock:v1:{kept}", "portalock:v1:{kept}:info"];
  for (const key of keys) await server.command("EXPIRE", key, 1000);
  await server.command("CONFIG", "RESETSTAT");
  await heartbeats(server, 3);
  const ttls = () =>
    Promise.all(keys.map((key) => server.command("TTL", key).then(Number)));
  for (const ttl of await ttls()) assert.ok(ttl <= 1000);
  const { now } = performance;
  performance.now = () => now.call(performance) + 3_700_000;
  try {
    await waitUntil(
      async () => (await ttls()).every((ttl) => ttl > 80_000),
      () => "a new expiry",
    );
  } finally {
    performance.now = now;
  }
  assert.equal(lease.held, true);
  await lease.release();
});

/** A lock whose messages come on another connection than its replies. */
class LockOfTwoConnections extends RedisLockBase {
  constructor(channel: string, commandUrl: string, messageUrl: string) {
    const serverOf = async (url: string) => await fromUrl({}, url).locate("");
    const source: RedisSource = {
      ...fromUrl({}, commandUrl),
      locate: async () => {
        const commands = await serverOf(commandUrl);
        const messages = await serverOf(messageUrl);
        return withTwoConnections({
          address: "",
          create: (name, events) =>
            (name.endsWith(":commands") ? commands : messages)
              .create(name, events),
        });
      },
    };
    super(lockKeys(channel, { prefix: "", sharded: false }), "x", {
      source,
      wait: WAIT_FOREVER,
      unavailableTimeout: 400,
      info: "",
    }, new FifoMutex());
  }
}

it("silence of the connection for messages ends a lease, although commands are answered", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  const lock = new LockOfTwoConnections("two", server.url, proxy.url);
  const lease = await lock.acquire();
  await server.command("CONFIG", "RESETSTAT");
  await heartbeats(server, 4);
  assert.equal(lease.held, true);
  proxy.holdReplies();
  // Commands are sent and answered all the time.
  const asking = setInterval(() => lock.probe().catch(() => {}), 20);
  const { message } = await abortReason(lease.signal) as Error;
  clearInterval(asking);
  assert.match(message, /silent for 400 ms/);
  proxy.deliverAll();
  await lock[Symbol.asyncDispose]();
  await new RedisLock("two", unsharedOptions(server)).run(() => {});
});

it("run() rejects if the connection for messages was killed during a stall, although commands are answered", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  const lock = new LockOfTwoConnections("killed", server.url, proxy.url);
  const lost = lock.run(async () => {
    // The client does not read the end of the connection.
    proxy.cut();
    await server.command("CLIENT", "KILL", "TYPE", "pubsub");
    block(900);
  });
  await assert.rejects(lost, {
    code: "ERR_LOCK_LOST",
    message: /the connection that subscribes has ended/,
  });
  await lock[Symbol.asyncDispose]();
  await new RedisLock("killed", unsharedOptions(server)).run(() => {});
});

it("an acquisition that was lost to silence while it subscribed on a connection of its own begins anew", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  const client = new ioredis5.Redis(proxy.url);
  try {
    const lock = (name: string, unavailableTimeout: number) =>
      new RedisLock(name, { client, unavailableTimeout });
    const long = await lock("long", 60_000).acquire();
    const short = await lock("short", 300).acquire();
    proxy.holdReplies();
    const acquiring = lock("subscribing", 300).acquire({ timeout: 10_000 });
    await abortReason(short.signal);
    proxy.deliverAll();
    await (await acquiring).release();
    assert.equal(isHeld(long), true);
    await long.release();
  } finally {
    client.disconnect();
  }
});

it("with two connections, a lock is acquired after its subscription, and a pong never lets Python in", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  // The replies to commands are late, messages are not.
  const lock = new LockOfTwoConnections("order", proxy.url, server.url);
  await lock.run(() => {});
  await waitUntil(
    async () =>
      String(await server.command("PUBSUB", "NUMSUB", "order")) === "order,0",
    () => "the end of the subscription",
  );
  proxy.holdReplies();
  const acquiring = lock.acquire();
  await waitUntil(
    async () => await server.command("HLEN", "portalock:v1:{order}") === 1,
    () => "the grant",
  );
  const counts = await server.command(
    ...["PUBSUB", "NUMSUB", "order", "portalock:v1:{order}"],
  );
  assert.deepEqual(counts, ["order", 1, "portalock:v1:{order}", 1]);
  const mode = async () =>
    (await FakePython.ping(server.url, "order", 1))
      .map((text) => JSON.parse(text).mode);
  // The grant is not read yet.
  assert.deepEqual(await mode(), ["pending"]);
  proxy.deliverAll();
  const lease = await acquiring;
  assert.deepEqual(await mode(), ["exclusive"]);
  await lease.release();
  await lock[Symbol.asyncDispose]();
});
