import { errorCode } from "../../ffi/types.ts";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { setImmediate, setTimeout as delay } from "node:timers/promises";
import type { OpenMode, Platform, PlatformFile } from "../../ffi/types.ts";
import { AlreadyLocked, type BoundedSemaphore, Lock } from "../../mod.ts";
import type { LockedFile } from "../../mod.ts";
import {
  countWatches,
  openDescriptors,
  waitForDescriptors,
} from "../support/descriptors.ts";
import { hasCapability } from "../support/capabilities.ts";
import { runtimes } from "../support/env.ts";
import {
  lockOutsideLibrary,
  systemError,
  withPatchedFiles,
  withPatchedPlatform,
} from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { LONG_MS, slots } from "../support/slots.ts";
import { test } from "../support/test.ts";
import {
  activeTimers,
  countBalance,
  disablePolling,
} from "../support/timers.ts";
import { at } from "../support/values.ts";
import { observeWaits, SHORT_WAIT_MS } from "../support/waits.ts";

const FORMS = ["acquire", "acquireSync"] as const;

/** Returns whether a promise settles within two turns of the event loop. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  promise.then(() => settled = true, () => {});
  await setImmediate();
  await setImmediate();
  return settled;
}

test("a waiter is woken by the release of any slot", async () => {
  using dir = slots();
  using polling = disablePolling(0);
  for (const which of [0, 1, 2]) {
    const held = [0, 1, 2].map(dir.lockOutside);
    const { sleeps } = polling;
    const waiting = dir.semaphore(3).acquire();
    await polling.untilAsleep(sleeps + 1);
    assert.equal(await isSettled(waiting), false);
    at(held, which).release();
    const slot = await waiting;
    assert.equal(slot.path, dir.path(which));
    await slot.close();
    for (const holder of held) holder.release();
  }
  assert.equal(dir.open(), 0);
}, "inotify(7)");

test(
  "a waiter is woken by a release in its own thread without inotify(7)",
  async () => {
    using dir = slots();
    using polling = disablePolling(0);
    await withPatchedFiles(() => ({ watchClose: () => null }), async () => {
      const [holder, other] = [dir.semaphore(2), dir.semaphore(2)];
      for (const waiter of [holder, other]) {
        await holder.acquire();
        const slot = await holder.acquire();
        const { sleeps } = polling;
        const waiting = waiter.acquire();
        await polling.untilAsleep(sleeps + 1);
        assert.equal(await isSettled(waiting), false);
        await slot.close();
        await waiting;
        await holder[Symbol.asyncDispose]();
        await other[Symbol.asyncDispose]();
      }
    });
  },
  "file descriptors",
);

for (const form of FORMS) {
  test(
    `a waiter misses no release of a slot between attempt and sleep (${form})`,
    async () => {
      using dir = slots();
      using _polling = disablePolling(0);
      for (const moment of [3, 4, 6, 7, 9]) {
        const held = [0, 1, 2].map(dir.lockOutside);
        let attempts = 0;
        const hooks = (file: PlatformFile) => ({
          tryLock(exclusive: boolean) {
            const locked = file.tryLock(exclusive);
            if (++attempts === moment) {
              for (const { release } of held) release();
            }
            return locked;
          },
        });
        await withPatchedFiles(hooks, async () => {
          await (await dir.semaphore(3)[form]()).close();
        });
        assert.ok(attempts > moment || moment === 9, "released too late");
        for (const { release } of held) release();
      }
      assert.equal(dir.open(), 0);
    },
    "inotify(7)",
  );
}

test(
  "two semaphores of one thread are both woken",
  async () => {
    using dir = slots();
    using polling = disablePolling(0);
    const held = [0, 1].map(dir.lockOutside);
    const all = [dir.semaphore(2), dir.semaphore(2)];
    const waiting = all.map((semaphore) => semaphore.acquire());
    await polling.untilAsleep(2);
    at(held, 1).release();
    const first = await Promise.race(waiting);
    assert.equal(first.path, dir.path(1));
    assert.equal(all.filter(({ locked }) => locked).length, 1);
    at(held, 0).release();
    for (const slot of waiting) await (await slot).close();
    assert.equal(dir.open(), 0);
    await setImmediate();
    assert.equal(countWatches(), 0);
  },
  "inotify(7)",
  "/proc",
);

for (const order of [[2, 3], [3, 2]]) {
  test(
    `semaphores of one thread with different maximums are both woken (${order})`,
    async () => {
      using dir = slots();
      using polling = disablePolling(0);
      const held = [0, 1, 2].map(dir.lockOutside);
      const waiting = new Map<number, Promise<LockedFile>>();
      for (const maximum of order) {
        waiting.set(maximum, dir.semaphore(maximum).acquire());
      }
      const lock = new Lock(dir.path(0), { timeout: LONG_MS }).acquire();
      await polling.untilAsleep(3);
      at(held, 2).release();
      assert.equal((await waiting.get(3)!).path, dir.path(2));
      at(held, 1).release();
      assert.equal((await waiting.get(2)!).path, dir.path(1));
      at(held, 0).release();
      await (await lock).close();
      for (const slot of waiting.values()) await (await slot).close();
      assert.equal(dir.open(), 0);
      await setImmediate();
      assert.equal(countWatches(), 0);
    },
    "inotify(7)",
    "/proc",
  );
}

test(
  "two slots that are released together wake two waiters",
  async () => {
    using dir = slots();
    using polling = disablePolling(0);
    const held = [0, 1].map(dir.lockOutside);
    const semaphore = dir.semaphore(2);
    const tasks = [semaphore.acquire(), semaphore.acquire()];
    await polling.untilAsleep(2);
    for (const holder of held) holder.release();
    for (const slot of await Promise.all(tasks)) await slot.close();
    // Two processes are woken, too.
    for (const holder of runtimes) {
      await using child = LockProcess.start(holder);
      await using waiter = LockProcess.start(at(runtimes, 0));
      await waiter.call("disablePolling", 0);
      await child.call("acquireSlot", 2, dir.options);
      await child.call("acquireSlot", 2, dir.options);
      const ours = semaphore.acquire();
      const theirs = waiter.call("acquireSlot", 2, dir.options);
      await waiter.untilAsleep();
      await child.call("releaseSlots");
      assert.notEqual((await ours).path, await theirs, holder.name);
      await semaphore.release();
    }
    assert.equal(dir.open(), 0);
  },
  "inotify(7)",
);

test(
  "tasks of one semaphore acquire in FIFO order",
  async () => {
    using dir = slots();
    const semaphore = dir.semaphore(3);
    const held = [0, 1, 2].map(dir.lockOutside);
    const order: number[] = [];
    using waits = observeWaits();
    const waiting = Array.from({ length: 30 }, async (_, i) => {
      const slot = await semaphore.acquire();
      order.push(i);
      // A later waiter does not overtake earlier ones.
      if (i < 3) waiting.push(semaphore.run(() => void order.push(100 + i)));
      await setImmediate();
      await slot.close();
    });
    await waits.begun(30);
    for (const holder of held) holder.release();
    for (const one of waiting) await one;
    assert.deepEqual(order, [
      ...Array.from({ length: 30 }, (_, i) => i),
      ...[100, 101, 102],
    ]);
    assert.equal(dir.open(), 0);
  },
);

test(
  "BoundedSemaphore.acquireSync() acquires before asynchronous waiters, which are woken later",
  async () => {
    using dir = slots();
    using polling = disablePolling(0);
    const held = [0, 1].map(dir.lockOutside);
    const semaphore = dir.semaphore(2);
    const waiting = semaphore.acquire();
    await polling.untilAsleep();
    assert.equal(await isSettled(waiting), false);
    let attempts = 0;
    const hooks = (file: PlatformFile) => ({
      tryLock(exclusive: boolean) {
        // The thread is blocked from now on, so only the kernel can wake it.
        if (++attempts === 6) at(held, 0).release();
        return file.tryLock(exclusive);
      },
    });
    await withPatchedFiles(hooks, () => {
      assert.equal(semaphore.acquireSync().path, dir.path(0));
    });
    // The release has woken the asynchronous waiter, too.
    await polling.untilAsleep(polling.sleeps + 1);
    assert.equal(await isSettled(waiting), false);
    at(held, 1).release();
    assert.equal((await waiting).path, dir.path(1));
    await semaphore[Symbol.asyncDispose]();
    assert.equal(dir.open(), 0);
  },
  "inotify(7)",
);

test("aborts and timeouts keep the order of a semaphore's other waiters", async () => {
  using dir = slots();
  using timers = activeTimers();
  const held = [0, 1].map(dir.lockOutside);
  const semaphore = dir.semaphore(2);
  const order: string[] = [];
  const inside: LockedFile[] = [];
  const enter = (name: string, options: object = {}) =>
    semaphore.acquire(options).then((slot) => {
      order.push(name);
      inside.push(slot);
    });
  const controllers = ["head", "middle", "last"].map(() =>
    new AbortController()
  );
  const [head, middle, last] = controllers.map(({ signal }) => signal);
  const rejected = [assert.rejects(enter("head", { signal: head }))];
  const first = enter("first");
  rejected.push(assert.rejects(enter("middle", { signal: middle })));
  rejected.push(assert.rejects(enter("late", { timeout: 20 }), AlreadyLocked));
  const second = enter("second");
  rejected.push(assert.rejects(enter("last", { signal: last })));
  for (const controller of controllers.reverse()) controller.abort("enough");
  await Promise.all(rejected);
  // Only the new head of the queue has its slots open.
  while (dir.open() < 4) await delay(1);
  await isSettled(first);
  assert.equal(dir.open(), 4);
  for (const holder of held) holder.release();
  await Promise.all([first, second]);
  assert.deepEqual(order, ["first", "second"]);
  await semaphore[Symbol.asyncDispose]();
  assert.equal(dir.open(), 0);
  assert.equal(timers.size, 0);
  await setImmediate();
  assert.equal(countWatches(), 0);
});

test(
  "3,000 waits for slots that end at random moments leave no listener, timer or descriptor",
  async () => {
    using dir = slots();
    using timers = activeTimers();
    const shared = dir.semaphore(3);
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
      const semaphore = i % 3 ? shared : dir.semaphore(3);
      const moment = Math.random() * 4;
      const timer = i % 2 ? setTimeout(() => controller.abort(i), moment) : 0;
      try {
        const timeout = timer ? LONG_MS : moment;
        const slot = await semaphore.acquire({ timeout, signal });
        assert.ok(++inside <= 3);
        acquired++;
        if (i % 5 === 0) await delay(Math.random());
        inside--;
        await slot.close();
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
    for (let i = 0; ended < 3000; i += 60) {
      await Promise.all(Array.from({ length: 60 }, (_, k) => attempt(i + k)));
    }
    assert.ok(acquired > 0);
    assert.equal(listeners, 0);
    assert.equal(timers.size, 0);
    await waitForDescriptors(dir.directory, 0);
    await setImmediate();
    assert.equal(countWatches(), 0);
    for (let i = 0; i < 3; i++) assert.ok(shared.tryAcquireSync());
    shared[Symbol.dispose]();
  },
);

test("100 tasks that wait for 10 slots have at most 10 files open", async () => {
  using dir = slots();
  const semaphore = dir.semaphore(10);
  for (let i = 0; i < 10; i++) await semaphore.acquire();
  assert.equal(dir.open(), 10);
  using waits = observeWaits();
  const waiting = Array.from({ length: 100 }, () => semaphore.run(() => {}));
  await waits.begun(100);
  assert.equal(dir.open(), 20);
  await semaphore[Symbol.asyncDispose]();
  await Promise.all(waiting);
  assert.equal(dir.open(), 0);
});

test("an attempt that does not wait has at most one file open", async () => {
  using dir = slots();
  const holder = dir.semaphore(10);
  for (let i = 0; i < 10; i++) await holder.acquire();
  let [open, most] = [0, 0];
  const hooks = (file: PlatformFile) => {
    most = Math.max(most, ++open);
    return {
      close: () => (open--, file.close()),
      closeSync: () => (open--, file.closeSync()),
    };
  };
  await withPatchedFiles(hooks, async () => {
    const impatient = dir.semaphore(10, { timeout: 0 });
    assert.equal(await impatient.tryAcquire(), null);
    assert.equal(impatient.tryAcquireSync(), null);
    await assert.rejects(impatient.acquire(), AlreadyLocked);
  });
  assert.deepEqual([open, most], [0, 1]);
  await holder[Symbol.asyncDispose]();
});

/** The methods that acquire a slot. */
const METHODS: [string, (s: BoundedSemaphore) => unknown][] = [
  ["acquire()", (semaphore) => semaphore.acquire()],
  ["acquireSync()", (semaphore) => semaphore.acquireSync()],
  ["tryAcquire()", (semaphore) => semaphore.tryAcquire()],
  ["tryAcquireSync()", (semaphore) => semaphore.tryAcquireSync()],
];

/** Returns hooks that call a function before the first attempt to lock. */
const beforeFirstAttempt = (happens: () => void) => {
  let happened = false;
  return (file: PlatformFile) => ({
    tryLock(exclusive: boolean) {
      if (!happened) happens();
      happened = true;
      return file.tryLock(exclusive);
    },
  });
};

for (const [way, acquire] of METHODS) {
  test(`BoundedSemaphore.${way} does not hold a slot whose file was removed before it was locked`, async () => {
    for (const maximum of [1, 3]) {
      using dir = slots();
      const remove = () => {
        for (const name of fs.readdirSync(dir.directory)) {
          fs.unlinkSync(join(dir.directory, name));
        }
      };
      const semaphore = dir.semaphore(maximum);
      const slot = await withPatchedFiles(
        beforeFirstAttempt(remove),
        () => acquire(semaphore),
      ) as LockedFile;
      assert.equal(slot.statSync().ino, fs.statSync(slot.path).ino);
      assert.equal(dir.open(), 1);
      slot.closeSync();
    }
  });

  test(
    `BoundedSemaphore.${way} does not hold a slot whose file was replaced by another holder`,
    async () => {
      using dir = slots();
      let holder: { release(): void } | undefined;
      const replace = () => {
        const path = dir.path(0);
        fs.writeFileSync(`${path}.new`, "");
        holder = lockOutsideLibrary(`${path}.new`);
        fs.renameSync(`${path}.new`, path);
      };
      const semaphore = dir.semaphore(1, { timeout: SHORT_WAIT_MS });
      await withPatchedFiles(beforeFirstAttempt(replace), async () => {
        if (way.startsWith("try")) {
          assert.equal(await acquire(semaphore), null);
        } else {
          const attempt = async () => await acquire(semaphore);
          await assert.rejects(attempt, AlreadyLocked);
        }
      });
      assert.equal(semaphore.locked, false);
      holder!.release();
      assert.equal(dir.open(), 0);
      assert.ok(await acquire(semaphore));
      semaphore[Symbol.dispose]();
    },
    "replacing open files",
  );
}

test(
  "a waiter does not acquire a slot file that was replaced during the wait, and is woken by the new file",
  async () => {
    using dir = slots();
    using polling = disablePolling(0);
    const old = [0, 1].map(dir.lockOutside);
    const waiting = dir.semaphore(2).acquire();
    await polling.untilAsleep();
    fs.unlinkSync(dir.path(1));
    const replacement = dir.lockOutside(1);
    const { sleeps } = polling;
    at(old, 1).release();
    await polling.untilAsleep(sleeps + 1);
    assert.equal(await isSettled(waiting), false);
    replacement.release();
    const slot = await waiting;
    assert.equal(slot.path, dir.path(1));
    assert.equal(slot.statSync().ino, fs.statSync(slot.path).ino);
    await slot.close();
    at(old, 0).release();
    assert.equal(dir.open(), 0);
  },
  "inotify(7)",
);

for (const form of FORMS) {
  test(
    `BoundedSemaphore.${form}() gives up if every slot file is replaced again and again`,
    async () => {
      using dir = slots();
      const nowhere = () => ({ isStillAt: () => false });
      const failing = withPatchedFiles(
        nowhere,
        async () => await dir.semaphore(1)[form](),
      );
      await assert.rejects(failing, {
        name: "LockUnsupported",
        path: join(dir.directory, "s"),
        message: /another file after each open/,
      });
      assert.equal(dir.open(), 0);
    },
  );

  test(`BoundedSemaphore.${form}() unlocks a slot whose path cannot be checked`, async () => {
    using dir = slots();
    const error = systemError("EIO", 5);
    const failing = withPatchedFiles(() => ({
      isStillAt() {
        throw error;
      },
      // A copy of the descriptor stays open, so that closing alone does not
      // unlock.
      closeSync() {},
      close() {},
    }), async () => await dir.semaphore(1)[form]());
    await assert.rejects(failing, (thrown) => thrown === error);
    using slot = dir.semaphore(1).tryAcquireSync();
    assert.ok(slot);
  });

  test(
    `BoundedSemaphore.${form}() rejects a symbolic link at the path of a slot`,
    async () => {
      for (const content of ["precious", null]) {
        using dir = slots();
        const victim = join(dir.directory, "victim");
        if (content !== null) fs.writeFileSync(victim, content);
        fs.symlinkSync(victim, dir.path(0));
        const failing = async () => await dir.semaphore(1)[form]();
        await assert.rejects(failing, {
          code: "ELOOP",
          message: /^Cannot lock .+: it is a symbolic link, which .+ refuse; /,
        });
        await assert.rejects(dir.semaphore(1).tryAcquire(), { code: "ELOOP" });
        assert.equal(fs.existsSync(victim), content !== null);
        if (content !== null) {
          assert.equal(fs.readFileSync(victim, "utf8"), content);
          assert.notEqual(new Lock(victim).tryAcquireSync()?.closeSync(), null);
        }
        assert.equal(dir.open(), 0);
      }
    },
    "symbolic links",
  );

  test(
    `BoundedSemaphore.${form}() acquires slots of another user if the permissions allow it`,
    async () => {
      using dir = slots();
      for (const slot of [0, 1]) {
        fs.writeFileSync(dir.path(slot), "", { mode: 0o644 });
      }
      fs.writeFileSync(join(dir.directory, "t.00.lock"), "", { mode: 0o600 });
      fs.chmodSync(dir.directory, 0o755);
      const root = dir.lockOutside(0);
      process.seteuid!(65534);
      try {
        const [semaphore, other] = [dir.semaphore(2), dir.semaphore(2)];
        assert.equal((await semaphore[form]()).path, dir.path(1));
        assert.equal(other.tryAcquireSync(), null);
        root.release();
        assert.equal((await other[form]()).path, dir.path(0));
        assert.equal(dir.semaphore(2).tryAcquireSync(), null);
        semaphore[Symbol.dispose]();
        other[Symbol.dispose]();
        const closed = dir.semaphore(1, { name: "t" });
        await assert.rejects(async () => await closed[form](), {
          code: "EACCES",
          message: /owned by user 0/,
        });
        const missing = dir.semaphore(1, { name: "u" });
        await assert.rejects(async () => await missing[form](), {
          code: "EACCES",
        });
      } finally {
        process.seteuid!(0);
      }
      assert.equal(dir.open(), 0);
    },
    "root",
    "permission bits",
  );
}

test(
  "semaphores of different names do not consume each other's wakeups",
  async () => {
    using dir = slots();
    using polling = disablePolling(0);
    const names = ["s", "t"];
    const held = names.map((name) =>
      lockOutsideLibrary(join(dir.directory, `${name}.00.lock`))
    );
    const waiting = names.map((name) => dir.semaphore(1, { name }).acquire());
    await polling.untilAsleep(2);
    for (const which of [1, 0]) {
      at(held, which).release();
      await (await at(waiting, which)).close();
    }
    assert.equal(dir.open(), 0);
  },
  "inotify(7)",
);

for (const form of FORMS) {
  test(`BoundedSemaphore.${form}() acquires by polling if nothing reports the release`, async () => {
    using dir = slots();
    const held = dir.lockOutside(0);
    let attempts = 0;
    await withPatchedFiles((file) => ({
      watchClose: () => null,
      tryLock(exclusive) {
        if (++attempts === 5) held.release();
        return file.tryLock(exclusive);
      },
    }), async () => {
      await (await dir.semaphore(1)[form]()).close();
    });
    assert.equal(dir.open(), 0);
  });

  test(`BoundedSemaphore.${form}() acquires although another slot cannot be unlocked`, async () => {
    using dir = slots();
    const held = [0, 1].map(dir.lockOutside);
    let attempts = 0;
    await withPatchedFiles((file) => ({
      tryLock(exclusive) {
        if (++attempts === 5) at(held, 0).release();
        return file.tryLock(exclusive);
      },
      unlock() {
        throw systemError("EIO", 5);
      },
    }), async () => {
      const slot = await dir.semaphore(2)[form]();
      assert.equal(dir.open(), 2);
      await slot.close();
    });
    at(held, 1).release();
    assert.equal(dir.open(), 0);
  });

  test(
    `BoundedSemaphore.${form}() rejects a directory at the path of a slot`,
    async () => {
      using dir = slots();
      fs.mkdirSync(dir.path(0));
      const failing = async () => await dir.semaphore(1)[form]();
      await assert.rejects(failing, { code: "EISDIR" });
      assert.equal(dir.open(), 0);
    },
    "POSIX error codes",
  );

  test(
    `BoundedSemaphore.${form}() rejects a symbolic link that appears while it opens a slot`,
    async () => {
      using dir = slots();
      const victim = join(dir.directory, "victim");
      fs.writeFileSync(victim, "");
      const denied = () => {
        fs.symlinkSync(victim, dir.path(0));
        return systemError("EACCES", 13);
      };
      let opened = 0;
      await withPatchedPlatform((real) => ({
        open: (...how) =>
          opened++ ? real.open(...how) : Promise.reject(denied()),
        openSync(...how) {
          if (opened++) return real.openSync(...how);
          throw denied();
        },
      }), () =>
        assert.rejects(async () => await dir.semaphore(1)[form](), {
          message: /injected EACCES/,
        }));
      assert.equal(opened, 2);
      assert.equal(dir.open(), 0);
    },
    "symbolic links",
  );
}

test("a release of a slot that fails wakes the next waiter", async () => {
  using dir = slots();
  using polling = disablePolling(0);
  await withPatchedFiles((file) => ({
    watchClose: () => null,
    unlock() {
      file.unlock();
      throw systemError("EIO", 5);
    },
  }), async () => {
    const semaphore = dir.semaphore(1, { throwOnReleaseError: true });
    const slot = await semaphore.acquire();
    const waiting = dir.semaphore(1).acquire();
    await polling.untilAsleep();
    assert.equal(await isSettled(waiting), false);
    await assert.rejects(slot.close(), { code: "EIO" });
    await (await waiting).close();
  });
}, "file descriptors");

test("holders of a semaphore do not all try the same slot first", async () => {
  using dir = slots();
  const paths = new Set<string>();
  for (let i = 0; i < 100; i++) {
    await dir.semaphore(4).run(({ path }) => void paths.add(path));
  }
  assert.equal(paths.size, 4);
});

test(
  "an attempt that does not wait asks the kernel, even if others wait",
  async () => {
    using dir = slots();
    using polling = disablePolling(0);
    await withPatchedFiles(() => ({ watchClose: () => null }), async () => {
      const held = dir.lockOutside(0);
      const semaphore = dir.semaphore(1);
      const waiting = semaphore.acquire();
      await polling.untilAsleep();
      assert.equal(await semaphore.tryAcquire(), null);
      // The release notifies no waiter.
      held.release();
      const slot = await semaphore.tryAcquire();
      assert.ok(slot);
      await slot.close();
      await (await waiting).close();
    });
    assert.equal(dir.open(), 0);
  },
  "file descriptors",
);

/** Runs a body in each of some working directories, one after the other. */
function inDirectories<T>(
  directories: string[],
  body: (directory: string) => T,
): T[] {
  const before = process.cwd();
  try {
    return directories.map((directory) => {
      process.chdir(directory);
      return body(directory);
    });
  } finally {
    process.chdir(before);
  }
}

test(
  "semaphores of one relative directory in two working directories do not wait for each other",
  async () => {
    using one = slots();
    using two = slots();
    using polling = disablePolling(0);
    const held = [one, two].map((dir) => dir.lockOutside(0));
    const [first, second] = inDirectories(
      [one.directory, two.directory],
      () => one.semaphore(1, { directory: "." }).acquire(),
    );
    await polling.untilAsleep(2);
    at(held, 1).release();
    await (await second!).close();
    assert.equal(await isSettled(first!), false);
    at(held, 0).release();
    await (await first!).close();
    assert.equal(one.open() + two.open(), 0);
  },
  "inotify(7)",
);

for (const form of FORMS) {
  test(`BoundedSemaphore.${form}() of a relative directory uses the same slots after the working directory has changed`, async () => {
    using dir = slots();
    using elsewhere = slots();
    const [semaphore] = inDirectories(
      [dir.directory, elsewhere.directory],
      () => dir.semaphore(2, { directory: ".", timeout: 0 }),
    );
    const before = process.cwd();
    process.chdir(elsewhere.directory);
    try {
      const names = ["s.00.lock", "s.01.lock"];
      assert.deepEqual(semaphore!.paths.map((path) => basename(path)), names);
      const slot = await semaphore![form]();
      assert.ok(semaphore!.paths.includes(slot.path));
      await using _other = await dir.semaphore(2).acquire();
      const holderPid = hasCapability("inotify(7)") ? process.pid : null;
      await assert.rejects(async () => await semaphore![form](), { holderPid });
      slot.closeSync();
    } finally {
      process.chdir(before);
    }
    assert.deepEqual(fs.readdirSync(elsewhere.directory), []);
    assert.equal(dir.open(), 0);
  });

  test(
    `BoundedSemaphore.${form}() acquires the slots of a read-only file system`,
    async () => {
      using dir = slots();
      const readOnly = join(dir.directory, "ro");
      fs.mkdirSync(readOnly);
      for (const slot of [0, 1]) fs.writeFileSync(dir.path(slot), "");
      const mount = (...args: string[]) =>
        assert.equal(spawnSync("mount", args).status, 0);
      mount("--bind", dir.directory, readOnly);
      try {
        mount("-o", "remount,ro,bind", readOnly);
        const options = { directory: readOnly, timeout: 0 };
        const held = dir.lockOutside(0);
        // The third slot does not exist, and cannot be created.
        for (const maximum of [2, 3]) {
          const semaphore = dir.semaphore(maximum, options);
          const slot = await semaphore[form]();
          assert.equal(slot.path, join(readOnly, "s.01.lock"));
          assert.equal(dir.semaphore(2, { timeout: 0 }).tryAcquireSync(), null);
          const error = await refusal(semaphore, form);
          if (maximum === 3) assert.equal(causeCode(error), "EROFS");
          slot.closeSync();
        }
        const missing = dir.semaphore(2, { ...options, name: "none" });
        await assert.rejects(async () => await missing[form](), {
          code: "EROFS",
        });
        held.release();
        assert.equal(openDescriptors(readOnly), 0);
      } finally {
        spawnSync("umount", ["-l", readOnly]);
      }
    },
    "root that can mount",
  );

  test(
    `BoundedSemaphore.${form}() uses the other slots if one cannot be opened`,
    async () => {
      for (const code of SLOT_CODES) {
        using dir = slots();
        await withPatchedPlatform(
          (real) => refusingDirectories(real, code),
          async () => {
            fs.mkdirSync(dir.path(2));
            // The first slot that is tried is a random one.
            for (let i = 0; i < 50; i++) {
              (await dir.semaphore(4)[form]()).closeSync();
              const slot = dir.semaphore(4).tryAcquireSync();
              assert.ok(slot);
              slot.closeSync();
            }
            const holder = dir.semaphore(4);
            for (let i = 0; i < 3; i++) await holder.acquire();
            for (const timeout of [0, SHORT_WAIT_MS]) {
              const error = await refusal(dir.semaphore(4, { timeout }), form);
              assert.match(
                error.message,
                /: 3 of 4 slots are taken( by this process .*)?; .*s\.02\.lock"? cannot be opened \(\w+\) \(waited/,
              );
              assert.equal(causeCode(error), code);
              // A blocked thread would wait for itself.
              const deadlock = form === "acquireSync" && timeout > 0;
              assert.equal(error.code, deadlock ? "EDEADLK" : "EWOULDBLOCK");
              assert.ok(deadlock || error.waited >= timeout);
            }
            assert.equal(dir.semaphore(4).tryAcquireSync(), null);
            // The thread would wait for itself, so it does not.
            const own = await refusal(holder, "acquireSync");
            assert.match(
              own.message,
              /3 of 4 slots are taken through this same/,
            );
            assert.ok(own.waited < LONG_MS / 2);
            const waiting = dir.semaphore(4).acquire();
            assert.equal(await isSettled(waiting), false);
            await holder.release();
            await (await waiting).close();
            holder[Symbol.dispose]();
            for (const slot of [0, 1, 3]) {
              fs.rmSync(dir.path(slot));
              fs.mkdirSync(dir.path(slot));
            }
            await assert.rejects(
              async () => await dir.semaphore(4)[form](),
              { code },
            );
          },
        );
        assert.equal(dir.open(), 0);
      }
    },
  );

  test(`BoundedSemaphore.${form}() throws an error of the whole process at once`, async () => {
    using dir = slots();
    let opened = 0;
    const fail = () => {
      opened++;
      return systemError("EMFILE", 24);
    };
    await withPatchedPlatform(() => ({
      open: () => Promise.reject(fail()),
      openSync() {
        throw fail();
      },
    }), () =>
      assert.rejects(async () => await dir.semaphore(4)[form](), {
        code: "EMFILE",
      }));
    assert.equal(opened, 1);
  });
}

/** The codes that the systems report for a directory that is to be written. */
const SLOT_CODES = ["EISDIR", "EPERM"];

/** Refuses to open directories for writing. Wine does not. */
function refusingDirectories(
  real: Platform,
  code: string,
): Pick<Platform, "open" | "openSync"> {
  const check = (path: string, mode: OpenMode) => {
    const stats = fs.statSync(path, { throwIfNoEntry: false });
    if (mode.write && stats?.isDirectory()) throw systemError(code, 1);
  };
  return {
    open(path, mode, ...how) {
      check(path, mode);
      return real.open(path, mode, ...how);
    },
    openSync(path, mode, ...how) {
      check(path, mode);
      return real.openSync(path, mode, ...how);
    },
  };
}

async function refusal(
  semaphore: BoundedSemaphore,
  form: typeof FORMS[number],
): Promise<AlreadyLocked> {
  try {
    await semaphore[form]();
  } catch (error) {
    assert.ok(error instanceof AlreadyLocked, `${error}`);
    return error;
  }
  throw new Error("it was acquired");
}

function causeCode({ cause }: Error): unknown {
  return (cause as { code?: string } | undefined)?.code;
}
