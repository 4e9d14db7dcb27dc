import assert from "node:assert/strict";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";
import { AlreadyLocked, LOCK_SH } from "../../mod.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import { currentRuntime, runtimes } from "../support/env.ts";
import type { LockProcess } from "../support/processes.ts";
import { at } from "../support/values.ts";
import { waitUntil } from "./support/binaries.ts";
import type { RedisServer } from "./support/server.ts";
import {
  holderCount,
  lockConnections,
  redisSuite,
  removeDeadHolders,
  startRedisProcess,
  unsharedOptions,
  waitForQueueLength,
} from "./support/inspect.ts";

const it = redisSuite("Redis liveness", removeDeadHolders);

/** Options of a wait that does not time out, even on a loaded machine. */
const LONG_WAIT = { timeout: 60_000, checkInterval: 50 };

/** Options of a waiter that acquires only when a release wakes it. */
const WITHOUT_POLLING = { timeout: 30_000, checkInterval: 60_000 };

const stop = ({ process: { pid } }: LockProcess) =>
  process.kill(pid!, "SIGSTOP");
const resume = ({ process: { pid } }: LockProcess) =>
  process.kill(pid!, "SIGCONT");

/** The capability of tests that kill a process whose connection must end. */
const CLOSED_SOCKETS = "sockets that close when their process is killed";

for (const runtime of runtimes) {
  const { name } = runtime;

  it(`the lock of a killed holder is free, on ${name}`, async (server) => {
    await using holder = startRedisProcess(runtime);
    await holder.call("acquire", "killed", { url: server.url });
    const wait = new RedisLock("killed", unsharedOptions(server, LONG_WAIT))
      .acquire();
    await waitForQueueLength(server, "killed", 1);
    const start = performance.now();
    await holder.kill();
    await (await wait).release();
    assert.ok(performance.now() - start < 5000);
  }, CLOSED_SOCKETS);

  it(`a stopped holder loses its lock, on ${name}`, async (server) => {
    await using holder = startRedisProcess(runtime);
    await holder.call("acquire", "stopped", { url: server.url });
    const { id } = at(await connectionsOf(server, "stopped"), 0);
    stop(holder);
    const lock = new RedisLock(
      "stopped",
      unsharedOptions(server, { ...LONG_WAIT, unavailableTimeout: 400 }),
    );
    const lease = await lock.acquire();
    const ids = (await lockConnections(server)).map((connection) =>
      connection.id
    );
    assert.ok(!ids.includes(id), "the waiter has not disconnected the holder");
    resume(holder);
    const { message } = await holder.call("lost", "stopped") as Error;
    assert.match(message, /^Lost the lock on stopped: /);
    await holder.call("release", "stopped");
    assert.equal(lease.held, true);
    assert.equal(await holderCount(server, "stopped"), 1);
    await lease.release();
  }, "signals");
}

it("a killed first waiter does not block the next waiter", async (server) => {
  const lease = await new RedisLock("first", unsharedOptions(server)).acquire();
  await using first = startRedisProcess(currentRuntime);
  await first.call("begin", "first", { url: server.url, ...LONG_WAIT });
  await waitForQueueLength(server, "first", 1);
  const wait = new RedisLock("first", unsharedOptions(server, WITHOUT_POLLING))
    .acquire();
  await waitForQueueLength(server, "first", 2);
  await killAndWait(server, first);
  await lease.release();
  await (await wait).release();
}, CLOSED_SOCKETS);

it("100 dead waiters do not block the next waiter", async (server) => {
  const lease = await new RedisLock("many", unsharedOptions(server)).acquire();
  await using first = startRedisProcess(currentRuntime);
  const options = { url: server.url, ...LONG_WAIT };
  for (let i = 1; i <= 100; i++) await first.call("begin", "many", options);
  await waitForQueueLength(server, "many", 100);
  const wait = new RedisLock("many", unsharedOptions(server, WITHOUT_POLLING))
    .acquire();
  await waitForQueueLength(server, "many", 101);
  await killAndWait(server, first);
  await lease.release();
  await (await wait).release();
}, CLOSED_SOCKETS);

it("a dead reader among readers does not block a writer", async (server) => {
  const shared = { ...LONG_WAIT, flags: LOCK_SH };
  const reader = await new RedisLock("read", unsharedOptions(server, shared))
    .acquire();
  await using dead = startRedisProcess(currentRuntime);
  await dead.call("acquire", "read", { url: server.url, ...shared });
  const wait = new RedisLock("read", unsharedOptions(server, LONG_WAIT))
    .acquire();
  await waitForQueueLength(server, "read", 1);
  await dead.kill();
  await reader.release();
  await (await wait).release();
}, CLOSED_SOCKETS);

it("a holder that replies keeps the lock, however long the waiters probe", async (server) => {
  await using holder = startRedisProcess(currentRuntime);
  await holder.call("acquire", "answers", { url: server.url });
  const options = { checkInterval: 10, unavailableTimeout: 400 };
  const waits = [1, 2, 3].map(() =>
    new RedisLock("answers", unsharedOptions(server, options)).acquire({
      timeout: 2500,
    })
  );
  const found = await Promise.allSettled(waits);
  for (const { status, reason } of found as PromiseRejectedResult[]) {
    assert.equal(status, "rejected");
    assert.ok(reason instanceof AlreadyLocked, String(reason));
  }
  assert.equal(await holder.call("held", "answers"), true);
  await holder.call("release", "answers");
});

it("a holder replies to a probe on a channel whose name contains spaces", async (server) => {
  const options = unsharedOptions(server, { prefix: "my app:" });
  const lease = await new RedisLock("spaces", options).acquire();
  const [id] = lease.holderId.split("-");
  const client = await createClient({ url: server.url }).connect();
  try {
    let onReply: (reply: string[]) => void = () => {};
    const replied = new Promise<string[]>((resolve) => onReply = resolve);
    await client.pSubscribe("my*", (message, channel) => {
      if (message.startsWith("here ")) onReply([message, channel]);
    });
    const sessions = "my app:portalock:v1:session:";
    await client.publish(`${sessions}${id}`, `ask ${sessions}asker`);
    assert.deepEqual(await replied, [`here ${id}`, `${sessions}asker`]);
  } finally {
    client.destroy();
    await lease.release();
  }
});

it("fifty readers that reply keep the lock", async (server) => {
  await using holder = startRedisProcess(currentRuntime);
  await using other = startRedisProcess(currentRuntime);
  const options = { url: server.url, flags: LOCK_SH };
  for (let i = 0; i < 25; i++) {
    await holder.call("acquire", "fifty", options);
    await other.call("acquire", "fifty", options);
  }
  const before = await connectionsOf(server, "fifty");
  assert.equal(before.length, 2);
  const writer = unsharedOptions(server, {
    checkInterval: 10,
    unavailableTimeout: 400,
  });
  const wait = new RedisLock("fifty", writer).acquire({ timeout: 2500 });
  await assert.rejects(wait, AlreadyLocked);
  const ids = (await connectionsOf(server, "fifty")).map(({ id }) => id);
  assert.deepEqual(ids, before.map(({ id }) => id));
  assert.equal(await holderCount(server, "fifty"), 50);
});

it("a waiter does not disconnect another client that has the number of a dead holder", async (server) => {
  const silent = "0".repeat(32);
  const client = await createClient({ url: server.url })
    .on("error", () => {}).connect();
  try {
    // A holder that is alive and never replies. The number in its record is
    // that of another connection.
    await client.subscribe(`portalock:v1:session:${silent}`, () => {});
    const otherId = await server.command("CLIENT", "ID");
    const member = `x:${silent}:1:${otherId}`;
    await server.command("HSET", "portalock:v1:{number}", member, "1");
    const options = { checkInterval: 10, unavailableTimeout: 200 };
    const lock = new RedisLock("number", unsharedOptions(server, options));
    await assert.rejects(lock.acquire({ timeout: 2000 }), AlreadyLocked);
    assert.equal(await server.command("CLIENT", "ID"), otherId);
  } finally {
    client.destroy();
  }
});

it("a waiter disconnects only a holder of its own lock", async (server) => {
  await using holder = startRedisProcess(currentRuntime);
  await holder.call("acquire", "a", { url: server.url });
  await using other = startRedisProcess(currentRuntime);
  await other.call("acquire", "a-lock-b", { url: server.url });
  stop(holder);
  const options = { ...LONG_WAIT, unavailableTimeout: 100 };
  await new RedisLock("a", unsharedOptions(server, options)).run(() => {});
  assert.equal(await other.call("held", "a-lock-b"), true);
  await other.call("release", "a-lock-b");
  resume(holder);
}, "signals");

it("a waiter without permission for CLIENT times out", async (server) => {
  await using holder = startRedisProcess(currentRuntime);
  await holder.call("acquire", "may not", { url: server.url });
  await server.command(
    ...[
      "ACL",
      "SETUSER",
      "restricted",
      "on",
      ">p",
      "~*",
      "&*",
      "+@all",
      "-client",
    ],
  );
  stop(holder);
  const lock = new RedisLock("may not", {
    url: `redis://restricted:p@127.0.0.1:${server.port}`,
    unavailableTimeout: 200,
    checkInterval: 10,
  });
  await assert.rejects(lock.acquire({ timeout: 2000 }), AlreadyLocked);
  resume(holder);
  assert.equal(await holder.call("held", "may not"), true);
  await holder.call("release", "may not");
  await lock.run(() => {});
}, "signals");

it("a waiter that may not ask does not disconnect a holder", async (server) => {
  const lease = await new RedisLock("mute", unsharedOptions(server)).acquire();
  await server.command(
    ...["ACL", "SETUSER", "mute", "on", ">p", "~*", "&*", "+@all", "-publish"],
  );
  const lock = new RedisLock("mute", {
    url: `redis://mute:p@127.0.0.1:${server.port}`,
    unavailableTimeout: 200,
    checkInterval: 10,
  });
  await assert.rejects(lock.acquire({ timeout: 2000 }), AlreadyLocked);
  assert.equal(lease.held, true);
  await lease.release();
});

it("a holder stopped for a short time keeps the lock", async (server) => {
  await using holder = startRedisProcess(currentRuntime);
  await holder.call("acquire", "short", { url: server.url });
  const options = unsharedOptions(server, {
    ...LONG_WAIT,
    unavailableTimeout: 2000,
  });
  const wait = new RedisLock("short", options).acquire();
  await waitForQueueLength(server, "short", 1);
  stop(holder);
  await sleep(500);
  resume(holder);
  assert.equal(await holder.call("held", "short"), true);
  await holder.call("release", "short");
  await (await wait).release();
}, "signals");

/** Kills a process, and waits until the server has closed its connection. */
async function killAndWait(server: RedisServer, worker: LockProcess) {
  const before = (await lockConnections(server)).length;
  await worker.kill();
  await waitUntil(
    async () => (await lockConnections(server)).length < before,
    () => "the end of the connection of the killed process",
  );
}

/** Returns the connections that hold a lock. */
async function connectionsOf(server: RedisServer, channel: string) {
  const members = await server.command("HKEYS", `portalock:v1:{${channel}}`);
  const names = (members as string[]).map((member) =>
    `portalock-${member.split(":")[1]}`
  );
  return (await lockConnections(server)).filter(({ name }) =>
    names.includes(name)
  );
}
