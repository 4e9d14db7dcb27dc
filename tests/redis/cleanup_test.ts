import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { Worker as Thread } from "node:worker_threads";
import { createClient, createClientPool } from "redis";
import { LOCK_SH } from "../../mod.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import type { RedisLease } from "../../src/redis/mod.ts";
import {
  currentRuntime,
  fixtureCommand,
  runtimes,
  type TestRuntime,
} from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { test } from "../support/test.ts";
import { RedisCluster } from "./support/cluster.ts";
import { waitUntil } from "./support/binaries.ts";
import {
  listClients,
  lockConnections,
  redisSuite,
  removeDeadHolders,
  unsharedOptions,
  waitForNoConnections,
  waitForQueueLength,
} from "./support/inspect.ts";

const suite = redisSuite("tidy locks in Redis", removeDeadHolders);

/** What a user may know of a client. */
function seen(client: object): object {
  const { eventNames, listenerCount } = client as NodeJS.EventEmitter;
  const names = eventNames.call(client);
  return Object.fromEntries(
    names.map((name) => [name, listenerCount.call(client, name)]),
  );
}

suite("a user's client stays as it was", async (server) => {
  const { url } = server;
  const client = await createClient({ url, name: "mine", database: 3 })
    .on("error", () => {}).connect();
  const looks = async () => {
    const all = await listClients(server);
    const { name, db, sub, psub, resp } = all.find(({ name }) =>
      name === "mine"
    )!;
    return { name, db, sub, psub, resp, events: seen(client) };
  };
  const before = await looks();
  const lock = new RedisLock("client", { client });
  for (let i = 0; i < 3; i++) {
    const lease = await lock.acquire();
    assert.equal((await lockConnections(server)).length, 1);
    assert.deepEqual(await looks(), before);
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
  assert.deepEqual(await looks(), before);
  assert.equal(client.isOpen, true);
  assert.equal(await client.ping(), "PONG");
  client.destroy();
});

suite("a user's pool stays as it was", async (server) => {
  const pool = createClientPool({ url: server.url }).on("error", () => {});
  await pool.connect();
  const before = seen(pool);
  await using lock = new RedisLock("pool", { client: pool });
  await Promise.all(Array.from({ length: 10 }, () => lock.run(() => {})));
  assert.equal((await lockConnections(server)).length, 1);
  assert.deepEqual(seen(pool), before);
  assert.equal(pool.clientsInUse, 0);
  pool.destroy();
});

suite("a thousand locks have one connection", async (server) => {
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

suite("readers and writers of one channel have one", async (server) => {
  await waitForNoConnections(server);
  const { url } = server;
  let inside = 0;
  await Promise.all(Array.from({ length: 100 }, (_, i) => {
    const flags = i % 3 ? LOCK_SH : undefined;
    return new RedisLock("all", { url, flags }).run(async () => {
      if (!flags) assert.equal(++inside, 1);
      if (i === 50) assert.equal((await lockConnections(server)).length, 1);
      if (!flags) inside--;
    });
  }));
});

suite("ten thousand channels leave nothing", async (server) => {
  const { url } = server;
  for (let i = 0; i < 10; i++) {
    await Promise.all(
      Array.from(
        { length: 1000 },
        (_, n) => new RedisLock(`${i} ${n}`, { url }).run(() => {}),
      ),
    );
  }
  assert.equal(await server.command("DBSIZE"), 0);
});

suite("an idle session is closed in a moment", async (server) => {
  await waitForNoConnections(server);
  const lock = new RedisLock("idle", unsharedOptions(server));
  await lock.run(() => {});
  const start = performance.now();
  const [{ id }] = await lockConnections(server);
  await lock.run(() => {});
  assert.equal((await lockConnections(server))[0].id, id);
  await waitForNoConnections(server);
  const lasted = performance.now() - start;
  assert.ok(lasted > 800 && lasted < 10_000, `${lasted} ms`);
});

suite("a disposed lock closes it at once", async (server) => {
  await waitForNoConnections(server);
  const options = unsharedOptions(server);
  const other = new RedisLock("other", options);
  const closed: number[] = [];
  // An idle one stays for a second. A busy machine may take as long for this,
  // but not each time.
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
  // One that others use stays.
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

suite("a disposed lock leaves another's release alone", async (server) => {
  const options = unsharedOptions(server);
  // Whoever looks so seldom is told by the release, or not at all.
  const never = unsharedOptions(server, {
    checkInterval: 60_000,
    timeout: 60_000,
  });
  const lease = await new RedisLock("released", options).acquire();
  const wait = new RedisLock("released", never).acquire();
  await waitForQueueLength(server, "released", 1);
  const start = performance.now();
  const released = lease.release();
  await new RedisLock("disposed", options)[Symbol.asyncDispose]();
  await released;
  await (await wait).release();
  assert.ok(performance.now() - start < 30_000);
});

suite("databases mean nothing", async (server) => {
  const one = new RedisLock("db", { url: `${server.url}/0` });
  const three = new RedisLock("db", { url: `${server.url}/3` });
  const lease = await one.acquire();
  assert.equal(await three.tryAcquire(), null);
  const wait = three.acquire({ checkInterval: 60_000 });
  await waitForQueueLength(server, "db", 1);
  await lease.release();
  await (await wait).release();
});

suite("observers are told", async (server) => {
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
    const lease = await new RedisLock("told", unsharedOptions(server))
      .acquire();
    const shared = unsharedOptions(server, { flags: LOCK_SH });
    const wait = new RedisLock("told", shared).acquire();
    await waitUntil(
      () => Promise.resolve(events.length === 2),
      () => "the wait",
    );
    await lease.release();
    await (await wait).release();
  } finally {
    for (const forget of listeners) forget();
  }
  const [number, none] = ["number", "undefined"];
  assert.deepEqual(events, [
    ["acquire", "told", true, number, none],
    ["wait", "told", false, none, none],
    ["release", "told", true, none, number],
    ["acquire", "told", false, number, none],
    ["release", "told", false, none, number],
  ]);
});

suite("threads exclude each other", async (server) => {
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

/** Starts `tests/fixtures/redis_end_with_lock` where it may collect when it likes. */
function ending(runtime: TestRuntime, ...args: string[]): LockProcess {
  const script = fixtureCommand(runtime, "redis_end_with_lock");
  const at = script.length - 1;
  const flag = runtime.name === "deno"
    ? "--v8-flags=--expose-gc"
    : runtime.name === "bun"
    ? "--smol"
    : "--expose-gc";
  return new LockProcess([...script.slice(0, at), flag, script[at], ...args]);
}

/** It ends in good order, soon after what it said last. */
async function assertEnds(worker: LockProcess, what: string): Promise<void> {
  const start = performance.now();
  const { code, stderr } = await worker.ended;
  assert.deepEqual({ code, stderr }, { code: 0, stderr: "" }, what);
  assert.ok(performance.now() - start < 30_000, `${what}: too late`);
}

const ENDS: [how: string, said: string][] = [
  ["while it holds", "held"],
  ["with an idle session", "held"],
  ["after it was refused", "refused"],
  ["after it waited in vain", "AlreadyLocked"],
  ["after it was aborted", "TimeoutError"],
  ["after the connection was refused", "LockException"],
];

for (const runtime of runtimes) {
  const { name } = runtime;

  suite(`a finished program ends by itself, on ${name}`, async (server) => {
    await using _ = await new RedisLock("taken", unsharedOptions(server))
      .acquire();
    await Promise.all(ENDS.map(async ([how, said]) => {
      await using worker = ending(runtime, how, server.url);
      assert.equal(await worker.readLine(), said, how);
      await assertEnds(worker, `${name}: ${how}`);
    }));
  });

  suite(`a program that waits goes on, on ${name}`, async (server) => {
    const lease = await new RedisLock("taken", unsharedOptions(server))
      .acquire();
    await using worker = ending(runtime, "once it has the lock", server.url);
    assert.equal(await worker.readLine(), "waits");
    await waitForQueueLength(server, "taken", 1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await lease.release();
    assert.equal(await worker.readLine(), "held");
    await assertEnds(worker, name);
  });

  suite(`what is collected is released, on ${name}`, async (server) => {
    await using worker = ending(runtime, "which is collected", server.url);
    const warnings = JSON.parse(await worker.readLine());
    assert.equal(warnings.length, 1, `${warnings}`);
    assert.match(
      warnings[0],
      /^PortalockWarning The lock on ending was garbage-collected while held/,
    );
    await worker.ended;
  });
}

suite("memory stays as it was", async (server) => {
  await using _ = await new RedisLock("taken", unsharedOptions(server))
    .acquire();
  await using worker = ending(currentRuntime, "after many locks", server.url);
  const grown = Number(await worker.readLine());
  // One that remembered each would have grown by more.
  assert.ok(grown < 10_000 * 100, `${grown} bytes`);
  await worker.ended;
});

suite("a semaphore has one connection and leaves nothing", async (server) => {
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
  "tidy locks in Redis: in a cluster all of a lock has one slot",
  async () => {
    const { lockKeys: lockNames, semaphoreKeys: semaphoreNames } = await import(
      "../../src/redis/protocol/keys.ts"
    );
    await using cluster = await RedisCluster.start();
    const slots = new Set<number>();
    for (const channel of ["a", "{a}", "a}b{c", "{", "}", "{}", "%7B", "ä ö"]) {
      for (
        const names of [lockNames(channel, true), semaphoreNames(channel, true)]
      ) {
        const all = [names.key, names.queue, `${names.key}:${"0".repeat(32)}`];
        const found = await Promise.all(all.map((key) => cluster.slotOf(key)));
        assert.equal(new Set(found).size, 1, channel);
        slots.add(found[0]);
      }
    }
    // Others may have others.
    assert.ok(slots.size > 3);
  },
  "redis-server",
);
