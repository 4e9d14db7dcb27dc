import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { AlreadyLocked, LOCK_SH, LockException } from "../../mod.ts";
import { WAIT_FOREVER } from "../../src/options/acquire_options.ts";
import type { WaitSettings } from "../../src/options/acquire_options.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import { lockKeys } from "../../src/redis/protocol/keys.ts";
import { RedisLockBase } from "../../src/redis/redis_lock_base.ts";
import { fromUrl } from "../../src/redis/clients/mod.ts";
import type { RedisSource } from "../../src/redis/clients/mod.ts";
import {
  AttemptLimits,
  withDeadline,
} from "../../src/redis/connection/attempt_limits.ts";
import {
  acquireConnection,
  closeIdle,
} from "../../src/redis/connection/pool.ts";
import { Deadline } from "../../src/wait/deadline.ts";
import { runtimes } from "../support/env.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import type { RedisServer } from "./support/server.ts";
import {
  lockConnections,
  redisSuite,
  startRedisProcess,
  unsharedOptions,
  waitForNoConnections,
  waitForQueueLength,
} from "./support/inspect.ts";

const it = redisSuite("Redis attempts");

it("one of two simultaneous tryAcquire() succeeds", async (server) => {
  const locks = [1, 2].map(() =>
    new RedisLock("pair", unsharedOptions(server))
  );
  for (let i = 0; i < 1000; i++) {
    const leases = await Promise.all(locks.map((lock) => lock.tryAcquire()));
    const [lease, other] = leases.filter((lease) => lease !== null);
    assert.ok(lease, "both failed");
    assert.equal(other, undefined, "both succeeded");
    await lease.release();
  }
});

it("one of two tryAcquire() over new connections succeeds", async (server) => {
  for (let i = 0; i < 50; i++) {
    const locks = [1, 2].map(() =>
      new RedisLock("new", unsharedOptions(server))
    );
    const leases = await Promise.all(locks.map((lock) => lock.tryAcquire()));
    assert.equal(leases.filter((lease) => lease).length, 1);
    for (const lock of locks) await lock[Symbol.asyncDispose]();
  }
  await waitForNoConnections(server);
});

/** Attempts that send nothing to the server. */
const LOOPS: Record<
  string,
  (held: RedisLock, free: RedisLock) => Promise<unknown>
> = {
  "tryAcquire() of a lock that this object holds": (held) => held.tryAcquire(),
  "acquire() with an aborted signal": (_, free) =>
    free.acquire({ signal: AbortSignal.abort() }).catch(() => {}),
};

for (const [what, attempt] of Object.entries(LOOPS)) {
  it(`${what} in a tight loop does not starve the event loop`, async (server) => {
    const options = unsharedOptions(server);
    const held = new RedisLock("held", options);
    const free = new RedisLock("free", options);
    await using _lease = await held.acquire();
    // Opens its connection.
    await free.run(() => {});
    let over = false;
    setTimeout(() => over = true, 20);
    const end = performance.now() + 10_000;
    while (!over) {
      await attempt(held, free);
      assert.ok(performance.now() < end, "the timer did not fire");
    }
  });
}

it("one of two processes that call tryAcquire() succeeds", async (server) => {
  const two = [at(runtimes, 0), at(runtimes, -1)].map(startRedisProcess);
  try {
    // A busy machine may be too slow for all rounds.
    const end = performance.now() + 60_000;
    for (let i = 0; i < 1000 && performance.now() < end; i++) {
      const answers = await Promise.all(
        two.map((worker) =>
          worker.call("tryAcquire", "processes", { url: server.url })
        ),
      );
      assert.deepEqual([...answers].sort(), [false, true]);
      await at(two, answers.indexOf(true)).call("release", "processes");
    }
  } finally {
    for (const worker of two) await worker.kill();
  }
});

it("tryAcquire() returns null while a writer waits", async (server) => {
  const shared = unsharedOptions(server, { flags: LOCK_SH });
  const reader = await new RedisLock("queue", shared).acquire();
  const wait = new RedisLock("queue", unsharedOptions(server)).acquire();
  await waitForQueueLength(server, "queue", 1);
  assert.equal(await new RedisLock("queue", shared).tryAcquire(), null);
  await reader.release();
  await (await wait).release();
});

it("acquire() with timeout 0 or failWhenLocked does not wait", async (server) => {
  await using _ = await new RedisLock("now", unsharedOptions(server)).acquire();
  const lock = new RedisLock(
    "now",
    unsharedOptions(server, { timeout: Infinity }),
  );
  for (const options of [{ timeout: 0 }, { failWhenLocked: true }]) {
    await assert.rejects(lock.acquire(options), (error) => {
      assert.ok(error instanceof AlreadyLocked);
      assert.equal(error.code, "EWOULDBLOCK");
      return true;
    });
  }
  const failing = new RedisLock(
    "now",
    unsharedOptions(server, { failWhenLocked: true }),
  );
  await assert.rejects(failing.acquire(), AlreadyLocked);
  await assert.rejects(failing.run(() => {}), AlreadyLocked);
});

it("one of two tryAcquire() of one object succeeds", async (server) => {
  const lock = new RedisLock("object", unsharedOptions(server));
  const leases = await Promise.all([lock.tryAcquire(), lock.tryAcquire()]);
  assert.equal(leases.filter((lease) => lease).length, 1);
  await assert.rejects(lock.acquire({ timeout: 0 }), /this same object/);
  await lock.release();
});

it("acquire() with an aborted signal does not connect", async (server) => {
  await waitForNoConnections(server);
  const lock = new RedisLock("aborted", unsharedOptions(server));
  const reason = new Error("enough");
  await assert.rejects(
    lock.acquire({ signal: AbortSignal.abort(reason) }),
    (error) => error === reason,
  );
  assert.deepEqual(await lockConnections(server), []);
});

/** Repeats attempts that are canceled at a random moment. */
async function cancelAtRandomMoments(
  server: RedisServer,
  rounds: number,
  attempt: (lock: RedisLock, moment: number) => Promise<void>,
): Promise<void> {
  const holder = new RedisLock("canceled", unsharedOptions(server));
  let held = await holder.acquire();
  for (let i = 0; i < rounds; i++) {
    // Some attempts open a new connection, and some find the lock free.
    if (i % 10 === 0) await held.release();
    if (i % 10 === 5) held = await holder.acquire();
    const lock = new RedisLock("canceled", unsharedOptions(server));
    await attempt(lock, Math.random() * 8);
    await attempt(lock, Math.random() * 4);
    await lock[Symbol.asyncDispose]();
  }
  await held.release();
  await using free = await holder.tryAcquire();
  assert.ok(free);
}

it("acquire() aborted at a random moment leaves nothing", async (server) => {
  const reason = new Error("enough");
  await cancelAtRandomMoments(server, 500, async (lock, moment) => {
    const controller = new AbortController();
    const abort = moment < 1 ? Promise.resolve() : sleep(moment).then(() => {});
    const work = lock.acquire({ signal: controller.signal });
    const aborting = abort.then(() => controller.abort(reason));
    const lease = await work.catch((error) => {
      assert.equal(error, reason);
    });
    await aborting;
    await lease?.release();
    assert.equal(lock.locked, false);
  });
});

it("acquire() that times out at a random moment leaves nothing", async (server) => {
  await cancelAtRandomMoments(server, 500, async (lock, timeout) => {
    const lease = await lock.acquire({ timeout }).catch((error) => {
      assert.ok(error instanceof LockException, String(error));
    });
    await lease?.release();
    assert.equal(lock.locked, false);
  });
});

it("an abort does not wait for a stopped server", async (server) => {
  const options = unsharedOptions(server, { checkInterval: 60_000 });
  const holder = await new RedisLock("abort", unsharedOptions(server))
    .acquire();
  const controller = new AbortController();
  const { signal } = controller;
  const wait = new RedisLock("abort", options).acquire({ signal });
  await waitForQueueLength(server, "abort", 1);
  await server.signal("SIGSTOP");
  try {
    const start = performance.now();
    controller.abort();
    await assert.rejects(wait, { name: "AbortError" });
    assert.ok(performance.now() - start < 30_000);
  } finally {
    await server.signal("SIGCONT");
  }
  await holder.release();
  await new RedisLock("abort", unsharedOptions(server)).run(() => {});
});

it("a timeout does not wait for a stopped server", async (server) => {
  const lock = new RedisLock(
    "late",
    unsharedOptions(server, {
      checkInterval: 60_000,
      unavailableTimeout: 60_000,
    }),
  );
  await lock.run(() => {});
  await server.signal("SIGSTOP");
  try {
    const start = performance.now();
    await assert.rejects(lock.acquire({ timeout: 100 }), LockException);
    assert.ok(performance.now() - start < 30_000);
  } finally {
    await server.signal("SIGCONT");
  }
});

test("Redis attempts: a rejection after the end of the wait is not reported as unhandled", async () => {
  const signal = AbortSignal.abort("enough");
  const deadline = new Deadline({ ...WAIT_FOREVER, signal });
  const late = sleep(10).then(() => Promise.reject(new Error("late")));
  const end = performance.now() + 60_000;
  const ended = (error: unknown) => error === "enough";
  await assert.rejects(withDeadline(deadline, end, late), ended);
  await sleep(50);
});

it("loading node-redis does not count as silence of the server", async (server) => {
  const source = {
    ...fromUrl({}, server.url, {}),
    load: () => sleep(1200),
  };
  const opened = async (wait: Partial<WaitSettings>) => {
    const deadline = new Deadline({ ...WAIT_FOREVER, ...wait });
    return await acquireConnection(
      source,
      lockKeys("a", SPACE),
      new AttemptLimits(deadline, 1000),
    );
  };
  const once = { failWhenLocked: true };
  (await opened(once)).release();
  (await opened({})).release();
  // But it counts toward the timeout, and ends with the wait.
  await assert.rejects(opened({ timeout: 50 }), /is being loaded/);
  const signal = AbortSignal.timeout(50);
  await assert.rejects(opened({ ...once, signal }), /TimeoutError/);
  closeIdle(source);
});

const SPACE = { prefix: "", sharded: false };

/** A lock with a source of the test. */
class LockWithSource extends RedisLockBase {
  constructor(source: RedisSource) {
    const wait = WAIT_FOREVER;
    const settings = { source, wait, unavailableTimeout: 60_000, info: "" };
    super(lockKeys("of", SPACE), "x", settings);
  }
}

test("Redis attempts: loading node-redis counts toward the timeout", async () => {
  const { now } = performance;
  const start = now.call(performance);
  let later = 0;
  performance.now = () => now.call(performance) + later;
  const lock = new LockWithSource({
    ...fromUrl({}, undefined),
    // Takes a minute on the fake clock.
    load: () => Promise.resolve(later += 60_000),
    locate: () => new Promise(() => {}),
  });
  try {
    await assert.rejects(
      lock.acquire({ timeout: 60_300 }),
      /the server does not answer/,
    );
  } finally {
    performance.now = now;
  }
  assert.ok(performance.now() - start < 30_000);
});
