import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { Worker as Thread } from "node:worker_threads";
import { createClient, createClientPool } from "redis";
import { LOCK_EX, LOCK_SH } from "../../mod.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import type { RedisLease } from "../../src/redis/mod.ts";
import { currentRuntime } from "../support/env.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import { observeWaits } from "../support/waits.ts";
import { RedisCluster } from "./support/cluster.ts";
import {
  listClients,
  lockConnections,
  redisSuite,
  removeDeadHolders,
  unsharedOptions,
  waitForNoConnections,
  waitForQueueLength,
} from "./support/inspect.ts";

const it = redisSuite("Redis cleanup", removeDeadHolders);

/** Counts the listeners of each event of a client. */
function listenerCounts(client: object): object {
  const { eventNames, listenerCount } = client as NodeJS.EventEmitter;
  const names = eventNames.call(client);
  return Object.fromEntries(
    names.map((name) => [name, listenerCount.call(client, name)]),
  );
}

it("a lock leaves the client of the caller unchanged", async (server) => {
  const { url } = server;
  const client = await createClient({ url, name: "mine", database: 3 })
    .on("error", () => {}).connect();
  const inspect = async () => {
    const all = await listClients(server);
    const { name, db, sub, psub, resp } = all.find(({ name }) =>
      name === "mine"
    )!;
    return { name, db, sub, psub, resp, events: listenerCounts(client) };
  };
  const before = await inspect();
  const lock = new RedisLock("client", { client });
  for (let i = 0; i < 3; i++) {
    const lease = await lock.acquire();
    assert.equal((await lockConnections(server)).length, 1);
    assert.deepEqual(await inspect(), before);
    const other = new RedisLock(
      "client",
      unsharedOptions(server, { timeout: 20 }),
    );
    await assert.rejects(other.acquire());
    await other[Symbol.asyncDispose]();
    await lease.release();
  }
  await lock[Symbol.asyncDispose]();
  await waitForNoConnections(server);
  assert.deepEqual(await inspect(), before);
  assert.equal(client.isOpen, true);
  assert.equal(await client.ping(), "PONG");
  client.destroy();
});

it("a lock leaves the pool of the caller unchanged", async (server) => {
  const pool = createClientPool({ url: server.url }).on("error", () => {});
  await pool.connect();
  const before = listenerCounts(pool);
  await using lock = new RedisLock("pool", { client: pool });
  await Promise.all(Array.from({ length: 10 }, () => lock.run(() => {})));
  assert.equal((await lockConnections(server)).length, 1);
  assert.deepEqual(listenerCounts(pool), before);
  assert.equal(pool.clientsInUse, 0);
  pool.destroy();
});

it("a thousand locks share one connection", async (server) => {
  await waitForNoConnections(server);
  const client = await createClient({ url: server.url })
    .on("error", () => {}).connect();
  const leases = await Promise.all(
    Array.from(
      { length: 1000 },
      (_, i) => new RedisLock(`thousand ${i}`, { client }).acquire(),
    ),
  );
  assert.equal((await lockConnections(server)).length, 1);
  assert.equal((await listClients(server)).length, 2);
  await Promise.all(leases.map((lease) => lease.release()));
  client.destroy();
});

it("readers and writers of one lock share one connection", async (server) => {
  await waitForNoConnections(server);
  const { url } = server;
  let inside = 0;
  await Promise.all(Array.from({ length: 100 }, (_, i) => {
    const isReader = i % 3 !== 0;
    const flags = isReader ? LOCK_SH : LOCK_EX;
    return new RedisLock("all", { url, flags }).run(async () => {
      if (!isReader) assert.equal(++inside, 1);
      if (i === 50) assert.equal((await lockConnections(server)).length, 1);
      if (!isReader) inside--;
    });
  }));
});

it("ten thousand lock names leave no key after their release", async (server) => {
  const { url } = server;
  for (let i = 0; i < 10; i++) {
    await Promise.all(
      Array.from(
        { length: 1000 },
        (_, n) => new RedisLock(`${i} ${n}`, { url }).run(() => {}),
      ),
    );
  }
  assert.deepEqual(await server.command("KEYS", "*"), ["portalock:v1:clock"]);
});

it("an idle connection is closed after about a second", async (server) => {
  await waitForNoConnections(server);
  const lock = new RedisLock("idle", unsharedOptions(server));
  await lock.run(() => {});
  const start = performance.now();
  const { id } = at(await lockConnections(server), 0);
  await lock.run(() => {});
  assert.equal(at(await lockConnections(server), 0).id, id);
  await waitForNoConnections(server);
  const lasted = performance.now() - start;
  assert.ok(lasted > 800 && lasted < 10_000, `${lasted} ms`);
});

it("disposing a lock closes its idle connection immediately", async (server) => {
  await waitForNoConnections(server);
  const options = unsharedOptions(server);
  const other = new RedisLock("other", options);
  const closed: number[] = [];
  // An idle connection stays open for a second. On a busy machine, closing may
  // also take that long, but not every time.
  for (let i = 0; i < 5 && !(closed.at(-1)! < 700); i++) {
    {
      await using lock = new RedisLock("disposed", options);
      await lock.acquire();
      await using _ = await other.acquire();
    }
    const start = performance.now();
    await waitForNoConnections(server);
    closed.push(performance.now() - start);
  }
  assert.ok(closed.at(-1)! < 700, `${closed} ms`);
  // A connection that another lock uses stays open.
  const lease = await other.acquire();
  {
    await using lock = new RedisLock("disposed", options);
    await lock.acquire();
  }
  assert.equal(lease.held, true);
  assert.equal((await lockConnections(server)).length, 1);
  await lease.release();
  await other.run(() => {});
});

it("disposing a lock does not interrupt the release of another lock", async (server) => {
  const options = unsharedOptions(server);
  // With this interval, only the message of the release wakes the waiter.
  const rarely = unsharedOptions(server, {
    checkInterval: 60_000,
    timeout: 60_000,
  });
  const lease = await new RedisLock("released", options).acquire();
  const wait = new RedisLock("released", rarely).acquire();
  await waitForQueueLength(server, "released", 1);
  const start = performance.now();
  const released = lease.release();
  await new RedisLock("disposed", options)[Symbol.asyncDispose]();
  await released;
  await (await wait).release();
  assert.ok(performance.now() - start < 30_000);
});

it("a lock is the same in every database of the server", async (server) => {
  const one = new RedisLock("db", { url: `${server.url}/0` });
  const three = new RedisLock("db", { url: `${server.url}/3` });
  const lease = await one.acquire();
  assert.equal(await three.tryAcquire(), null);
  const wait = three.acquire({ checkInterval: 60_000 });
  await waitForQueueLength(server, "db", 1);
  await lease.release();
  await (await wait).release();
});

it("diagnostics channels report the wait, acquisitions and releases", async (server) => {
  const events: object[] = [];
  const listeners = ["wait", "acquire", "release"].map((name) => {
    const listen = (event: unknown) => {
      const { channel, exclusive, waited, held } = event as Record<
        string,
        unknown
      >;
      const times = [waited, held].map((time) => typeof time);
      events.push([name, channel, exclusive, ...times]);
    };
    subscribe(`portalock:${name}`, listen);
    return () => unsubscribe(`portalock:${name}`, listen);
  });
  try {
    const lease = await new RedisLock("observed", unsharedOptions(server))
      .acquire();
    const shared = unsharedOptions(server, { flags: LOCK_SH });
    using waits = observeWaits();
    const wait = new RedisLock("observed", shared).acquire();
    await waits.begun();
    await lease.release();
    await (await wait).release();
  } finally {
    for (const unlisten of listeners) unlisten();
  }
  const [number, none] = ["number", "undefined"];
  assert.deepEqual(events, [
    ["acquire", "observed", true, number, none],
    ["wait", "observed", false, none, none],
    ["release", "observed", true, none, number],
    ["acquire", "observed", false, number, none],
    ["release", "observed", false, none, number],
  ]);
});

it("threads of one process exclude each other", async (server) => {
  const thread = () =>
    new Thread(
      new URL(
        `../fixtures/redis_end_with_lock${currentRuntime.extension}`,
        import.meta.url,
      ),
      { workerData: ["thread", server.url] },
    );
  const [first, second] = [thread(), thread()];
  const answers = await Promise.all(
    [first, second].map((thread) => once(thread, "message")),
  );
  assert.deepEqual(answers.flat().sort(), [false, true]);
  const lock = new RedisLock("thread", unsharedOptions(server));
  assert.equal(await lock.tryAcquire(), null);
  await Promise.all([first.terminate(), second.terminate()]);
  await lock.run(() => {}, { timeout: 30_000 });
});

it("a semaphore uses one connection and leaves no key", async (server) => {
  await waitForNoConnections(server);
  const options = unsharedOptions(server);
  const leases: RedisLease[] = [];
  for (let i = 0; i < 20; i++) {
    leases.push(await new RedisSemaphore("places", 20, options).acquire());
  }
  assert.equal(
    await new RedisSemaphore("places", 20, options).tryAcquire(),
    null,
  );
  assert.equal((await lockConnections(server)).length, 1);
  for (const lease of leases) await lease.release();
});

test(
  "Redis cleanup: all keys and channels of a lock are in one slot of a cluster",
  async () => {
    const { lockKeys: lockNames, semaphoreKeys: semaphoreNames } = await import(
      "../../src/redis/protocol/keys.ts"
    );
    await using cluster = await RedisCluster.start();
    const slots = new Set<number>();
    const channels = ["a", "{a}", "a}b{c", "{", "}", "{}", "%7B", "ä ö"];
    const prefixes = ["", "tenant:", "{tenant}:", "a}", "a{", "a{b{}"];
    for (const [channel, prefix] of product(channels, prefixes)) {
      const space = { prefix, sharded: true };
      for (
        const names of [
          lockNames(channel, space),
          semaphoreNames(channel, space),
        ]
      ) {
        const { key, queue, info, clock } = names;
        const all = [key, queue, info, clock, `${key}:${"0".repeat(32)}`];
        const found = await Promise.all(all.map((key) => cluster.slotOf(key)));
        assert.equal(new Set(found).size, 1, prefix + channel);
        slots.add(at(found, 0));
      }
    }
    // Different locks may have different slots.
    assert.ok(slots.size > 3);
  },
  "redis-server",
);

function product<A, B>(as: A[], bs: B[]): [A, B][] {
  return as.flatMap((a) => bs.map((b): [A, B] => [a, b]));
}
