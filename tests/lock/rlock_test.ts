import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AlreadyLocked, Lock, LOCK_EX, LOCK_NB, LOCK_SH } from "../../mod.ts";
import { LockException, RLock } from "../../mod.ts";
import { openDescriptors, waitForDescriptors } from "../support/descriptors.ts";
import { allRuntimes } from "../support/env.ts";
import { withPatchedFiles, withPatchedPlatform } from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { deferred } from "../support/values.ts";
import { observeWaits, SHORT_WAIT_MS } from "../support/waits.ts";

const SHARED = LOCK_SH | LOCK_NB;

/**
 * Blocks the thread for so long that the next `acquire` yields to the event
 * loop.
 */
function blockThread() {
  const end = performance.now() + 20;
  while (performance.now() < end);
}

/** Returns whether the lock is free, without a promise. */
function isFree(path: string): boolean {
  using file = new Lock(path).tryAcquireSync();
  return file !== null;
}

test("RLock is held until it is released as often as it was acquired", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path);
  await lock.acquire();
  lock.acquireSync();
  assert.ok(await lock.tryAcquire());
  assert.ok(lock.tryAcquireSync());
  assert.equal(openDescriptors(dir.path), 1);
  for (let left = 4; left > 0; left--) {
    assert.equal(lock.locked, true);
    assert.equal(isFree(path), false);
    if (left % 2) await lock.release();
    else lock.releaseSync();
  }
  assert.equal(lock.locked, false);
  assert.ok(isFree(path));
  assert.equal(openDescriptors(dir.path), 0);
});

test("RLock counts each LockedFile once, even if it is closed repeatedly", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path, { mode: "a+" });
  const first = await lock.acquire();
  const second = lock.acquireSync();
  const third = await lock.acquire();
  await second.close();
  await second.close();
  second.closeSync();
  await first.writeText("written");
  assert.equal(await third.readText(), "written");
  await assert.rejects(second.readText(), { code: "EBADF" });
  first.closeSync();
  assert.equal(isFree(path), false);
  await third.close();
  assert.ok(isFree(path));
});

test("RLock that two tasks wait for is shared by both tasks", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path, { timeout: 3000 });
  const holder = await new Lock(path).acquire();
  using waits = observeWaits();
  const both = [lock.acquire(), lock.acquire()] as const;
  await waits.begun(2);
  await holder.close();
  const [first, second] = await Promise.all(both);
  await first.close();
  assert.ok(!isFree(path));
  await second.close();
  assert.ok(isFree(path));
});

test("RLock.release() without an acquisition throws LockException", async () => {
  using dir = tempDir();
  const lock = new RLock(join(dir.path, "a.lock"));
  const refused = {
    name: "LockException",
    path: lock.path,
    message:
      /^Cannot release ".*a\.lock": it is not held; call release\(\) once/,
  };
  await assert.rejects(lock.release(), refused);
  assert.throws(() => lock.releaseSync(), refused);
  await lock.acquire();
  await lock.acquire();
  await Promise.all([lock.release(), lock.release()]);
  await assert.rejects(lock.release(), refused);
  assert.throws(() => lock.releaseSync(), refused);
  await lock.run(() => {});
  await assert.rejects(lock.release(), LockException);
});

test("RLock.release() skips acquisitions that are already being released", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path, { mode: "r+" });
  fs.writeFileSync(path, "x");
  let read!: () => void;
  const slow = new Promise<void>((resolve) => read = resolve);
  await withPatchedFiles(() => ({
    read: () => slow.then(() => 0),
  }), async () => {
    const first = await lock.acquire();
    const second = await lock.acquire();
    const reading = second.read(new Uint8Array(1));
    const closing = second.close();
    lock.releaseSync();
    await assert.rejects(first.stat(), { code: "EBADF" });
    await assert.rejects(lock.release(), LockException);
    assert.throws(() => lock.releaseSync(), LockException);
    assert.equal(lock.locked, true);
    read();
    await Promise.all([reading, closing]);
  });
  assert.equal(lock.locked, false);
  assert.ok(isFree(path));
});

test("RLock.acquire() of a held lock neither unlocks it nor conflicts with it", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path, { timeout: 0 });
  const calls: string[] = [];
  await withPatchedPlatform((real) => ({
    open: (...how) => (calls.push("open"), real.open(...how)),
    openSync: (...how) => (calls.push("openSync"), real.openSync(...how)),
  }), () =>
    withPatchedFiles((real) => ({
      tryLock: (exclusive) => (calls.push("tryLock"), real.tryLock(exclusive)),
      unlock: () => (calls.push("unlock"), real.unlock()),
    }), async () => {
      await lock.acquire();
      assert.deepEqual(calls.splice(0), ["open", "tryLock"]);
      await (await lock.acquire()).close();
      lock.acquireSync().closeSync();
      await (await lock.tryAcquire())!.close();
      lock.tryAcquireSync()!.closeSync();
      await lock.run(() => lock.run(() => {}));
      assert.deepEqual(calls, []);
      assert.equal(isFree(path), false);
      calls.length = 0;
      await lock.release();
      assert.deepEqual(calls, ["unlock"]);
    }));
});

test("RLock.run() starts at once inside another run, at any depth", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path, { timeout: 0 });
  const nested = async (depth: number): Promise<number> => {
    if (depth === 0) return 1;
    return await lock.run(async (file) => {
      assert.equal(file.path, path);
      await delay(1);
      await new Promise<void>((resolve) => setTimeout(resolve, 0));
      const inner = await Promise.all([nested(depth - 1), nested(depth - 1)]);
      assert.equal(isFree(path), false);
      return inner[0] + inner[1];
    });
  };
  assert.equal(await nested(4), 16);
  assert.equal(lock.locked, false);
  assert.ok(isFree(path));
});

test("RLock.run() of other tasks waits in FIFO order", async () => {
  using dir = tempDir();
  const lock = new RLock(join(dir.path, "a.lock"));
  let inside = 0;
  const order: number[] = [];
  await Promise.all(Array.from({ length: 100 }, (_, i) =>
    lock.run(async () => {
      assert.equal(++inside, 1);
      await delay(i % 7 === 0 ? 1 : 0);
      await lock.run(() => lock.run(() => delay(0)));
      order.push(i);
      assert.equal(inside--, 1);
    })));
  assert.deepEqual(order, Array.from({ length: 100 }, (_, i) => i));
  assert.equal(lock.locked, false);
});

test("RLock.run() that outlives its outer run keeps the lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path);
  for (const still of [false, true]) {
    const end = deferred();
    let nested!: Promise<void>;
    let isIn = false;
    await lock.run(() => {
      if (still) blockThread();
      nested = lock.run(() => end.promise);
    });
    assert.equal(isFree(path), false);
    const other = lock.run(() => isIn = true);
    await delay(10);
    assert.equal(isIn, false, "another task ran in between");
    assert.equal(isFree(path), false);
    end.resolve();
    await nested;
    await other;
    assert.ok(isIn);
    assert.ok(isFree(path));
  }
});

test("RLock.run() called by the rest of an ended run waits its turn", async () => {
  using dir = tempDir();
  const lock = new RLock(join(dir.path, "a.lock"));
  const ended = deferred();
  let late!: Promise<string>;
  const order: string[] = [];
  await lock.run(() => {
    late = ended.promise.then(() => lock.run(() => (order.push("late"), "in")));
  });
  const inside = deferred();
  const other = lock.run(async () => {
    await inside.promise;
    order.push("other");
  });
  ended.resolve();
  await delay(5);
  assert.deepEqual(order, []);
  inside.resolve();
  await other;
  assert.equal(await late, "in");
  assert.deepEqual(order, ["other", "late"]);
});

test("RLock.run() whose body throws releases its own acquisition only", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path);
  const error = new Error("from the body");
  const same = (thrown: unknown) => thrown === error;
  await assert.rejects(lock.run(() => Promise.reject(error)), same);
  assert.ok(isFree(path));
  await lock.run(async () => {
    await assert.rejects(
      lock.run(() => {
        throw error;
      }),
      same,
    );
    assert.equal(isFree(path), false);
  });
  assert.ok(isFree(path));
  await lock.run(() => {});
});

test("RLock.run() releases nothing else when its body has released the lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path);
  await lock.acquire();
  await lock.run(async () => {
    await lock.release();
    assert.equal(isFree(path), false);
  });
  assert.equal(isFree(path), false);
  await lock.release();
  assert.ok(isFree(path));
});

test("RLock.acquire() shares the lock with a run of another task", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path, { timeout: 0 });
  const end = deferred();
  const inside = deferred();
  const running = lock.run(() => (inside.resolve(), end.promise));
  await inside.promise;
  const file = await lock.acquire();
  end.resolve();
  await running;
  assert.equal(isFree(path), false);
  await file.close();
  assert.ok(isFree(path));
});

test("RLock throws as Lock does when another process holds the lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path);
  const aborted = (reason: unknown) => reason === "enough";
  {
    await using _held = await new Lock(path).acquire();
    const soon = { timeout: SHORT_WAIT_MS };
    await assert.rejects(lock.acquire(soon), AlreadyLocked);
    await assert.rejects(lock.run(() => {}, soon), AlreadyLocked);
    await assert.rejects(lock.acquire({ failWhenLocked: true }), AlreadyLocked);
    assert.throws(() => lock.acquireSync({ timeout: 5 }), AlreadyLocked);
    assert.equal(await lock.tryAcquire(), null);
    assert.equal(lock.tryAcquireSync(), null);
    const controller = new AbortController();
    const { signal } = controller;
    using waits = observeWaits();
    const waiting = [lock.acquire({ signal }), lock.run(() => {}, { signal })];
    await waits.begun(2);
    const behind = /already locked, and waited for through this same object/;
    await assert.rejects(lock.acquire({ timeout: 0 }), behind);
    assert.throws(() => lock.acquireSync(), behind);
    assert.equal(await lock.tryAcquire(), null);
    controller.abort("enough");
    for (const each of waiting) await assert.rejects(each, aborted);
    assert.equal(lock.locked, false);
    await waitForDescriptors(dir.path, 1);
  }
  await lock.run(() => lock.acquireSync().closeSync());
  assert.equal(openDescriptors(dir.path), 0);
});

test("RLock rejects attempts of other tasks, but not of the holder", async () => {
  using dir = tempDir();
  const lock = new RLock(join(dir.path, "a.lock"));
  const end = deferred();
  const signal = AbortSignal.abort("enough");
  const aborted = (reason: unknown) => reason === "enough";
  const inside = deferred();
  const running = lock.run(async () => {
    await lock.run(() => lock.acquireSync().closeSync(), { timeout: 0 });
    await (await lock.tryAcquire())!.close();
    await assert.rejects(lock.run(() => {}, { signal }), aborted);
    await assert.rejects(lock.acquire({ signal }), aborted);
    assert.throws(() => lock.acquireSync({ signal }), aborted);
    inside.resolve();
    await end.promise;
  });
  await inside.promise;
  const byAnother = /already locked by another task through this same object/;
  await assert.rejects(lock.run(() => {}, { timeout: 0 }), byAnother);
  await assert.rejects(lock.run(() => {}, { timeout: 5 }), byAnother);
  await assert.rejects(lock.run(() => {}, { failWhenLocked: true }), byAnother);
  await assert.rejects(lock.run(() => {}, { signal }), aborted);
  end.resolve();
  await running;
  await lock.run(() => {});
});

test("RLock.run() keeps the order of the other waiters when waiters time out or abort", async () => {
  using dir = tempDir();
  const lock = new RLock(join(dir.path, "a.lock"));
  const end = deferred();
  const controller = new AbortController();
  const order: string[] = [];
  const enter = async (name: string, options: object) => {
    try {
      await lock.run(() => order.push(name), options);
    } catch {
      order.push(`not ${name}`);
    }
  };
  const first = lock.run(() => end.promise);
  const all = [
    enter("a", { timeout: 20 }),
    enter("b", {}),
    enter("c", { signal: controller.signal }),
    enter("d", {}),
  ];
  while (order.length < 1) await delay(1);
  controller.abort();
  while (order.length < 2) await delay(1);
  end.resolve();
  await first;
  await Promise.all(all);
  assert.deepEqual(order, ["not a", "not c", "b", "d"]);
  assert.equal(openDescriptors(dir.path), 0);
});

test("RLock.run() aborted at its turn passes the turn to the next task", async () => {
  using dir = tempDir();
  const lock = new RLock(join(dir.path, "a.lock"));
  const end = deferred();
  const first = lock.run(() => end.promise);
  const controller = new AbortController();
  const { signal } = controller;
  using waits = observeWaits();
  const aborted = lock.run(() => controller.abort("late"), { signal });
  const next = lock.run(() => "in");
  await waits.begun(2);
  end.resolve();
  await first;
  controller.abort("late");
  await aborted.catch((reason) => assert.equal(reason, "late"));
  assert.equal(await next, "in");
});

test("RLock.run() that fails to acquire lets the next task try", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path);
  const elsewhere = await new Lock(path).acquire();
  const first = lock.run(() => "first", { timeout: SHORT_WAIT_MS });
  const second = lock.run(() => "second");
  await assert.rejects(first, AlreadyLocked);
  await elsewhere.close();
  assert.equal(await second, "second");
});

test("RLock that cannot open its file holds nothing", async () => {
  using dir = tempDir();
  const lock = new RLock(join(dir.path, "no", "a.lock"));
  for (let i = 0; i < 2; i++) {
    await assert.rejects(lock.run(() => {}), { code: "ENOENT" });
    await assert.rejects(lock.acquire(), { code: "ENOENT" });
    assert.throws(() => lock.acquireSync(), { code: "ENOENT" });
  }
  assert.equal(lock.locked, false);
});

test("disposing an RLock releases every acquisition", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  {
    await using lock = new RLock(path);
    await lock.acquire();
    await lock.acquire();
  }
  assert.ok(isFree(path));
  {
    using lock = new RLock(path);
    lock.acquireSync();
    lock.acquireSync();
  }
  assert.ok(isFree(path));
  await using _unused = new RLock(path);
});

test("RLock with LOCK_SH shares with readers and counts", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new RLock(path, { flags: SHARED });
  await lock.run(async () => {
    await lock.acquire();
    await using _reader = await new RLock(path, { flags: SHARED }).acquire();
    assert.equal(isFree(path), false);
  });
  assert.equal(isFree(path), false);
  await lock.release();
  assert.ok(isFree(path));
});

test("RLock excludes other processes until its last release", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using child = LockProcess.start(runtime);
    for (let i = 0; i < 3; i++) await child.call("hold", "RLock", path);
    for (let i = 0; i < 3; i++) {
      assert.equal(await new RLock(path).tryAcquire(), null);
      await child.call("drop");
    }
    await new RLock(path).run(async () => {
      assert.equal(await child.call("attempt", "RLock", path), false);
    });
    assert.equal(await child.call("attempt", "RLock", path), true);
  }
});

test("RLock that is acquired more than once rejects relock()", async () => {
  using dir = tempDir();
  const lock = new RLock(join(dir.path, "a.lock"), { flags: SHARED });
  const one = await lock.acquire();
  const two = await lock.acquire();
  const refused = { code: "ENOTSUP", message: /acquired more than once/ };
  await assert.rejects(one.relock(LOCK_EX), refused);
  assert.throws(() => two.relockSync(LOCK_EX), refused);
  assert.equal(await one.relock(LOCK_SH), true);
  await two.close();
  await one.relock(LOCK_EX);
  await one.close();
  assert.equal(openDescriptors(dir.path), 0);
});

test("RLock.acquire() waits during relock(), then shares the lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const reader = new Lock(path, { flags: SHARED }).acquireSync();
  const lock = new RLock(path, { flags: SHARED });
  const file = await lock.acquire();
  using waits = observeWaits();
  const upgrade = file.relock(LOCK_EX, { timeout: 10_000 });
  await waits.begun();
  assert.equal(await lock.tryAcquire(), null);
  assert.throws(() => lock.acquireSync(), AlreadyLocked);
  const waiting = lock.acquire({ timeout: 10_000 });
  await waits.begun(2);
  reader.closeSync();
  await upgrade;
  const again = await waiting;
  assert.equal(openDescriptors(path), openDescriptors(dir.path));
  assert.equal(isFree(path), false);
  await file.close();
  assert.equal(isFree(path), false);
  await again.close();
  assert.equal(isFree(path), true);
  assert.equal(openDescriptors(dir.path), 0);
});

test("RLock is acquired again when relock() has lost the lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  let lost = false;
  await withPatchedFiles((real) => ({
    tryLock: (exclusive) => !lost && !exclusive && real.tryLock(exclusive),
    unlock: () => (lost = true, real.unlock()),
  }), async () => {
    const lock = new RLock(path, { flags: SHARED, checkInterval: 20 });
    const file = await lock.acquire();
    const change = file.relock(LOCK_EX, { timeout: 10 });
    const waiting = lock.acquire({ timeout: 10_000 });
    await assert.rejects(change, /the lock it had is lost/);
    assert.equal(await lock.tryAcquire(), null);
    lost = false;
    const again = await waiting;
    await again.close();
    assert.equal(lock.locked, false);
  });
  assert.equal(openDescriptors(dir.path), 0);
});
