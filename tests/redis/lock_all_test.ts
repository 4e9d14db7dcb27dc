/** lockAll() over locks in Redis. */

import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { AlreadyLocked, LockLostError } from "../../mod.ts";
import { lockAll, RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import type { RedisLockBase, RedisLockOptions } from "../../src/redis/mod.ts";
import { observeWaits } from "../support/waits.ts";
import { at } from "../support/values.ts";
import {
  abortReason,
  holderCount,
  redisSuite,
  removeDeadHolders,
  unsharedOptions,
  waitForQueueLength,
} from "./support/inspect.ts";
import { RedisServer } from "./support/server.ts";

const it = redisSuite("lockAll() in Redis", removeDeadHolders);

const NEVER = { timeout: Infinity, checkInterval: 60_000 };

/** Creates locks that share a connection. */
function locksOf(
  server: RedisServer,
  channels: string[],
  options: RedisLockOptions = {},
): RedisLock[] {
  const shared = unsharedOptions(server, options);
  return channels.map((channel) => new RedisLock(channel, shared));
}

/** Records the events `portalock:acquire` and `portalock:release`. */
function observeEvents(): { events: string[] } & Disposable {
  const events: string[] = [];
  const listeners = ["acquire", "release"].map((name) => {
    const listen = (message: unknown) =>
      void events.push(`${name} ${(message as { channel: string }).channel}`);
    subscribe(`portalock:${name}`, listen);
    return () => unsubscribe(`portalock:${name}`, listen);
  });
  return {
    events,
    [Symbol.dispose]: () => listeners.forEach((remove) => remove()),
  };
}

it("acquires in the order of the names, and releases in reverse", async (server) => {
  using observer = observeEvents();
  const locks: RedisLockBase[] = locksOf(server, ["b", "c", "a"]);
  locks.push(new RedisSemaphore("a", 2, unsharedOptions(server)));
  {
    await using leases = await lockAll(locks);
    assert.equal(leases.length, 4);
    assert.deepEqual(
      [...leases].map(({ channel }) => channel),
      ["b", "c", "a", "a"],
    );
    assert.equal(leases.at(1)?.channel, "c");
    assert.equal(leases.at(4), undefined);
    assert.ok(locks.every(({ locked }) => locked));
    assert.equal(leases.signal.aborted, false);
    assert.equal(leases.signal, leases.signal);
  }
  assert.ok(locks.every(({ locked }) => !locked));
  const acquired = ["a", "a", "b", "c"].map((name) => `acquire ${name}`);
  const released = ["c", "b", "a", "a"].map((name) => `release ${name}`);
  assert.deepEqual(observer.events, [...acquired, ...released]);
});

it("two processes that list the locks in another order do not deadlock", async (server) => {
  const names = ["x", "y", "z"];
  const orders = [names, [...names].reverse()].map((order) =>
    locksOf(server, order, NEVER)
  );
  let inside = 0;
  await Promise.all(orders.map(async (locks) => {
    for (let i = 0; i < 30; i++) {
      await using _ = await lockAll(locks);
      assert.equal(++inside, 1);
      await new Promise(setImmediate);
      inside--;
    }
  }));
});

it("releases what it has if one lock is not granted in time", async (server) => {
  const [a, b, c] = locksOf(server, ["a", "b", "c"]) as [
    RedisLock,
    RedisLock,
    RedisLock,
  ];
  await using held = await new RedisLock("b", unsharedOptions(server))
    .acquire();
  await assert.rejects(lockAll([c, b, a], { timeout: 1000 }), (error) => {
    assert.ok(error instanceof AlreadyLocked);
    assert.match(error.message, /^Cannot lock b: already locked/);
    assert.ok(error.waited >= 999 && error.waited < 60_000, `${error.waited}`);
    assert.equal(Reflect.get(error.holder!, "holderId"), held.holderId);
    return true;
  });
  assert.ok([a, b, c].every(({ locked }) => !locked));
  assert.equal(await holderCount(server, "a"), 0);
  assert.equal(await holderCount(server, "c"), 0);
});

it("has one deadline for all locks", async (server) => {
  const blockers = await lockAll(locksOf(server, ["a", "b"]));
  using waits = observeWaits();
  const locks = locksOf(server, ["a", "b"]);
  const start = performance.now();
  const failing = assert.rejects(lockAll(locks, { timeout: 1300 }), (error) => {
    assert.ok(error instanceof AlreadyLocked);
    assert.match(error.message, /^Cannot lock b/);
    // The wait for the first lock, of a second, is a part of it.
    const before = performance.now() - start - error.waited;
    assert.ok(before < 1000, `waited ${before} ms more`);
    return true;
  });
  await waits.begun();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await at([...blockers], 0).release();
  await failing;
  await blockers.release();
});

it("rejects with the loss of a lease while it waits for another lock", async (server) => {
  await using _blocker = await new RedisLock("b", unsharedOptions(server))
    .acquire();
  const options = unsharedOptions(server);
  const first = new RedisLock("a", options);
  // Another connection, which stays.
  const second = new RedisLock("b", unsharedOptions(server));
  const waiting = lockAll([second, first], NEVER);
  const lost = assert.rejects(waiting, (error) => {
    assert.ok(error instanceof LockLostError);
    assert.equal(error.code, "ERR_LOCK_LOST");
    assert.match(error.message, /^Lost the lock on a: /);
    return true;
  });
  await waitForQueueLength(server, "b", 1);
  const [member] = await server.command(
    "HKEYS",
    "portalock:v1:{a}",
  ) as string[];
  await server.command("CLIENT", "KILL", "ID", member!.split(":").at(-1)!);
  await lost;
  await waitForQueueLength(server, "b", 0);
});

it("aborts its signal when one of the leases is lost", async (server) => {
  const first = new RedisLock("a", unsharedOptions(server));
  const second = new RedisLock("b", unsharedOptions(server));
  const leases = await lockAll([first, second]);
  const { signal } = leases;
  const [member] = await server.command(
    "HKEYS",
    "portalock:v1:{b}",
  ) as string[];
  await server.command("CLIENT", "KILL", "ID", member!.split(":").at(-1)!);
  const reason = await abortReason(signal);
  assert.ok(reason instanceof LockLostError);
  assert.match(reason.message, /^Lost the lock on b: /);
  assert.equal(leases.at(0)?.signal.aborted, false);
  // Also if it is read for the first time after the loss.
  await leases.release();
});

it("an abort of the caller releases everything", async (server) => {
  await using _blocker = await new RedisLock("b", unsharedOptions(server))
    .acquire();
  const controller = new AbortController();
  const reason = new Error("enough");
  const locks = locksOf(server, ["a", "b"]);
  const { signal } = controller;
  const waiting = assert.rejects(
    lockAll(locks, { ...NEVER, signal }),
    (error) => error === reason,
  );
  await waitForQueueLength(server, "b", 1);
  controller.abort(reason);
  await waiting;
  assert.equal(await holderCount(server, "a"), 0);
});

it("its signal finds out that the thread was blocked for too long", async (server) => {
  const locks = locksOf(server, ["a", "b"], { unavailableTimeout: 200 });
  const leases = await lockAll(locks);
  const { signal } = leases;
  let heard = 0;
  signal.addEventListener("abort", () => heard++);
  assert.equal(signal.aborted, false);
  const end = performance.now() + 1000;
  while (performance.now() < end);
  assert.throws(() => signal.throwIfAborted(), {
    code: "ERR_LOCK_LOST",
    message: /this thread did not run for \d+ ms/,
  });
  assert.equal(heard, 1);
  assert.equal(signal.aborted, true);
  await leases.release();
});

it("refuses wrong arguments before it acquires anything", async (server) => {
  using observer = observeEvents();
  const [a] = locksOf(server, ["a"]) as [RedisLock];
  const same = new RedisLock("a", { ...unsharedOptions(server), shared: true });
  const bad: [unknown[], string, RegExp][] = [
    [
      [[a, same]],
      "RangeError",
      /^locks must have different names, not a twice/,
    ],
    [[[a, a]], "RangeError", /^locks must have different names, not a twice/],
    [
      [a],
      "TypeError",
      /^locks must be an iterable of Redis locks, not a Redis/,
    ],
    [[undefined], "TypeError", /^locks must be an iterable of Redis locks/],
    [
      [["a"]],
      "TypeError",
      /^locks must be an iterable of Redis locks, not "a"/,
    ],
    [[[a, null]], "TypeError", /^locks must be .*, not null/],
    [[[a], { time: 1 }], "TypeError", /^unknown option "time"/],
    [[[], { time: 1 }], "TypeError", /^unknown option "time"/],
    [[[a], { timeout: -1 }], "RangeError", /^timeout must be/],
  ];
  for (const [args, name, message] of bad) {
    await assert.rejects(
      lockAll(...args as Parameters<typeof lockAll>),
      { name, message },
    );
  }
  assert.deepEqual(observer.events, []);
});

it("refuses locks of one name on different servers, and says so", async (server) => {
  await using other = await RedisServer.start();
  const locks = [server, other].map((one) =>
    new RedisLock("a", unsharedOptions(one))
  );
  await assert.rejects(lockAll(locks), {
    name: "RangeError",
    message:
      /^locks must have different names, not a twice, .* and also if they are on different servers$/,
  });
});

it("acquires locks that exclude each other by their channel in the same order", async (server) => {
  const prefixed = new RedisLock(
    "x",
    unsharedOptions(server, { prefix: "a:" }),
  );
  const [plain, other] = locksOf(server, ["a:x", "b"]) as [
    RedisLock,
    RedisLock,
  ];
  for (const first of [prefixed, plain]) {
    using observer = observeEvents();
    await using _leases = await lockAll([other, first]);
    assert.deepEqual(
      observer.events,
      [first.channel, "b"].map((name) => `acquire ${name}`),
    );
  }
});

it("refuses locks that share a channel although their prefixes differ", async (server) => {
  const locks = [
    new RedisLock("x", unsharedOptions(server, { prefix: "a:" })),
    new RedisLock("a:x", unsharedOptions(server)),
  ];
  const refused = {
    name: "RangeError",
    message:
      /^locks must have different names, not ("?)a:x\1 twice, with the prefix/,
  };
  await assert.rejects(lockAll(locks), refused);
  // A semaphore does not have a channel that Python shares.
  const semaphore = new RedisSemaphore("a:x", 1, unsharedOptions(server));
  await using leases = await lockAll([semaphore, at(locks, 0)]);
  assert.equal(leases.length, 2);
});

it("with no locks, there is nothing to do", async () => {
  const leases = await lockAll([]);
  assert.equal(leases.length, 0);
  assert.equal(leases.signal.aborted, false);
  await leases.release();
});

it("locks of other prefixes are other locks", async (server) => {
  const locks = ["one:", "two:"].map((prefix) =>
    new RedisLock("a", unsharedOptions(server, { prefix }))
  );
  await using leases = await lockAll(locks);
  assert.equal(leases.length, 2);
});
