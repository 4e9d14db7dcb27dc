import assert from "node:assert/strict";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "redis";
import { AlreadyLocked, LOCK_SH } from "../../mod.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import { currentRuntime, runtimes } from "../support/env.ts";
import type { LockProcess } from "../support/processes.ts";
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

const suite = redisSuite("others' silence in Redis", removeDeadHolders);

/** Long enough for any wait of these tests on a loaded machine. */
const LONG = { timeout: 60_000, checkInterval: 50 };

/** Whoever waits like this is told by a release, or not at all. */
const NEVER = { timeout: 30_000, checkInterval: 60_000 };

const stop = ({ process: { pid } }: LockProcess) =>
  process.kill(pid!, "SIGSTOP");
const wake = ({ process: { pid } }: LockProcess) =>
  process.kill(pid!, "SIGCONT");

/** What a test needs that kills a process whose connection must end. */
const END = "sockets that close when their process is killed";

for (const runtime of runtimes) {
  const { name } = runtime;

  suite(`who is killed holds no more, on ${name}`, async (server) => {
    await using holder = startRedisProcess(runtime);
    await holder.call("acquire", "killed", { url: server.url });
    const wait = new RedisLock("killed", unsharedOptions(server, LONG))
      .acquire();
    await waitForQueueLength(server, "killed", 1);
    const start = performance.now();
    await holder.kill();
    await (await wait).release();
    assert.ok(performance.now() - start < 5000);
  }, END);

  suite(`who is stopped for too long loses it, on ${name}`, async (server) => {
    await using holder = startRedisProcess(runtime);
    await holder.call("acquire", "stopped", { url: server.url });
    const [{ id }] = await sessionsOf(server, "stopped");
    stop(holder);
    const lock = new RedisLock(
      "stopped",
      unsharedOptions(server, { ...LONG, unavailableTimeout: 400 }),
    );
    const lease = await lock.acquire();
    const ids = (await lockConnections(server)).map((session) => session.id);
    assert.ok(!ids.includes(id), "its connection was not ended");
    wake(holder);
    const { message } = await holder.call("lost", "stopped") as Error;
    assert.match(message, /^Lost the lock on stopped: /);
    await holder.call("release", "stopped");
    assert.equal(lease.held, true);
    assert.equal(await holderCount(server, "stopped"), 1);
    await lease.release();
  }, "signals");
}

suite("a first waiter that is killed blocks nobody", async (server) => {
  const lease = await new RedisLock("first", unsharedOptions(server)).acquire();
  await using first = startRedisProcess(currentRuntime);
  await first.call("begin", "first", { url: server.url, ...LONG });
  await waitForQueueLength(server, "first", 1);
  const wait = new RedisLock("first", unsharedOptions(server, NEVER)).acquire();
  await waitForQueueLength(server, "first", 2);
  await killed(server, "the first", first);
  await lease.release();
  await (await wait).release();
}, END);

suite("many dead waiters block nobody", async (server) => {
  const lease = await new RedisLock("many", unsharedOptions(server)).acquire();
  await using first = startRedisProcess(currentRuntime);
  const options = { url: server.url, ...LONG };
  for (let i = 1; i <= 100; i++) await first.call("begin", "many", options);
  await waitForQueueLength(server, "many", 100);
  const wait = new RedisLock("many", unsharedOptions(server, NEVER)).acquire();
  await waitForQueueLength(server, "many", 101);
  await killed(server, "the first", first);
  await lease.release();
  await (await wait).release();
}, END);

suite("a dead reader among readers blocks no writer", async (server) => {
  const shared = { ...LONG, flags: LOCK_SH };
  const reader = await new RedisLock("read", unsharedOptions(server, shared))
    .acquire();
  await using dead = startRedisProcess(currentRuntime);
  await dead.call("acquire", "read", { url: server.url, ...shared });
  const wait = new RedisLock("read", unsharedOptions(server, LONG)).acquire();
  await waitForQueueLength(server, "read", 1);
  await dead.kill();
  await reader.release();
  await (await wait).release();
}, END);

suite("who answers keeps it, however long", async (server) => {
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

suite("fifty readers that answer keep it", async (server) => {
  await using holder = startRedisProcess(currentRuntime);
  await using other = startRedisProcess(currentRuntime);
  const options = { url: server.url, flags: LOCK_SH };
  for (let i = 0; i < 25; i++) {
    await holder.call("acquire", "fifty", options);
    await other.call("acquire", "fifty", options);
  }
  const before = await sessionsOf(server, "fifty");
  assert.equal(before.length, 2);
  const writer = unsharedOptions(server, {
    checkInterval: 10,
    unavailableTimeout: 400,
  });
  const wait = new RedisLock("fifty", writer).acquire({ timeout: 2500 });
  await assert.rejects(wait, AlreadyLocked);
  const ids = (await sessionsOf(server, "fifty")).map(({ id }) => id);
  assert.deepEqual(ids, before.map(({ id }) => id));
  assert.equal(await holderCount(server, "fifty"), 50);
});

suite("a stranger with the number of a holder stays", async (server) => {
  const silent = "0".repeat(32);
  const client = await createClient({ url: server.url })
    .on("error", () => {}).connect();
  try {
    // A session that lives and never answers, whose connection is not the one
    // that has its number by now.
    await client.subscribe(`portalock:session:${silent}`, () => {});
    const stranger = await server.command("CLIENT", "ID");
    const entry = `x:${silent}:1:${stranger}`;
    await server.command("HSET", "portalock:{number}", entry, "1");
    const options = { checkInterval: 10, unavailableTimeout: 200 };
    const lock = new RedisLock("number", unsharedOptions(server, options));
    await assert.rejects(lock.acquire({ timeout: 2000 }), AlreadyLocked);
    assert.equal(await server.command("CLIENT", "ID"), stranger);
  } finally {
    client.destroy();
  }
});

suite("the name of who is disconnected is looked at", async (server) => {
  await using holder = startRedisProcess(currentRuntime);
  await holder.call("acquire", "a", { url: server.url });
  await using other = startRedisProcess(currentRuntime);
  await other.call("acquire", "a-lock-b", { url: server.url });
  stop(holder);
  const options = { ...LONG, unavailableTimeout: 100 };
  await new RedisLock("a", unsharedOptions(server, options)).run(() => {});
  assert.equal(await other.call("held", "a-lock-b"), true);
  await other.call("release", "a-lock-b");
  wake(holder);
}, "signals");

suite("who may disconnect nobody waits in vain", async (server) => {
  await using holder = startRedisProcess(currentRuntime);
  await holder.call("acquire", "may not", { url: server.url });
  await server.command(
    ...["ACL", "SETUSER", "meek", "on", ">p", "~*", "&*", "+@all", "-client"],
  );
  stop(holder);
  const lock = new RedisLock("may not", {
    url: `redis://meek:p@127.0.0.1:${server.port}`,
    unavailableTimeout: 200,
    checkInterval: 10,
  });
  await assert.rejects(lock.acquire({ timeout: 2000 }), AlreadyLocked);
  wake(holder);
  assert.equal(await holder.call("held", "may not"), true);
  await holder.call("release", "may not");
  await lock.run(() => {});
}, "signals");

suite("a short stop costs nobody the lock", async (server) => {
  await using holder = startRedisProcess(currentRuntime);
  await holder.call("acquire", "short", { url: server.url });
  const options = unsharedOptions(server, {
    ...LONG,
    unavailableTimeout: 2000,
  });
  const wait = new RedisLock("short", options).acquire();
  await waitForQueueLength(server, "short", 1);
  stop(holder);
  await sleep(500);
  wake(holder);
  assert.equal(await holder.call("held", "short"), true);
  await holder.call("release", "short");
  await (await wait).release();
}, "signals");

/** Kills a process, and waits until the server has noticed. */
async function killed(server: RedisServer, why: string, worker: LockProcess) {
  const before = (await lockConnections(server)).length;
  await worker.kill();
  await waitUntil(
    async () => (await lockConnections(server)).length < before,
    () => `the end of the session of ${why}`,
  );
}

/** The sessions that are subscribed, if one lock is all that there is. */
async function sessionsOf(server: RedisServer, channel: string) {
  const entries = await server.command("HKEYS", `portalock:{${channel}}`);
  const names = (entries as string[]).map((entry) =>
    `portalock-${entry.split(":")[1]}`
  );
  return (await lockConnections(server)).filter(({ name }) =>
    names.includes(name)
  );
}
