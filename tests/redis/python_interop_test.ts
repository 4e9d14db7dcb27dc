import assert from "node:assert/strict";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AlreadyLocked, LOCK_SH } from "../../mod.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import type { RedisLockOptions } from "../../src/redis/mod.ts";
import type { Capability } from "../support/capabilities.ts";
import { currentRuntime, fixtureCommand } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { test } from "../support/test.ts";
import { slowProxy } from "./support/fake_python.ts";
import { RedisServer } from "./support/server.ts";

const NEEDS: Capability[] = ["redis-server", "Python's RedisLock"];
const NEWER: Capability[] = [...NEEDS, "Python's portalocker 4"];

let starting: Promise<RedisServer> | undefined;
const sharedServer = () => starting ??= RedisServer.start();
const pythons = new Map<boolean, LockProcess>();
after(async () => {
  for (const python of pythons.values()) await python.kill();
  await (await starting)?.[Symbol.asyncDispose]();
});

/** Returns the process of one portalocker, which tests share unless they kill it. */
function python(newer: boolean): LockProcess {
  const known = pythons.get(newer) ?? LockProcess.startRedisPython(newer);
  pythons.set(newer, known);
  return known;
}

/** Starts a process that locks with this package, on the current runtime. */
const startHolder = () =>
  new LockProcess(fixtureCommand(currentRuntime, "redis_holder_process"));

/** Returns whether a promise is still pending after a time. */
async function isPending(work: Promise<unknown>, milliseconds = 300) {
  const pending = Symbol();
  const first = await Promise.race([work, sleep(milliseconds, pending)]);
  return first === pending;
}

/** Returns the sorted identifiers of the connections whose name matches. */
async function connectionIds(server: RedisServer, name: RegExp) {
  const list = String(await server.command("CLIENT", "LIST"));
  return [...list.matchAll(/^id=(\d+) .* name=(\S*) /gm)]
    .filter(([, , clientName = ""]) => name.test(clientName)).map(([, id]) =>
      id
    )
    .sort();
}

/** Creates a lock with a connection of its own. */
function lockOf(
  { url }: { url: string },
  channel: string,
  options: RedisLockOptions = {},
): RedisLock {
  return new RedisLock(channel, { url, clientOptions: {}, ...options });
}

/** Asserts that Python times out after that many seconds. */
async function assertTimesOut(
  peer: LockProcess,
  { port }: RedisServer,
  channel: string,
  timeout: number,
) {
  const trying = peer.call("acquire", port, channel, "exclusive", { timeout });
  await assert.rejects(trying, { name: "AlreadyLocked" });
}

const shared = { flags: LOCK_SH };

for (const newer of [false, true]) {
  const name = `portalocker ${newer ? "4" : "2"}`;
  const needs = newer ? NEWER : NEEDS;

  test(`Redis and ${name}: Python waits for this package`, async () => {
    const server = await sharedServer();
    const peer = python(newer);
    await using lock = lockOf(server, "a");
    const lease = await lock.acquire();
    assert.equal(await peer.call("tryAcquire", server.port, "a"), false);
    const acquiring = peer.call("acquire", server.port, "a");
    assert.equal(await isPending(acquiring), true);
    assert.equal(lease.signal.aborted, false);
    await lease.release();
    await acquiring;
    assert.equal(await lock.tryAcquire(), null);
    await peer.call("release", "a");
    await (await lock.acquire()).release();
  }, ...needs);

  test(`Redis and ${name}: this package waits for Python`, async () => {
    const server = await sharedServer();
    const peer = python(newer);
    await peer.call("acquire", server.port, "b");
    await using lock = lockOf(server, "b");
    assert.equal(await lock.tryAcquire(), null);
    await assert.rejects(lock.acquire({ timeout: 500 }), (error) => {
      assert.ok(error instanceof AlreadyLocked);
      assert.match(
        error.message,
        /another program, such as Python's portalocker/,
      );
      return true;
    });
    const acquiring = lock.acquire({ checkInterval: 200 });
    assert.equal(await isPending(acquiring), true);
    await peer.call("release", "b");
    const start = performance.now();
    const lease = await acquiring;
    const took = performance.now() - start;
    assert.ok(took < 5000, `${took} ms with a checkInterval of 200`);
    assert.equal(await peer.call("tryAcquire", server.port, "b"), false);
    await lease.release();
  }, ...needs);

  test(`Redis and ${name}: the lock of a killed holder is free`, async () => {
    const server = await sharedServer();
    await using victim = LockProcess.startRedisPython(newer);
    await victim.call("acquire", server.port, "c");
    await using lock = lockOf(server, "c");
    const acquiring = lock.acquire({ checkInterval: 200 });
    assert.equal(await isPending(acquiring), true);
    await victim.kill();
    const start = performance.now();
    await (await acquiring).release();
    assert.ok(performance.now() < start + 4000);
    await using other = startHolder();
    await other.call("acquire", server.port, "c");
    const peer = python(newer);
    assert.equal(await peer.call("tryAcquire", server.port, "c"), false);
    await other.kill();
    await peer.call("acquire", server.port, "c");
    await peer.call("release", "c");
  }, ...needs);

  test(`Redis and ${name}: Python does not kill a blocked holder`, async () => {
    const server = await sharedServer();
    const peer = python(newer);
    await using worker = startHolder();
    const channels = ["d", "d-lock-b", `d-lock-${"0".repeat(32)}`];
    for (const channel of channels) {
      await worker.call("acquire", server.port, channel);
    }
    const before = await connectionIds(server, /^portalock-/);
    const blocked = worker.call("block", 4000);
    await sleep(100);
    await assertTimesOut(peer, server, "d", 3);
    await blocked;
    await sleep(100);
    for (const channel of channels) {
      assert.equal(await worker.call("lost", channel), false);
    }
    assert.deepEqual(await connectionIds(server, /^portalock-/), before);
    assert.equal(await peer.call("tryAcquire", server.port, "d"), false);
  }, ...needs);

  test(`Redis and ${name}: similar lock names do not conflict`, async () => {
    const server = await sharedServer();
    const peer = python(newer);
    await using a = lockOf(server, "e");
    await using b = lockOf(server, "e-lock-b");
    const leases = [await a.acquire(), await b.acquire()];
    await peer.call("acquire", server.port, "e-lock-c");
    await peer.call("acquire", server.port, "e-lock");
    for (const channel of ["e", "e-lock-b"]) {
      assert.equal(await peer.call("tryAcquire", server.port, channel), false);
    }
    for (const channel of ["e-lock-c", "e-lock"]) {
      assert.equal(await lockOf(server, channel).tryAcquire(), null);
      await peer.call("release", channel);
    }
    assert.ok(leases.every(({ signal }) => !signal.aborted));
  }, ...needs);

  test(`Redis and ${name}: slow clients exclude each other`, async () => {
    const server = await sharedServer();
    await using slow = await slowProxy(server.port, 150);
    await using slower = await slowProxy(server.port, 20);
    const peer = python(newer);
    let inside = 0, most = 0;
    const section = async () => {
      most = Math.max(most, ++inside);
      await sleep(20);
      inside--;
    };
    const urls = [0, 1, 2, 3].map((i) =>
      `redis://127.0.0.1:${i % 2 ? slow.port : server.port}`
    );
    const locks = urls.map((url) => lockOf({ url }, "f", { timeout: 60_000 }));
    for (let round = 0; round < 2; round++) {
      await Promise.all([
        ...locks.map((lock) => lock.run(section)),
        (async () => {
          await peer.call("acquire", slower.port, "f");
          await section();
          await peer.call("release", "f");
        })(),
      ]);
    }
    for (const lock of locks) await lock[Symbol.asyncDispose]();
    assert.equal(most, 1);
  }, ...needs);
}

test("Redis and portalocker 4: readers of both share the lock", async () => {
  const server = await sharedServer();
  const peer = python(true);
  const { port } = server;
  await using reader = lockOf(server, "g", shared);
  await using other = lockOf(server, "g", shared);
  await using writer = lockOf(server, "g");
  // A reader of Python joins a reader of this package.
  const first = await reader.acquire();
  assert.equal(await peer.call("tryAcquire", port, "g", "shared"), true);
  assert.equal(await writer.tryAcquire(), null);
  // A reader of this package joins a reader of Python.
  const second = await other.tryAcquire();
  assert.ok(second);
  await first.release();
  await second.release();
  const third = await reader.acquire();
  assert.equal(await peer.call("tryAcquire", port, "g", "shared"), true);
  await third.release();
  const writing = writer.acquire({ checkInterval: 100 });
  assert.equal(await isPending(writing), true);
  await peer.call("release", "g");
  assert.equal(await isPending(writing), true);
  await peer.call("release", "g");
  const lease = await writing;
  assert.equal(await peer.call("tryAcquire", port, "g", "shared"), false);
  await lease.release();
}, ...NEWER);

test("Redis and portalocker 4: a Python writer waits for readers", async () => {
  const server = await sharedServer();
  const peer = python(true);
  await using reader = lockOf(server, "h", shared);
  await using other = lockOf(server, "h", shared);
  const leases = [await reader.acquire(), await other.acquire()];
  assert.equal(await peer.call("tryAcquire", server.port, "h"), false);
  const writing = peer.call("acquire", server.port, "h");
  for (const lease of leases) {
    assert.equal(await isPending(writing), true);
    await lease.release();
  }
  await writing;
  assert.equal(await reader.tryAcquire(), null);
  await peer.call("release", "h");
  await (await reader.acquire()).release();
}, ...NEWER);

test("Redis and portalocker 2: Python excludes readers", async () => {
  const server = await sharedServer();
  const peer = python(false);
  await using reader = lockOf(server, "i", {
    ...shared,
    unavailableTimeout: 500,
  });
  const lease = await reader.acquire();
  assert.equal(await peer.call("tryAcquire", server.port, "i"), false);
  await lease.release();
  await peer.call("acquire", server.port, "i");
  assert.equal(await reader.tryAcquire(), null);
  const reading = reader.acquire({ checkInterval: 100 });
  assert.equal(await isPending(reading), true);
  await peer.call("release", "i");
  await (await reading).release();
}, ...NEEDS);

test("Redis and portalocker 4: probe() returns the holder", async () => {
  const server = await sharedServer();
  const peer = python(true);
  const probe = () => peer.call("probe", server.port, "j");
  assert.deepEqual(await probe(), []);
  for (
    const [options, mode] of [[{}, "exclusive"], [shared, "shared"]] as const
  ) {
    await using lock = lockOf(server, "j", options);
    const { holderId } = await lock.acquire();
    const id = `!${holderId.split("-")[0]}`;
    assert.deepEqual(await probe(), [[id, mode, false, null]]);
  }
}, ...NEWER);

test(
  "Redis and portalocker 4: Python and a writer do not disconnect 50 readers",
  async () => {
    const server = await sharedServer();
    const peer = python(true);
    const deadline = { unavailableTimeout: 400, checkInterval: 50 };
    const readers = Array.from(
      { length: 50 },
      () => lockOf(server, "k", shared),
    );
    const leases = [];
    for (const lock of readers) leases.push(await lock.acquire());
    const before = await connectionIds(server, /^portalock-/);
    assert.equal(before.length, 50);
    await using writer = lockOf(server, "k", deadline);
    const writing = writer.acquire({ timeout: 60_000 });
    await assertTimesOut(peer, server, "k", 2);
    const now = await connectionIds(server, /^portalock-/);
    assert.deepEqual(before.filter((id) => !now.includes(id)), []);
    assert.ok(leases.every(({ signal }) => !signal.aborted));
    assert.equal(await isPending(writing, 10), true);
    for (const lock of readers) await lock[Symbol.asyncDispose]();
    await (await writing).release();
  },
  ...NEWER,
);
