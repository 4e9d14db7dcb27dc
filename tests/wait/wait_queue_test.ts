import { errorCode } from "../../ffi/types.ts";
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { platform } from "../../ffi/mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import {
  AlreadyLocked,
  Lock,
  lock,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  type LockedFile,
  unlock,
} from "../../mod.ts";
import { openDescriptors, waitForDescriptors } from "../support/descriptors.ts";
import { withPatchedFiles } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import {
  activeTimers,
  countBalance,
  disablePolling,
} from "../support/timers.ts";
import { at } from "../support/values.ts";
import { observeWaits } from "../support/waits.ts";

const SHARED = { flags: LOCK_SH | LOCK_NB };

/** Waiters for one file, each with its own `Lock` object, and their order. */
function namedWaiters(path: string) {
  const order: string[] = [];
  const inside = new Map<string, LockedFile>();
  const join = (name: string, options: object = {}) =>
    new Lock(path, { timeout: 60_000, ...options }).acquire().then((file) => {
      order.push(name);
      inside.set(name, file);
    });
  const leave = async (name: string) => {
    await inside.get(name)!.close();
    inside.delete(name);
    await settled();
  };
  return { order, inside, join, leave };
}

/** Passes the time in which a waiter would acquire that must not. */
const settled = () => delay(15);

test(
  "waiters of one process acquire in FIFO order",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    // Other names of the same file.
    fs.writeFileSync(path, "");
    fs.linkSync(path, `${path}2`);
    fs.symlinkSync(path, `${path}3`);
    // The library opens known paths without the thread pool.
    const paths = [path, `${path}2`, `${path}3`];
    for (const path of paths) await new Lock(path).run(() => {});
    const holder = await new Lock(path).acquire();
    const order: number[] = [];
    using waits = observeWaits();
    const waiting = Array.from({ length: 40 }, async (_, i) => {
      const lock = new Lock(at(paths, i % 3), { timeout: 60_000 });
      await lock.run(async () => {
        order.push(i);
        // A later waiter does not overtake earlier ones.
        if (i < 5) waiting.push(lock.run(() => void order.push(100 + i)));
        if (i % 4 === 0) await delay(1);
      });
    });
    await waits.begun(40);
    await holder.close();
    for (const one of waiting) await one;
    assert.deepEqual(order, [
      ...Array.from({ length: 40 }, (_, i) => i),
      ...Array.from({ length: 5 }, (_, i) => 100 + i),
    ]);
    assert.equal(openDescriptors(dir.path), 0);
  },
  "file descriptors",
  "symbolic links",
);

test(
  "adjacent readers of one process acquire together, but not before an earlier writer",
  async () => {
    using dir = tempDir();
    using _polling = disablePolling(0);
    using waits = observeWaits();
    const path = join(dir.path, "a.lock");
    const { order, join: enter, leave } = namedWaiters(path);
    await enter("holder");
    for (const name of ["r1", "r2", "r3"]) enter(name, SHARED);
    enter("w1");
    enter("r4", SHARED);
    await waits.begun(5);
    await leave("holder");
    assert.deepEqual(order, ["holder", "r1", "r2", "r3"]);
    await leave("r1");
    await leave("r2");
    assert.equal(order.length, 4);
    await leave("r3");
    assert.deepEqual(order.slice(4), ["w1"]);
    await leave("w1");
    assert.deepEqual(order.slice(5), ["r4"]);
    await leave("r4");
  },
  "inotify(7)",
);

test("aborts and timeouts keep the order of the other waiters", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const { order, join: enter, leave } = namedWaiters(path);
  await enter("holder");
  const head = new AbortController();
  const middle = new AbortController();
  const last = new AbortController();
  const rejected = [assert.rejects(enter("head", { signal: head.signal }))];
  enter("first");
  rejected.push(assert.rejects(enter("middle", { signal: middle.signal })));
  rejected.push(assert.rejects(enter("late", { timeout: 20 }), AlreadyLocked));
  enter("second");
  rejected.push(assert.rejects(enter("last", { signal: last.signal })));
  middle.abort();
  last.abort();
  // The head gives up last.
  await Promise.all(rejected.slice(1));
  head.abort();
  await Promise.all(rejected);
  await leave("holder");
  assert.deepEqual(order, ["holder", "first"]);
  await leave("first");
  assert.deepEqual(order, ["holder", "first", "second"]);
  await leave("second");
  assert.equal(openDescriptors(dir.path), 0);
}, "file descriptors");

test("a reader acquires when the writer before it gives up", async () => {
  using dir = tempDir();
  using _polling = disablePolling(0);
  using waits = observeWaits();
  const path = join(dir.path, "a.lock");
  const { order, join: enter, leave } = namedWaiters(path);
  await enter("reader", SHARED);
  const writer = new AbortController();
  const rejected = assert.rejects(enter("writer", { signal: writer.signal }));
  const next = enter("next", SHARED);
  await waits.begun(2);
  assert.deepEqual(order, ["reader"]);
  writer.abort();
  await rejected;
  await next;
  assert.deepEqual(order, ["reader", "next"]);
  await leave("reader");
  await leave("next");
}, "inotify(7)");

test("a release that fails wakes the next waiter", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const { join: enter, leave } = namedWaiters(path);
  using waits = observeWaits();
  await enter("holder");
  await withPatchedFiles((file) => ({
    unlock() {
      file.unlock();
      throw new Error("the system reports an error");
    },
  }), async () => {
    const next = enter("next");
    await waits.begun();
    await leave("holder");
    await next;
    await leave("next");
  });
});

test("only the head of the queue attempts to lock, at most 1.5 times per hand-over", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const TASKS = 200;
  let attempts = 0;
  const count = (file: PlatformFile) => ({
    tryLock(exclusive: boolean) {
      attempts++;
      return file.tryLock(exclusive);
    },
  });
  await withPatchedFiles(count, async () => {
    using waits = observeWaits();
    const holder = await new Lock(path).acquire();
    const lock = () => new Lock(path, { timeout: Infinity }).run(() => {});
    const waiting = Array.from({ length: TASKS }, lock);
    await waits.begun(TASKS);
    const before = attempts;
    // Only the head of the queue has made attempts.
    assert.ok(before < TASKS / 2, `${before} attempts before`);
    await holder.close();
    await Promise.all(waiting);
    const each = (attempts - before) / TASKS;
    assert.ok(each <= 1.5, `${each} attempts for each hand-over`);
  });
});

test(
  "a release in the same thread wakes the next waiter without inotify(7)",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const { order, join: enter, leave } = namedWaiters(path);
    fs.writeFileSync(path, "content");
    const failing = new Error("no space");
    await withPatchedFiles(() => ({
      watchClose: () => null,
      truncate: () => Promise.reject(failing),
    }), async () => {
      using _polling = disablePolling(0);
      using waits = observeWaits();
      await enter("holder");
      const first = assert.rejects(
        enter("first", { mode: "w" }),
        (error) => error === failing,
      );
      const second = enter("second");
      await waits.begun(2);
      await leave("holder");
      await first;
      await second;
      await leave("second");
    });
    assert.deepEqual(order, ["holder", "second"]);
  },
  "file descriptors",
);

test(
  "unlock() wakes the next waiter of its thread without inotify(7)",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const fd = fs.openSync(path, "a");
    await lock(fd, LOCK_EX);
    await withPatchedFiles(() => ({ watchClose: () => null }), async () => {
      using polling = disablePolling(0);
      const waiting = new Lock(path, { timeout: Infinity }).acquire();
      await polling.untilAsleep();
      unlock(fd);
      await (await waiting).close();
    });
    fs.closeSync(fd);
  },
  "file descriptors",
);

test(
  "the next waiter polls if nothing reports the release",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const { inside, order, join: enter, leave } = namedWaiters(path);
    await withPatchedFiles(() => ({ watchClose: () => null }), async () => {
      using waits = observeWaits();
      await enter("holder");
      enter("first");
      const second = enter("second");
      await waits.begun(2);
      await leave("holder");
      platform().fromFd(inside.get("first")!.fd!).unlock();
      await second;
      assert.deepEqual(order, ["holder", "first", "second"]);
      await leave("first");
      await leave("second");
    });
  },
  "file descriptors",
);

test("lock() and Lock share one queue", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const holder = await new Lock(path).acquire();
  const order: string[] = [];
  using waits = observeWaits();
  const fd = fs.openSync(path, "a+");
  const first = lock(fd, LOCK_EX).then(() => {
    order.push("lock");
    fs.closeSync(fd);
  });
  const second = new Lock(path).run(() => void order.push("Lock"));
  await waits.begun(2);
  await holder.close();
  await Promise.all([first, second]);
  assert.deepEqual(order, ["lock", "Lock"]);
}, "file descriptors");

test("10,000 aborts and timeouts at random moments leave no listener, timer or descriptor", async () => {
  using dir = tempDir();
  using timers = activeTimers();
  const path = join(dir.path, "a.lock");
  const shared = new Lock(path);
  let inside = 0;
  let acquired = 0;
  let ended = 0;
  let listeners = 0;
  const attempt = async (i: number) => {
    const controller = new AbortController();
    const { signal } = controller;
    const listenerBalance = countBalance(
      signal,
      "addEventListener",
      "removeEventListener",
    );
    const lock = i % 3 ? shared : new Lock(path);
    const moment = Math.random() * 4;
    const timer = i % 2 ? setTimeout(() => controller.abort(i), moment) : 0;
    try {
      const timeout = timer ? Infinity : moment;
      const file = await lock.acquire({ timeout, signal });
      assert.equal(++inside, 1);
      acquired++;
      if (i % 5 === 0) await delay(Math.random());
      inside--;
      await file.close();
    } catch (error) {
      ended++;
      // Opening in the thread pool may take longer than a short timeout.
      const late = errorCode(error) === "ETIMEDOUT";
      assert.ok(
        late || error === i || error instanceof AlreadyLocked,
        `${error}`,
      );
    } finally {
      clearTimeout(timer);
      // An abort removes its own listener.
      if (!signal.aborted) listeners += listenerBalance.left();
    }
  };
  for (let i = 0; ended < 10_000; i += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, k) => attempt(i + k)));
  }
  assert.ok(acquired > 0);
  assert.equal(listeners, 0);
  assert.equal(timers.size, 0);
  await waitForDescriptors(dir.path, 0);
  using file = new Lock(path).tryAcquireSync();
  assert.notEqual(file, null);
});
