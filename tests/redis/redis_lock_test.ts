import assert from "node:assert/strict";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AlreadyLocked, LOCK_EX, LOCK_SH } from "../../mod.ts";
import { lockAll, RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import { abortReasons } from "../support/abort_reasons.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import { observeWaits } from "../support/waits.ts";
import { TOPOLOGIES } from "./support/topologies.ts";
import type { Topology } from "./support/topologies.ts";
import { assertEventuallyEmpty } from "./support/inspect.ts";

/** Creates two locks of one name. */
const twoLocks = (...args: ConstructorParameters<typeof RedisLock>) =>
  [new RedisLock(...args), new RedisLock(...args)] as const;

for (const { name, needs, start } of TOPOLOGIES) {
  let topology: Topology | undefined;
  after(() => topology?.[Symbol.asyncDispose]());

  const it = (promise: string, body: (topology: Topology) => Promise<void>) =>
    test(`RedisLock by ${name}: ${promise}`, async () => {
      topology ??= await start();
      await body(topology);
      await assertEventuallyEmpty(() => topology!.remaining());
    }, ...needs);

  it("shared: true excludes writers, and no readers", async ({ options }) => {
    const lock = (shared: boolean) =>
      new RedisLock("shared", { ...options, shared });
    const one = await lock(true).acquire();
    const two = await lock(true).tryAcquire();
    assert.ok(two);
    assert.equal(await lock(false).tryAcquire(), null);
    await Promise.all([one.release(), two.release()]);
    await using _writer = await lock(false).acquire();
    assert.equal(await lock(true).tryAcquire(), null);
  });

  it("probe() lists the holder and the waiter, and lockAll() takes several", async ({ options }) => {
    const names = ["p", "q"];
    const locks = names.map((name) =>
      new RedisLock(name, { ...options, info: { name } })
    );
    const leases = await lockAll(locks);
    using waits = observeWaits();
    const waiting = new RedisLock("q", { ...options, shared: true, info: 7 })
      .acquire({ timeout: 60_000 });
    await waits.begun();
    const { holders, waiters } = await at(locks, 1).probe();
    const [holder, waiter] = [at(holders, 0), at(waiters, 0)];
    assert.equal(holder.holderId, leases.at(1)?.holderId);
    assert.deepEqual(holder.info, { name: "q" });
    assert.deepEqual([waiter.position, waiter.info], [0, 7]);
    for (const { address, age } of [holder, waiter]) {
      assert.ok(address !== null && age !== null);
    }
    await leases.release();
    await (await waiting).release();
  });

  it("a lease that is transferred is adopted once", async ({ options }) => {
    const [giver, receiver] = twoLocks("handed", options);
    const lease = await giver.acquire();
    const text = lease.transfer();
    assert.equal(await giver.tryAcquire(), null);
    const adopted = await receiver.adopt(text);
    assert.equal(adopted.fencingToken, lease.fencingToken);
    assert.equal(await giver.tryAcquire(), null);
    await assert.rejects(giver.adopt(text), { code: "ERR_LOCK_LOST" });
    await adopted.release();
    await giver.run(() => {});
  });

  it("locks with different prefixes are independent", async ({ options }) => {
    const lock = (prefix: string) => new RedisLock("a", { ...options, prefix });
    await using one = await lock("one:").acquire();
    await using two = await lock("two:").acquire();
    assert.ok(one.fencingToken > 0n && two.fencingToken > 0n);
    assert.equal(await lock("one:").tryAcquire(), null);
    using waits = observeWaits();
    const waiting = lock("two:").acquire({ timeout: 60_000 });
    await waits.begun();
    await two.release();
    await (await waiting).release();
  });

  it("acquire() excludes other locks until release()", async ({ options }) => {
    const [lock, other] = twoLocks("jobs", options);
    const lease = await lock.acquire();
    assert.equal(lock.locked, true);
    assert.equal(await other.tryAcquire(), null);
    await assert.rejects(other.acquire({ timeout: 300 }), (error) => {
      assert.ok(error instanceof AlreadyLocked);
      assert.match(error.message, /^Cannot lock jobs: already locked \(waited/);
      assert.ok(error.waited >= 299, `${error.waited}`);
      return true;
    });
    await lease.release();
    assert.equal(lock.locked, false);
    await using again = await other.tryAcquire();
    assert.ok(again);
  });

  it("release() grants the lock to waiters in order of arrival", async ({ options }) => {
    const locks = Array.from({ length: 10 }, () => new RedisLock("q", options));
    const first = await at(locks, 0).acquire();
    const order: number[] = [];
    const tasks: Promise<void>[] = [];
    using waits = observeWaits();
    for (const [i, lock] of locks.slice(1).entries()) {
      tasks.push(
        lock.run(() => void order.push(i), { checkInterval: 60_000 }),
      );
      await waits.begun(i + 1);
    }
    await first.release();
    await Promise.all(tasks);
    assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it("readers share the lock, and a writer excludes them", async ({ options }) => {
    const read = { ...options, flags: LOCK_SH };
    const [one, other] = twoLocks("rw", read);
    const writer = new RedisLock("rw", { ...options, flags: LOCK_EX });
    const leases = [await one.acquire(), await other.acquire()];
    assert.equal(await writer.tryAcquire(), null);
    using waits = observeWaits();
    const writing = writer.acquire({ checkInterval: 60_000 });
    await waits.begun();
    // A reader that arrives after a waiting writer waits.
    assert.equal(await new RedisLock("rw", read).tryAcquire(), null);
    const entered: string[] = [];
    const reading = [1, 2].map(async () => {
      await using _ = await new RedisLock("rw", read).acquire();
      entered.push("reader");
      await sleep(50);
      assert.equal(entered.length, 3);
    });
    await waits.begun(3);
    for (const lease of leases) await lease.release();
    const lease = await writing;
    entered.push("writer");
    await lease.release();
    await Promise.all(reading);
    assert.deepEqual(entered, ["writer", "reader", "reader"]);
  });

  it("fencing tokens increase", async ({ options }) => {
    const [one, other] = twoLocks("tokens", options);
    const tokens: bigint[] = [];
    const work = [one, other].map(async (lock) => {
      for (let i = 0; i < 50; i++) {
        await lock.run(({ fencingToken }) => tokens.push(fencingToken));
      }
    });
    await Promise.all(work);
    assert.equal(tokens.length, 100);
    tokens.reduce((last, token) => {
      assert.ok(token > last, `${token} after ${last}`);
      return token;
    });
  });

  it("a semaphore admits at most its maximum of holders", async ({ options }) => {
    const semaphore = new RedisSemaphore("semaphore", 3, options);
    let inside = 0, most = 0;
    const tasks = Array.from({ length: 20 }, () =>
      semaphore.run(async () => {
        most = Math.max(most, ++inside);
        await sleep(5);
        inside--;
      }));
    await Promise.all(tasks);
    assert.equal(most, 3);
    const leases = [1, 2, 3].map(() => semaphore.acquire());
    await Promise.all(leases);
    assert.equal(await semaphore.tryAcquire(), null);
    // The lock of the same name is independent.
    await new RedisLock("semaphore", options).run(() => {});
    await semaphore.release();
    await using again = await new RedisSemaphore("semaphore", 3, options)
      .tryAcquire();
    assert.ok(again);
    await semaphore[Symbol.asyncDispose]();
    assert.equal(semaphore.locked, false);
  });

  it("a lock name may contain any characters", async ({ options }) => {
    for (
      const channel of ["ä ö", "a:b", "{a}", "a}b{c", "%7B", "x".repeat(999)]
    ) {
      const [lock, other] = twoLocks(channel, options);
      await using lease = await lock.acquire();
      assert.equal(lease.channel, channel);
      assert.equal(await other.tryAcquire(), null);
    }
    await using _ = await new RedisLock("a", options).acquire();
    await using other = await new RedisLock("{a}", options).tryAcquire();
    assert.ok(other);
  });

  it("an aborted wait leaves no key", async ({ options }) => {
    const [lock, other] = twoLocks("aborted", options);
    const lease = await lock.acquire();
    for (const aborting of abortReasons()) {
      using waits = observeWaits();
      const waiting = other.acquire({ signal: aborting.signal });
      await waits.begun();
      aborting.abort();
      await aborting.rejects(waiting);
    }
    await lease.release();
    await using again = await lock.tryAcquire();
    assert.ok(again);
  });

  it("one RedisLock excludes tasks from each other, in FIFO order", async ({ options }) => {
    const lock = new RedisLock("tasks", options);
    const order: number[] = [];
    let inside = 0;
    await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        lock.run(async () => {
          assert.equal(++inside, 1);
          await sleep(1);
          order.push(i);
          inside--;
        })),
    );
    assert.deepEqual(order, Array.from({ length: 30 }, (_, i) => i));
    await using _ = await lock.acquire();
    await assert.rejects(lock.acquire({ timeout: 20 }), /this same object/);
  });
}
