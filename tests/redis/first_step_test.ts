/**
 * What happens between the first step of an acquisition and its reply. The
 * connection is open and subscribed, so `acquire()` sends the step at once.
 */

import assert from "node:assert/strict";
import { LockLostError } from "../../mod.ts";
import { lockAll, RedisLock } from "../../src/redis/mod.ts";
import type { RedisLease, RedisLockOptions } from "../../src/redis/mod.ts";
import { countBalance } from "../support/timers.ts";
import { waitUntil } from "./support/binaries.ts";
import { DelayProxy } from "./support/delay_proxy.ts";
import {
  holderCount,
  killLockConnections,
  redisSuite,
  removeDeadHolders,
  unsharedOptions,
} from "./support/inspect.ts";
import type { RedisServer } from "./support/server.ts";

const it = redisSuite("Redis first step", removeDeadHolders);

/** A lock for readers, of which one holds it while the test runs. */
interface Started {
  readonly proxy: DelayProxy;
  readonly lock: RedisLock;
  readonly reader: RedisLease;
}

/** An acquisition that has sent its first step. The reply is held. */
interface Pending extends Started {
  readonly acquiring: Promise<RedisLease>;
  readonly controller: AbortController;
}

const waitForHolders = (server: RedisServer, count: number) =>
  waitUntil(
    async () => await holderCount(server, "first") === count,
    () => `${count} holders`,
  );

const waitForReply = (proxy: DelayProxy) =>
  waitUntil(
    () => Promise.resolve(proxy.heldReplies > 0),
    () => "the first reply",
  );

/** Runs `body` with a lock whose connection is open and subscribed. */
async function withReader(
  server: RedisServer,
  given: RedisLockOptions,
  body: (started: Started) => Promise<void>,
): Promise<void> {
  await using proxy = await DelayProxy.start(server.port);
  const options = {
    ...{ url: proxy.url, clientOptions: {}, timeout: 60_000, shared: true },
    ...given,
  };
  const reader = await new RedisLock("first", options).acquire({
    timeout: 60_000,
  });
  const lock = new RedisLock("first", options);
  // From now on, the object knows the server.
  await lock.run(() => {});
  await body({ proxy, lock, reader });
  // The mutex of the object is free, and the next acquisition works.
  await lock.run(() => {}, { timeout: 60_000 });
  await reader.release();
  await lock[Symbol.asyncDispose]();
}

/** Runs `body` while the reply to the first step is held. */
function whilePending(
  server: RedisServer,
  body: (pending: Pending) => Promise<void>,
  options: RedisLockOptions = {},
): Promise<void> {
  return withReader(server, options, async (started) => {
    const { proxy, lock } = started;
    const controller = new AbortController();
    const { signal } = controller;
    const listeners = countBalance(
      signal,
      "addEventListener",
      "removeEventListener",
    );
    proxy.holdReplies();
    const acquiring = lock.acquire({ signal });
    acquiring.catch(() => {});
    await body({ ...started, acquiring, controller });
    assert.equal(listeners.left(), 0);
    proxy.deliverAll();
  });
}

it("an abort before the reply leaves nothing", async (server) => {
  await whilePending(server, async ({ acquiring, controller }) => {
    await waitForHolders(server, 2);
    const reason = new Error("enough");
    controller.abort(reason);
    await assert.rejects(acquiring, (error) => error === reason);
    await waitForHolders(server, 1);
  });
});

it("an abort before the step is executed leaves nothing", async (server) => {
  await whilePending(server, async ({ acquiring, controller }) => {
    controller.abort();
    await assert.rejects(acquiring, { name: "AbortError" });
    await waitForHolders(server, 1);
  });
});

it("a timeout before the reply leaves nothing", async (server) => {
  await whilePending(server, async ({ acquiring }) => {
    await waitForHolders(server, 2);
    await assert.rejects(acquiring, { code: "ETIMEDOUT" });
    await waitForHolders(server, 1);
  }, { timeout: 300 });
});

it("if the connection ends before the reply, acquire() continues on another", async (server) => {
  await whilePending(server, async ({ proxy, acquiring, reader }) => {
    await waitForHolders(server, 2);
    await killLockConnections(server);
    await waitUntil(
      () => Promise.resolve(!reader.held),
      () => "the end of the connection",
    );
    proxy.deliverAll();
    await assertOnAnother(await acquiring, reader);
  });
});

it("if the server is silent before the reply, acquire() continues on another connection", async (server) => {
  await whilePending(server, async ({ proxy, acquiring, reader }) => {
    await waitForHolders(server, 2);
    await waitUntil(
      () => Promise.resolve(!reader.held),
      () => "the end of the connection",
    );
    proxy.deliverAll();
    await assertOnAnother(await acquiring, reader);
  }, { unavailableTimeout: 300 });
});

/** Asserts that a lease belongs to a new connection, and releases it. */
async function assertOnAnother(lease: RedisLease, old: RedisLease) {
  assert.equal(lease.held, true);
  assert.equal(old.held, false);
  assert.notEqual(lease.holderId.split("-")[0], old.holderId.split("-")[0]);
  await lease.release();
}

it("if the reply is an error that lasts, acquire() rejects with it", async (server) => {
  await withReader(server, {}, async ({ proxy, lock }) => {
    await server.command("SET", "portalock:v1:{first}:queue", "text");
    proxy.holdReplies();
    const acquiring = lock.acquire();
    acquiring.catch(() => {});
    await waitForReply(proxy);
    proxy.deliverAll();
    await assert.rejects(acquiring, { code: "WRONGTYPE" });
    assert.equal(await holderCount(server, "first"), 1);
    await server.command("DEL", "portalock:v1:{first}:queue");
  });
});

it("if the reply is an error that passes, acquire() continues", async (server) => {
  await withReader(server, {}, async ({ proxy, lock }) => {
    await server.command("CONFIG", "SET", "min-replicas-to-write", "1");
    proxy.holdReplies();
    const acquiring = lock.acquire();
    await waitForReply(proxy);
    await server.command("CONFIG", "SET", "min-replicas-to-write", "0");
    proxy.deliverAll();
    await (await acquiring).release();
  });
});

it("release() and the disposal of the lock before the reply do not end the acquisition", async (server) => {
  await whilePending(server, async ({ proxy, lock, acquiring }) => {
    await waitForHolders(server, 2);
    assert.equal(lock.locked, false);
    await lock.release();
    await lock[Symbol.asyncDispose]();
    proxy.deliverAll();
    const lease = await acquiring;
    assert.deepEqual([lock.locked, lease.held], [true, true]);
    assert.equal(await holderCount(server, "first"), 2);
    await lease.release();
  });
});

it("the loss of another lease of lockAll() before the reply leaves nothing", async (server) => {
  await withReader(server, {}, async ({ proxy, lock }) => {
    const other = new RedisLock(
      "before",
      unsharedOptions(server, { unavailableTimeout: 300 }),
    );
    proxy.holdReplies();
    const acquiring = lockAll([lock, other]);
    acquiring.catch(() => {});
    await waitForHolders(server, 2);
    await server.command("DEL", "portalock:v1:{before}");
    await assert.rejects(acquiring, LockLostError);
    await waitForHolders(server, 1);
    proxy.deliverAll();
  });
});
