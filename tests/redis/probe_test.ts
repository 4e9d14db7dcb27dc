/** What processes learn about each other: probe(), onWait, holder. */

import assert from "node:assert/strict";
import { createClient } from "redis";
import { AlreadyLocked } from "../../mod.ts";
import { WAIT_FOREVER } from "../../src/options/acquire_options.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import type { LastingRedisWait, RemoteHolder } from "../../src/redis/mod.ts";
import { RedisDeadline } from "../../src/redis/wait_report.ts";
import { test } from "../support/test.ts";
import { at, deferred } from "../support/values.ts";
import { waitUntil } from "./support/binaries.ts";
import { FakePython, holderRecord } from "./support/fake_python.ts";
import {
  abortReason,
  killLockConnections,
  listClients,
  redisSuite,
  removeDeadHolders,
  unsharedOptions,
  waitForNoConnections,
  waitForQueueLength,
} from "./support/inspect.ts";
import type { RedisServer } from "./support/server.ts";

const it = redisSuite("what Redis locks report", removeDeadHolders);

/** Returns the number of connections of this package. */
async function connectionCount(server: RedisServer): Promise<number> {
  // Not with `lockConnections`, which omits those that sent CLIENT LIST.
  const list = String(await server.command("CLIENT", "LIST"));
  return [...list.matchAll(/ name=portalock-/g)].length;
}

const EMPTY = { holders: [], waiters: [], python: [] };

it("probe() lists nothing for a lock that is free", async (server) => {
  const lock = new RedisLock("free", unsharedOptions(server));
  assert.deepEqual(await lock.probe(), EMPTY);
  assert.deepEqual(await lock.probe(), EMPTY);
});

it("probe() lists the holder and the waiters, in order", async (server) => {
  const options = unsharedOptions(server);
  const lease = await new RedisLock("jobs", options).acquire();
  const waits = [false, true].map((shared) =>
    new RedisLock("jobs", unsharedOptions(server, { shared }))
  );
  const waiting = [];
  for (const [i, lock] of waits.entries()) {
    waiting.push(lock.acquire({ timeout: 60_000 }));
    await waitForQueueLength(server, "jobs", i + 1);
  }
  const observer = new RedisLock("jobs", unsharedOptions(server));
  const { holders, waiters, python } = await observer.probe();
  assert.deepEqual(python, []);
  assert.equal(holders.length, 1);
  const holder = at(holders, 0);
  assert.equal(holder.holderId, lease.holderId);
  assert.equal(holder.fencingToken, lease.fencingToken);
  assert.equal(holder.exclusive, true);
  const connections = await listClients(server);
  assert.equal(
    holder.address,
    Reflect.get(
      connections.find(({ name }) =>
        name === `portalock-${lease.holderId.split("-")[0]}`
      )!,
      "addr",
    ),
  );
  assert.ok(holder.age !== null && holder.age % 1000 === 0, `${holder.age}`);
  assert.deepEqual(
    waiters.map(({ position, exclusive }) => ({ position, exclusive })),
    [{ position: 0, exclusive: true }, { position: 1, exclusive: false }],
  );
  assert.match(String(at(waiters, 0).address), /^127\.0\.0\.1:\d+$/);
  await lease.release();
  const next = await at(waiting, 0);
  assert.equal(next.holderId, at(waiters, 0).holderId);
  assert.equal(at((await observer.probe()).holders, 0).holderId, next.holderId);
  await next.release();
  await (await at(waiting, 1)).release();
  assert.deepEqual(await observer.probe(), EMPTY);
});

it("probe() lists every holder of a semaphore, by its token", async (server) => {
  const semaphore = new RedisSemaphore("slots", 3, unsharedOptions(server));
  const leases = [
    await semaphore.acquire(),
    await semaphore.acquire(),
    await semaphore.acquire(),
  ];
  const { holders } = await semaphore.probe();
  assert.deepEqual(
    holders.map(({ holderId }) => holderId),
    leases.map(({ holderId }) => holderId),
  );
  assert.deepEqual(new Set(holders.map(({ exclusive }) => exclusive)).size, 1);
  assert.equal(at(holders, 0).exclusive, false);
  // It is not the lock of this name.
  const lock = new RedisLock("slots", unsharedOptions(server));
  assert.deepEqual(await lock.probe(), EMPTY);
  for (const lease of leases) await lease.release();
});

it("probe() does not list members whose connection has ended", async (server) => {
  const lease = await new RedisLock("dead", unsharedOptions(server)).acquire();
  const other = unsharedOptions(server);
  await killLockConnections(server);
  await abortReason(lease.signal);
  const member = `x:${"0".repeat(32)}:1:1`;
  await server.command("HSET", "portalock:v1:{dead}", member, "1");
  await server.command("RPUSH", "portalock:v1:{dead}:queue", member);
  const observer = new RedisLock("dead", other);
  assert.deepEqual(await observer.probe(), EMPTY);
});

it("probe() lists at most 1,000 holders and waiters, and no connection of another name", async (server) => {
  const session = "a".repeat(32);
  const client = createClient({ url: server.url, RESP: 3 });
  await client.on("error", () => {}).connect();
  try {
    await client.subscribe(`portalock:v1:session:${session}`, () => {});
    const key = "portalock:v1:semaphore:{many}";
    // As after a restart of the server, which counts its connections anew.
    const id = await server.command("CLIENT", "ID");
    const members = Array.from(
      { length: 9000 },
      (_, i) => `9:${session}:${i}:${id}`,
    );
    const tokens = members.flatMap((member, i) => [member, i]);
    await server.command("HSET", key, ...tokens);
    await server.command("RPUSH", `${key}:queue`, ...members);
    const semaphore = new RedisSemaphore("many", 9, unsharedOptions(server));
    const { holders, waiters } = await semaphore.probe();
    const expected = members.map((_, i) => `${session}-${i}`);
    const listed = holders.map(({ holderId }) => holderId);
    assert.equal(listed.length, 1000);
    assert.deepEqual(listed, expected.filter((id) => listed.includes(id)));
    assert.deepEqual(
      waiters.map(({ holderId }) => holderId),
      expected.slice(0, 1000),
    );
    assert.ok(holders.every(({ address }) => address === null));
    await server.command("DEL", key, `${key}:queue`);
  } finally {
    client.destroy();
  }
});

it("probe() lists Python's clients by the names of their connections", async (server) => {
  const id = "c0ffee".repeat(6).slice(0, 32);
  await using python = await FakePython.start(server.url, "shared-name", [
    holderRecord(id, "shared"),
  ]);
  await using old = await FakePython.start(server.url, "shared-name", []);
  await using _unnamed = await FakePython.start(server.url, "shared-name", []);
  const stranger = createClient({ url: server.url });
  await stranger.on("error", () => {}).connect();
  try {
    await python.name(`shared-name-lock-${id}`);
    await old.name("shared-name-lock");
    await stranger.sendCommand(["CLIENT", "SETNAME", "shared-name-lock-x"]);
    await stranger.subscribe("another-name", () => {});
    const lock = new RedisLock("shared-name", unsharedOptions(server));
    const found = await lock.probe();
    assert.deepEqual(found.holders, []);
    assert.deepEqual(
      found.python.map(({ holderId, address }) => [
        holderId,
        address !== null,
      ]),
      [[id, true], [null, true], [null, false]],
    );
  } finally {
    stranger.destroy();
  }
});

it("probe() says null for what CLIENT LIST would report, without its permission", async (server) => {
  const rules = "on >p +@all -client|list ~* &*";
  await server.command("ACL", "SETUSER", "blind", ...rules.split(" "));
  const url = server.url.replace("//", "//blind:p@");
  const lock = new RedisLock("blind", { url });
  const lease = await lock.acquire();
  const { holders } = await lock.probe();
  const { holderId, fencingToken } = lease;
  assert.deepEqual(holders, [{
    holderId,
    fencingToken,
    exclusive: true,
    info: undefined,
    address: null,
    age: null,
  }]);
  await lease.release();
});

it("probe() rejects if the server cannot be reached, and says how to permit it", async (server) => {
  const closed = { url: "redis://127.0.0.1:1" };
  await assert.rejects(new RedisLock("a", closed).probe(), {
    name: "LockException",
    message: /^Cannot probe a: .*(ECONNREFUSED|ECONNRESET|Connection closed)/,
  });
  const rules = "on >p +@all -evalsha ~* &*";
  await server.command("ACL", "SETUSER", "mute", ...rules.split(" "));
  const mute = server.url.replace("//", "//mute:p@");
  await assert.rejects(new RedisLock("a", { url: mute }).probe(), {
    name: "LockException",
    code: "NOPERM",
    message: /^Cannot probe a: .*#permissions/,
  });
});

it("probe() neither holds nor waits, and leaves the connection to others", async (server) => {
  const options = unsharedOptions(server);
  const lock = new RedisLock("watched", options);
  await waitForNoConnections(server);
  await lock.probe();
  assert.equal(await connectionCount(server), 1);
  const lease = await lock.tryAcquire();
  assert.ok(lease);
  await lock.probe();
  assert.equal(await connectionCount(server), 1);
  await lease.release();
  await lock[Symbol.asyncDispose]();
});

it("onWait is called once, with the holders, when a wait has lasted 100 ms", async (server) => {
  const lease = await new RedisLock("slow", unsharedOptions(server)).acquire();
  const reports: LastingRedisWait[] = [];
  const reported = deferred();
  const onWait = (wait: LastingRedisWait) => {
    reports.push(wait);
    reported.resolve();
  };
  const lock = new RedisLock("slow", unsharedOptions(server, { onWait }));
  const waiting = lock.acquire({ timeout: 60_000 });
  await reported.promise;
  await lease.release();
  const next = await waiting;
  assert.equal(reports.length, 1);
  const { channel, waited, holders } = at(reports, 0);
  assert.equal(channel, "slow");
  assert.ok(waited >= 100, `${waited}`);
  const { holderId } = lease;
  assert.deepEqual(holders, [{ holderId, exclusive: true, info: undefined }]);
  // The next wait has a report of its own.
  const again = deferred();
  const failing = lock.acquire({
    timeout: 60_000,
    onWait: () => again.resolve(),
  });
  await again.promise;
  await next.release();
  await (await failing).release();
  assert.equal(reports.length, 1);
});

it("onWait is called for a task that waits for the same object", async (server) => {
  const lock = new RedisLock("tasks", unsharedOptions(server));
  const lease = await lock.acquire();
  const report = deferred<LastingRedisWait>();
  const waiting = lock.acquire({ timeout: 60_000, onWait: report.resolve });
  const { holders } = await report.promise;
  assert.equal(at(holders, 0).holderId, lease.holderId);
  await lease.release();
  await (await waiting).release();
});

it("onWait is not called if the lock is granted at once, or one attempt is made", async (server) => {
  const onWait = () => assert.fail("called");
  const lock = new RedisLock("quick", unsharedOptions(server, { onWait }));
  await lock.run(() => {});
  const lease = await lock.acquire();
  assert.equal(
    await new RedisLock("quick", unsharedOptions(server, { onWait }))
      .tryAcquire(),
    null,
  );
  await lease.release();
});

for (const ended of [true, false]) {
  const what = ended ? "is not called after the wait" : "is called in the wait";
  test(`onWait of a Redis lock ${what} if the server is slow`, async () => {
    const reports: LastingRedisWait[] = [];
    const holders = deferred<RemoteHolder[]>();
    const asked = deferred();
    let questions = 0;
    const onWait = (wait: LastingRedisWait) => void reports.push(wait);
    const deadline = new RedisDeadline({ ...WAIT_FOREVER, onWait }, {
      channel: "a",
      onContended: () => {},
      findHolders() {
        questions++;
        asked.resolve();
        return holders.promise;
      },
    }, true);
    // A wait for the server alone is not reported, however long.
    await deadline.sleepUntilWoken(150, () => () => {});
    assert.equal(questions, 0);
    deadline.markContended();
    await asked.promise;
    if (ended) deadline.end();
    holders.reject(new Error("the server is gone"));
    await holders.promise.catch(() => {});
    await new Promise(setImmediate);
    assert.equal(reports.length, ended ? 0 : 1);
    if (!ended) assert.deepEqual(at(reports, 0).holders, []);
  });
}

it("acquire() rejects with what onWait throws, and leaves the queue", async (server) => {
  const lease = await new RedisLock("fail", unsharedOptions(server)).acquire();
  const reason = new Error("no");
  const lock = new RedisLock("fail", unsharedOptions(server));
  const waiting = lock.acquire({
    timeout: Infinity,
    onWait() {
      throw reason;
    },
  });
  await assert.rejects(waiting, (error) => error === reason);
  await waitForQueueLength(server, "fail", 0);
  await lease.release();
});

it("AlreadyLocked names a holder after a wait, and after one attempt", async (server) => {
  const lease = await new RedisLock("named", unsharedOptions(server)).acquire();
  const other = new RedisLock("named", unsharedOptions(server));
  for (const options of [{ timeout: 1000 }, { failWhenLocked: true }]) {
    await assert.rejects(other.acquire(options), (error) => {
      assert.ok(error instanceof AlreadyLocked);
      const { holderId } = lease;
      assert.deepEqual(error.holder, {
        holderId,
        exclusive: true,
        info: undefined,
      });
      assert.equal(error.holderPid, null);
      return true;
    });
  }
  await lease.release();
});

it("a lock is held by one with another prefix and the same channel, and the error says so", async (server) => {
  const prefixed = new RedisLock(
    "x",
    unsharedOptions(server, { prefix: "a:" }),
  );
  const plain = new RedisLock("a:x", unsharedOptions(server));
  for (const [held, other] of [[prefixed, plain], [plain, prefixed]] as const) {
    const lease = await held.acquire();
    assert.equal(await other.tryAcquire(), null);
    await assert.rejects(other.acquire({ timeout: 300 }), (error) => {
      assert.ok(error instanceof AlreadyLocked);
      assert.match(
        error.message,
        /or have it with another prefix, are subscribed to a:x; .* another prefix/,
      );
      return true;
    });
    // Neither waits for the other any more.
    await lease.release();
    await other.run(() => {}, { timeout: 60_000 });
  }
});

it("AlreadyLocked does not name a holder if Python holds the lock", async (server) => {
  await using _python = await FakePython.start(server.url, "theirs", []);
  const lock = new RedisLock("theirs", unsharedOptions(server));
  await assert.rejects(lock.acquire({ failWhenLocked: true }), (error) => {
    assert.ok(error instanceof AlreadyLocked);
    assert.equal(error.holder, null);
    assert.match(error.message, /another program, such as Python/);
    return true;
  });
});

/** Infos of any kind, and how a message shows them. */
const INFOS: [info: unknown, shown: string][] = [
  ["web-1", "web-1"],
  ["web 1\n", '"web 1\\n"'],
  [{ host: "web-1", pid: 7 }, '{"host":"web-1","pid":7}'],
  [[1, "ä", null], '[1,"ä",null]'],
  [null, "null"],
  [0, "0"],
  ["", '""'],
];

for (const [info, shown] of INFOS) {
  it(`info ${JSON.stringify(info)} is what others learn of a holder and a waiter`, async (server) => {
    const described = unsharedOptions(server, { info });
    const lease = await new RedisLock("info", described).acquire();
    const waiting = new RedisLock("info", unsharedOptions(server, { info }))
      .acquire({ timeout: 60_000 });
    await waitForQueueLength(server, "info", 1);
    const other = new RedisLock("info", unsharedOptions(server));
    const { holders, waiters } = await other.probe();
    assert.deepEqual(at(holders, 0).info, info);
    assert.deepEqual(at(waiters, 0).info, info);
    const failing = other.acquire({ failWhenLocked: true });
    await assert.rejects(failing, (error) => {
      assert.ok(error instanceof AlreadyLocked);
      assert.deepEqual(error.holder, {
        holderId: lease.holderId,
        exclusive: true,
        info,
      });
      const { message, holder } = error.toJSON();
      assert.ok(message.includes(`already locked by ${shown} (`), message);
      assert.deepEqual(structuredClone(holder), error.holder);
      return true;
    });
    // A place in the queue that another step grants keeps its info.
    await lease.release();
    const next = await waiting;
    const after = await other.probe();
    assert.deepEqual(after.holders.map((holder) => holder.info), [info]);
    assert.deepEqual(after.waiters, []);
    await next.release();
    assert.equal(await server.command("EXISTS", "portalock:v1:{info}:info"), 0);
  });
}

it("info leaves no key of a waiter that gives up, or of a dead holder", async (server) => {
  const described = () => unsharedOptions(server, { info: "x".repeat(4000) });
  const lease = await new RedisLock("info", described()).acquire();
  const reader = new RedisLock("info", { ...described(), shared: true });
  await assert.rejects(reader.acquire({ timeout: 1000 }), AlreadyLocked);
  const key = "portalock:v1:{info}:info";
  await waitUntil(
    async () => await server.command("HLEN", key) === 1,
    () => "the end of the waiter",
  );
  await killLockConnections(server);
  await abortReason(lease.signal);
  // Any step removes what is left of a dead holder.
  await new RedisLock("info", unsharedOptions(server)).run(() => {});
  assert.equal(await server.command("EXISTS", key), 0);
});

it("info of a semaphore belongs to each place", async (server) => {
  const semaphores = ["a", "b"].map((info) =>
    new RedisSemaphore("info", 2, unsharedOptions(server, { info }))
  );
  const leases = [];
  for (const semaphore of semaphores) leases.push(await semaphore.acquire());
  const { holders } = await at(semaphores, 0).probe();
  assert.deepEqual(holders.map(({ info }) => info), ["a", "b"]);
  await at(leases, 0).release();
  const after = await at(semaphores, 0).probe();
  assert.deepEqual(after.holders.map(({ info }) => info), ["b"]);
  await at(leases, 1).release();
});

test("info of a Redis lock is any JSON value of at most 4096 bytes", () => {
  const make = (info: unknown) => new RedisLock("a", { info });
  for (const info of [undefined, null, 0, "", [], { a: 1 }, new Date(0)]) {
    make(info);
  }
  make("x".repeat(4094));
  assert.throws(() => make("x".repeat(4095)), {
    name: "RangeError",
    message: "info must have at most 4096 bytes as JSON, not 4097",
  });
  assert.throws(() => make("ä".repeat(2048)), /not 4098$/);
  const circular: Record<string, unknown> = {};
  circular.self = circular;
  for (const info of [1n, circular]) {
    assert.throws(() => make(info), {
      name: "TypeError",
      message: "info must be a value that JSON.stringify() accepts",
    });
  }
  for (const info of [() => {}, Symbol("a")]) {
    assert.throws(() => make(info), {
      name: "TypeError",
      message: /^info must be a JSON value, not /,
    });
  }
});
