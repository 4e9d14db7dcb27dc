/** Leases that pass from one process to another. */

import assert from "node:assert/strict";
import * as ioredis5 from "ioredis-5";
import { createClient } from "redis";
import { AlreadyLocked, LockLostError } from "../../mod.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import { lockKeys, replyChannelPrefix } from "../../src/redis/protocol/keys.ts";
import { ADOPT_SCRIPT, LOCK_SCRIPT } from "../../src/redis/protocol/scripts.ts";
import type { RedisLease, RedisLockOptions } from "../../src/redis/mod.ts";
import { currentRuntime, runtimes } from "../support/env.ts";
import { at } from "../support/values.ts";
import { waitUntil } from "./support/binaries.ts";
import { DelayProxy } from "./support/delay_proxy.ts";
import { FakePython, holderRecord } from "./support/fake_python.ts";
import {
  abortReason,
  connectionIdOf,
  holderCount,
  redisSuite,
  removeDeadHolders,
  startRedisProcess,
  unsharedOptions,
  waitForNoConnections,
  waitForQueueLength,
} from "./support/inspect.ts";
import { RedisServer } from "./support/server.ts";

const it = redisSuite("lease.transfer()", removeDeadHolders);

const LONG = { timeout: 60_000 };

/** Creates locks of one name, each with a connection of its own. */
function twoLocks(
  server: RedisServer,
  channel: string,
  options: RedisLockOptions = {},
): [giver: RedisLock, receiver: RedisLock] {
  const make = () => new RedisLock(channel, unsharedOptions(server, options));
  return [make(), make()];
}

/** Asserts that an adoption is refused, because the lease is gone. */
async function assertGone(adopting: Promise<unknown>): Promise<void> {
  await assert.rejects(adopting, (error) => {
    assert.ok(error instanceof LockLostError, String(error));
    assert.equal(error.code, "ERR_LOCK_LOST");
    assert.match(error.message, /^Cannot adopt \w+: the lease is gone/);
    return true;
  });
}

/** Closes the connection of a lease on the server. */
async function kill(server: RedisServer, lease: RedisLease): Promise<void> {
  const id = await connectionIdOf(server, lease);
  await server.command("CLIENT", "KILL", "ID", id);
}

it("passes the lock on with its token, before waiters", async (server) => {
  const [giver, receiver] = twoLocks(server, "deploy", { info: "them" });
  const lease = await giver.acquire();
  const waiting = new RedisLock("deploy", unsharedOptions(server))
    .acquire(LONG);
  await waitForQueueLength(server, "deploy", 1);
  const text = lease.transfer();
  assert.equal(typeof text, "string");
  const adopted = await receiver.adopt(text);
  assert.equal(adopted.fencingToken, lease.fencingToken);
  assert.notEqual(adopted.holderId, lease.holderId);
  assert.equal(receiver.locked, true);
  assert.equal(adopted.signal.aborted, false);
  const { holders, waiters } = await giver.probe();
  assert.deepEqual(
    holders.map(({ holderId, info }) => [holderId, info]),
    [[adopted.holderId, "them"]],
  );
  assert.equal(waiters.length, 1);
  await adopted.release();
  const next = await waiting;
  assert.ok(next.fencingToken > lease.fencingToken);
  await next.release();
});

it("ends the lease with a code, at once", async (server) => {
  const [giver, receiver] = twoLocks(server, "ends");
  const lease = await giver.acquire();
  const { signal } = lease;
  const text = lease.transfer();
  assert.equal(signal.aborted, true);
  assert.equal(lease.held, false);
  assert.equal(giver.locked, false);
  const { reason } = signal;
  assert.ok(reason instanceof LockLostError);
  assert.equal(reason.code, "ERR_LOCK_TRANSFERRED");
  assert.match(reason.message, /^Transferred the lock on ends: /);
  // A signal that is read later has the same reason.
  const again = await receiver.adopt(text);
  again.transfer({ timeout: 50 });
  assert.equal(again.signal.reason.code, "ERR_LOCK_TRANSFERRED");
  assert.throws(() => again.signal.throwIfAborted(), LockLostError);
  // Neither of them can be transferred twice.
  assert.throws(() => lease.transfer(), { code: "ERR_LOCK_TRANSFERRED" });
  await again.release();
});

it("of a lease that is released or lost throws", async (server) => {
  const [giver, other] = twoLocks(server, "over");
  const released = await giver.acquire();
  await released.release();
  assert.throws(() => released.transfer(), {
    name: "LockLostError",
    code: "ERR_LOCK_LOST",
    message: /^Cannot transfer the lock on over: it has been released$/,
  });
  const lost = await other.acquire();
  await kill(server, lost);
  await abortReason(lost.signal);
  assert.throws(() => lost.transfer(), {
    name: "LockLostError",
    code: "ERR_LOCK_LOST",
    message: /^Lost the lock on over: /,
  });
});

it("release(), run() and a new acquisition of the giver do not end the transfer", async (server) => {
  const [giver, receiver] = twoLocks(server, "kept");
  let text = "";
  const result = await giver.run(async (lease) => {
    text = lease.transfer();
    await lease.release();
    return 7;
  });
  assert.equal(result, 7);
  await giver.release();
  await giver[Symbol.asyncDispose]();
  assert.equal(await giver.tryAcquire(), null);
  const waiting = giver.acquire(LONG);
  await waitForQueueLength(server, "kept", 1);
  const adopted = await receiver.adopt(text);
  await adopted.release();
  await (await waiting).release();
});

it("can be taken back by the giver", async (server) => {
  const [lock] = twoLocks(server, "back");
  const lease = await lock.acquire();
  const again = await lock.adopt(lease.transfer());
  assert.equal(again.fencingToken, lease.fencingToken);
  assert.equal(lock.locked, true);
  await assert.rejects(
    lock.acquire({ timeout: 20 }),
    /already locked through this same object/,
  );
  await again.release();
});

it("can be used once", async (server) => {
  const [giver, receiver] = twoLocks(server, "once");
  const [third] = twoLocks(server, "once");
  const text = (await giver.acquire()).transfer();
  const both = await Promise.allSettled([
    receiver.adopt(text),
    third.adopt(text),
  ]);
  const won = both.filter(({ status }) => status === "fulfilled");
  assert.equal(won.length, 1);
  for (const result of both) {
    if (result.status === "rejected") {
      await assertGone(Promise.reject(result.reason));
    } else await result.value.release();
  }
  await assertGone(receiver.adopt(text));
});

it("releases the lock if nothing adopts it in time", async (server) => {
  const [giver, receiver] = twoLocks(server, "late");
  const lease = await giver.acquire();
  const waiting = new RedisLock("late", unsharedOptions(server)).acquire(LONG);
  await waitForQueueLength(server, "late", 1);
  const text = lease.transfer({ timeout: 100 });
  const next = await waiting;
  await assertGone(receiver.adopt(text));
  await next.release();
});

it("releases the lock if the server was silent, although its connection lives on", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  const client = await createClient({ url: proxy.url })
    .on("error", () => {}).connect();
  const make = (channel: string, unavailableTimeout: number) =>
    new RedisLock(channel, { client, unavailableTimeout });
  const stays = await make("stays", 60_000).acquire();
  const giver = make("silent", 200);
  const lease = await giver.acquire();
  const watched = await make("watched", 200).acquire();
  const text = lease.transfer({ timeout: 3_600_000 });
  proxy.holdReplies();
  await abortReason(watched.signal);
  proxy.deliverAll();
  const [other] = twoLocks(server, "silent");
  const next = await other.acquire(LONG);
  await assertGone(giver.adopt(text));
  await next.release();
  assert.equal(stays.signal.aborted, false);
  await watched.release();
  await stays.release();
  client.destroy();
});

it("that the server does not allow to end keeps no connection open", async (server) => {
  const [giver] = twoLocks(server, "denied", { unavailableTimeout: 200 });
  const lease = await giver.acquire();
  await server.command("CONFIG", "SET", "min-replicas-to-write", 1);
  lease.transfer({ timeout: 50 });
  try {
    await waitForNoConnections(server);
  } finally {
    await server.command("CONFIG", "SET", "min-replicas-to-write", 0);
  }
});

it("notifies the giver of the adoption, whose connection may end then", async (server) => {
  const hour = 3_600_000;
  const slow = { unavailableTimeout: hour };
  const [giver, receiver] = twoLocks(server, "intime", slow);
  const lease = await giver.acquire();
  const adopted = await receiver.adopt(lease.transfer({ timeout: hour }));
  // Otherwise, it would end the offer with a heartbeat, in a minute.
  await waitUntil(async () => {
    await giver[Symbol.asyncDispose]();
    const { holders } = await receiver.probe();
    return holders.length === 1 &&
      String(await server.command("CLIENT", "LIST"))
          .includes(`portalock-${lease.holderId.split("-")[0]}`) === false;
  }, () => "the end of the giver's connection");
  assert.equal(adopted.signal.aborted, false);
  assert.equal(await holderCount(server, "intime"), 1);
  await adopted.release();
});

it("is refused if the connection of the giver has ended, also if its record is left", async (server) => {
  const [giver, receiver] = twoLocks(server, "gone");
  const lease = await giver.acquire();
  const id = await connectionIdOf(server, lease);
  const text = lease.transfer();
  await server.command("CLIENT", "KILL", "ID", id);
  assert.equal(await holderCount(server, "gone"), 1);
  await assertGone(receiver.adopt(text));
  assert.equal(await holderCount(server, "gone"), 1);
  await receiver.run(() => {});
});

it("is refused if the giver had lost the lock without knowing", async (server) => {
  const [giver, receiver] = twoLocks(server, "unaware");
  const lease = await giver.acquire();
  await server.command("DEL", "portalock:v1:{unaware}");
  const text = lease.transfer();
  await assertGone(receiver.adopt(text));
  await receiver.run(() => {});
});

it("does not depend on the giver once it is adopted", async (server) => {
  const [giver, receiver] = twoLocks(server, "free");
  const lease = await giver.acquire();
  const id = await connectionIdOf(server, lease);
  const adopted = await receiver.adopt(lease.transfer());
  await server.command("CLIENT", "KILL", "ID", id);
  const [other] = twoLocks(server, "free");
  assert.equal(await other.tryAcquire(), null);
  assert.equal(adopted.signal.aborted, false);
  await adopted.release();
});

it("leaves the lock to the next waiter if the receiver dies", async (server) => {
  const [giver, receiver] = twoLocks(server, "dies");
  const lease = await giver.acquire();
  const adopted = await receiver.adopt(lease.transfer());
  await kill(server, adopted);
  const reason = await abortReason(adopted.signal);
  assert.equal((reason as LockLostError).code, "ERR_LOCK_LOST");
  await giver.run(() => {}, LONG);
});

it("of readers and of semaphores keeps the other holders", async (server) => {
  const [reader, receiver] = twoLocks(server, "many", { shared: true });
  const [other] = twoLocks(server, "many", { shared: true });
  const stays = await other.acquire();
  const adopted = await receiver.adopt((await reader.acquire()).transfer());
  assert.equal((await other.probe()).holders.length, 2);
  await adopted.release();
  await stays.release();
  const make = (maximum: number) =>
    new RedisSemaphore("many", maximum, unsharedOptions(server));
  const semaphore = make(2);
  const [first, second] = [
    await semaphore.acquire(),
    await semaphore.acquire(),
  ];
  const text = first.transfer();
  await assert.rejects(make(3).adopt(text), {
    name: "RangeError",
    message: "text is of a semaphore of 2 places, not of a semaphore of 3 " +
      "places",
  });
  const place = await make(2).adopt(text);
  assert.equal(place.fencingToken, first.fencingToken);
  assert.equal(await make(2).tryAcquire(), null);
  await place.release();
  await second.release();
});

it("excludes Python's clients while the lease passes on", async (server) => {
  const [giver, receiver] = twoLocks(server, "python");
  const lease = await giver.acquire();
  const text = lease.transfer();
  const roles = async () =>
    (await FakePython.ping(server.url, "python", 1)).map((text) =>
      JSON.parse(text).mode
    );
  // The giver answers as a holder, until the lease is adopted.
  assert.deepEqual(await roles(), ["exclusive"]);
  const adopted = await receiver.adopt(text);
  assert.ok((await roles()).includes("exclusive"));
  await adopted.release();
});

it("stays subscribed if a Python client waits for the lock", async (server) => {
  const [giver, receiver] = twoLocks(server, "waits");
  const lease = await giver.acquire();
  const [before] = await FakePython.ping(server.url, "waits", 1);
  const text = lease.transfer();
  // On the same connection, so an UNSUBSCRIBE would be executed before.
  await giver.probe();
  assert.deepEqual(await FakePython.ping(server.url, "waits", 1), [before]);
  await (await receiver.adopt(text)).release();
});

it("of a reader beside Python's readers keeps all of them", async (server) => {
  await using _python = await FakePython.start(server.url, "beside", [
    holderRecord("0".repeat(32), "shared"),
  ]);
  const [giver, receiver] = twoLocks(server, "beside", { shared: true });
  const adopted = await receiver.adopt((await giver.acquire(LONG)).transfer());
  assert.equal((await giver.probe()).holders.length, 1);
  await adopted.release();
});

it("refuses a text of another lock, and what is not such a text", async (server) => {
  const [giver] = twoLocks(server, "this");
  const lease = await giver.acquire();
  const text = lease.transfer();
  const adopt = (options: RedisLockOptions, name = "this") =>
    new RedisLock(name, unsharedOptions(server, options)).adopt(text);
  const key = "portalock:v1:\\{this\\}";
  await assert.rejects(adopt({}, "that"), {
    name: "RangeError",
    message: new RegExp(`^text is of the lock with the key "?${key}"?, not of`),
  });
  await assert.rejects(adopt({ prefix: "a:" }), {
    name: "RangeError",
    message: /^text is of the lock with the key .*, not of "?a:portalock/,
  });
  await assert.rejects(adopt({ shared: true }), {
    name: "RangeError",
    message: "text is of an exclusive lock, not of a shared lock",
  });
  const semaphore = new RedisSemaphore("this", 1, unsharedOptions(server));
  await assert.rejects(semaphore.adopt(text), RangeError);
  for (const wrong of ["", "x", "{}", "null", `[${text}]`, text.slice(1)]) {
    await assert.rejects(giver.adopt(wrong), {
      name: "RangeError",
      message: /^text must be what lease\.transfer\(\) returned, not /,
    });
  }
  for (const wrong of [undefined, null, 5, { text }]) {
    await assert.rejects(giver.adopt(wrong as never), {
      name: "TypeError",
      message: /^text must be a string, not /,
    });
  }
  await (await giver.adopt(text)).release();
});

it("refuses wrong options, and keeps the lease", async (server) => {
  const [lock] = twoLocks(server, "options");
  const lease = await lock.acquire();
  const bad: [object, string, RegExp][] = [
    [{ time: 1 }, "TypeError", /^unknown option "time"/],
    [{ timeout: 0 }, "RangeError", /^timeout must be/],
    [{ timeout: "1" }, "TypeError", /^timeout must be/],
    [{ timeout: Infinity }, "RangeError", /^timeout must be/],
    [{ timeout: 3_600_001 }, "RangeError", /^timeout must be at most 3600000/],
  ];
  for (const [options, name, message] of bad) {
    assert.throws(() => lease.transfer(options), { name, message });
  }
  assert.equal(lease.held, true);
  await lease.release();
});

it("adopt() waits for a task that holds the same object", async (server) => {
  const [giver, receiver] = twoLocks(server, "turns", { shared: true });
  const own = await receiver.acquire();
  const adopting = receiver.adopt((await giver.acquire()).transfer());
  await own.release();
  const adopted = await adopting;
  const [other] = twoLocks(server, "turns", { shared: true });
  const text = (await other.acquire()).transfer();
  const impatient = new RedisLock(
    "turns",
    unsharedOptions(server, { shared: true, timeout: 1000 }),
  );
  const held = await impatient.acquire();
  await assert.rejects(impatient.adopt(text), AlreadyLocked);
  await held.release();
  await (await impatient.adopt(text)).release();
  await adopted.release();
});

it("adopt() without the server fails in time, and the text stays usable", async (server) => {
  const [giver, receiver] = twoLocks(server, "offline");
  const text = (await giver.acquire()).transfer();
  const nowhere = new RedisLock("offline", {
    url: "redis://127.0.0.1:1",
    timeout: 1000,
  });
  await assert.rejects(nowhere.adopt(text), {
    name: "LockException",
    message:
      /^Cannot adopt offline: .*(ECONNREFUSED|ECONNRESET|Connection closed)/,
  });
  await (await receiver.adopt(text)).release();
});

it("adopt() that gives up while it subscribes on a connection of its own does not take the lease over later", async (server) => {
  await using proxy = await DelayProxy.start(server.port);
  const client = new ioredis5.Redis(proxy.url);
  try {
    const other = new RedisLock("other", { client });
    const open = await other.acquire();
    const [giver] = twoLocks(server, "late");
    const text = (await giver.acquire()).transfer();
    await server.command("SCRIPT", "LOAD", ADOPT_SCRIPT.text);
    proxy.holdReplies();
    const receiver = new RedisLock("late", { client, timeout: 100 });
    await assert.rejects(receiver.adopt(text), { code: "ETIMEDOUT" });
    proxy.deliverAll();
    // What is sent after the reply to `SUBSCRIBE` is executed before the second.
    await other.probe();
    await other.probe();
    await (await giver.adopt(text)).release();
    await open.release();
  } finally {
    client.disconnect();
  }
});

it("adopt() changes nothing if the connection of the receiver has ended", async (server) => {
  const [giver, receiver] = twoLocks(server, "ended");
  const text = (await giver.acquire()).transfer();
  const { member, token } = JSON.parse(text);
  const keys = lockKeys("ended", { prefix: "", sharded: false });
  const adopted = () =>
    server.command(
      ...["EVAL", ADOPT_SCRIPT.text, 2, keys.key, keys.info, member, token],
      ...[`x:${"0".repeat(32)}:1:1`, replyChannelPrefix(keys), "", ""],
    );
  await assert.rejects(adopted(), /^Error: UNSUBSCRIBED /);
  assert.equal(await holderCount(server, "ended"), 1);
  await (await receiver.adopt(text)).release();
  assert.equal(await adopted(), null);
});

it("a timeout of the giver that comes after the adoption changes nothing", async (server) => {
  const [giver, receiver] = twoLocks(server, "order");
  const text = (await giver.acquire()).transfer();
  const adopted = await receiver.adopt(text);
  const keys = lockKeys("order", { prefix: "", sharded: false });
  await server.command(
    ...["EVAL", LOCK_SCRIPT.text, 4, keys.key, keys.queue, keys.clock],
    ...[keys.info, "release", JSON.parse(text).member, "order"],
  );
  assert.equal(await holderCount(server, "order"), 1);
  assert.equal(await giver.tryAcquire(), null);
  await adopted.release();
});

const KILLS = [
  ["giver", "before it"],
  ["giver", "during it"],
  ["giver", "after it"],
  ["receiver", "during it"],
  ["receiver", "after it"],
] as const;

for (const [victim, when] of KILLS) {
  it(
    `has one holder, and then the next, if the ${victim} is killed ${when}`,
    async (server) => {
      const options = { unavailableTimeout: 500 };
      const others = { url: server.url, ...options };
      const other = runtimes.find(({ name }) => name !== currentRuntime.name);
      await using giver = startRedisProcess(currentRuntime);
      await using receiver = startRedisProcess(other ?? currentRuntime);
      const doomed = victim === "giver" ? giver : receiver;
      const token = await giver.call("acquire", "killed", others);
      await receiver.call("acquire", "ready", others);
      await receiver.call("release", "ready");
      const waiting = new RedisLock("killed", unsharedOptions(server, options))
        .acquire(LONG);
      await waitForQueueLength(server, "killed", 1);
      // If the receiver does not adopt the lease, the giver lives and waits.
      const patience = { timeout: when === "during it" ? 1000 : 30_000 };
      const text = await giver.call("transfer", "killed", patience);
      if (when === "before it") await doomed.kill();
      const adopting = receiver.call("adopt", "killed", others, text);
      const adopted = adopting.catch(({ code }) => code ?? "killed");
      if (when === "during it") await doomed.kill();
      const outcome = await adopted;
      if (when === "after it") await doomed.kill();
      if (when !== "during it") {
        assert.equal(outcome, when === "after it" ? token : "ERR_LOCK_LOST");
      }
      if (victim === "giver" && outcome === token) {
        assert.equal(await receiver.call("held", "killed"), true);
        await waitForQueueLength(server, "killed", 1);
        await receiver.call("release", "killed");
      }
      await (await waiting).release();
    },
    "sockets that close when their process is killed",
  );
}

it("leaves no connection behind", async (server) => {
  const [giver, receiver] = twoLocks(server, "clean");
  const adopted = await receiver.adopt((await giver.acquire()).transfer());
  await adopted.release();
  await waitForNoConnections(server);
  const again = await giver.acquire();
  again.transfer({ timeout: 50 });
  await waitForNoConnections(server);
});

it("is refused after a restart of the server, and by a replica", async () => {
  await using server = await RedisServer.start();
  const [giver, receiver] = twoLocks(server, "restart", { timeout: 10_000 });
  const lease = await giver.acquire();
  const text = lease.transfer();
  const replica = await RedisServer.start({
    config: [`replicaof 127.0.0.1 ${server.port}`],
  });
  try {
    await waitUntil(
      async () => (await replica.info()).master_link_status === "up",
      () => "the replication",
    );
    await replica.command("REPLICAOF", "NO", "ONE");
    // The record is there, but not the connection of the giver.
    assert.equal(await holderCount(replica, "restart"), 1);
    const [there] = twoLocks(replica, "restart");
    await assertGone(there.adopt(text));
  } finally {
    await replica[Symbol.asyncDispose]();
  }
  await server.restart();
  await assertGone(receiver.adopt(text));
  assert.ok(at([receiver], 0).locked === false);
});
