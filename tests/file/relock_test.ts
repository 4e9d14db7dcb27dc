import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { PlatformFile } from "../../ffi/types.ts";
import { AlreadyLocked, Lock, LOCK_EX, LOCK_NB, LOCK_SH } from "../../mod.ts";
import { BoundedSemaphore, PidFileLock, TemporaryFileLock } from "../../mod.ts";
import { LOCK_UN } from "../../mod.ts";
import type { AcquireOptions, LockedFile, LockOptions } from "../../mod.ts";
import { abortReasons } from "../support/abort_reasons.ts";
import { type Capability, hasCapability } from "../support/capabilities.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { currentRuntime } from "../support/env.ts";
import { systemError, withPatchedFiles } from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { disablePolling } from "../support/timers.ts";
import { observeWaits } from "../support/waits.ts";

type Locker = NonNullable<LockOptions["locker"]>;

/**
 * The lockers that exclude within a process, and the capabilities they need.
 */
const LOCKERS: [Locker, ...Capability[]][] = [
  ["flock"],
  ["ofd", "record locks"],
];

/** The async and the sync form of one call. */
const FORMS: [
  string,
  (
    file: LockedFile,
    ...how: Parameters<LockedFile["relock"]>
  ) => Promise<boolean>,
][] = [
  ["relock()", (file, ...how) => file.relock(...how)],
  // deno-lint-ignore require-await -- a throw must become a rejection
  ["relockSync()", async (file, ...how) => file.relockSync(...how)],
];

/** Whether an upgrade without other holders is atomic. */
const ATOMIC_UPGRADE = hasCapability("atomic upgrades");

/** Creates a file, and locks with one locker on it. */
function lockFile(locker: Locker) {
  const dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = (flags: number, more: LockOptions = {}) =>
    new Lock(path, { mode: "a+", locker, flags: flags | LOCK_NB, ...more });
  return {
    path,
    dir: dir.path,
    reader: (more?: LockOptions) => lock(LOCK_SH, more).acquireSync(),
    writer: (more?: LockOptions) => lock(LOCK_EX, more).acquireSync(),
    lock,
    /** Returns whether a lock with these flags can be acquired. */
    canLock(flags: number): boolean {
      using file = lock(flags).tryAcquireSync();
      return file !== null;
    },
    [Symbol.dispose]: () => dir[Symbol.dispose](),
  };
}

/** Starts another process that shares the lock. */
async function otherReader(path: string, locker: Locker): Promise<LockProcess> {
  const other = LockProcess.start(currentRuntime);
  const flags = LOCK_SH | LOCK_NB;
  await other.call("acquire", path, { mode: "a+", flags, locker });
  return other;
}

for (const [locker, ...needs] of LOCKERS) {
  for (const [form, relock] of FORMS) {
    test(
      `${form} with "${locker}" is atomic without other holders`,
      async () => {
        using it = lockFile(locker);
        await using file = it.reader();
        assert.equal(it.canLock(LOCK_SH), true);
        assert.equal(await relock(file, LOCK_EX), ATOMIC_UPGRADE);
        assert.equal(it.canLock(LOCK_SH), false);
        assert.equal(await relock(file, LOCK_SH), true);
        assert.equal(it.canLock(LOCK_SH), true);
        assert.equal(it.canLock(LOCK_EX), false);
        assert.equal(await relock(file, LOCK_EX | LOCK_NB), ATOMIC_UPGRADE);
        await file.close();
        assert.equal(it.canLock(LOCK_EX), true);
      },
      ...needs,
    );

    test(
      `${form} with "${locker}" to the held lock type makes no system call`,
      async () => {
        using it = lockFile(locker);
        let calls = 0;
        const counts = (file: PlatformFile): Partial<PlatformFile> => ({
          tryLock: (exclusive) => (calls++, file.tryLock(exclusive)),
          unlock: () => (calls++, file.unlock()),
          wakeWatchers: () => (calls++, file.wakeWatchers()),
        });
        await withPatchedFiles(counts, async () => {
          for (const flags of [LOCK_SH, LOCK_EX]) {
            const file = it.lock(flags).acquireSync();
            calls = 0;
            assert.equal(await relock(file, flags), true);
            assert.equal(calls, 0);
            file.closeSync();
          }
        });
      },
      ...needs,
    );

    test(
      `${form} with "${locker}" throws AlreadyLocked and keeps the lock when the timeout expires`,
      async () => {
        using it = lockFile(locker);
        await using file = it.reader();
        await using other = await otherReader(it.path, locker);
        for (const flags of [LOCK_EX, LOCK_EX | LOCK_NB]) {
          await assert.rejects(
            relock(file, flags, { timeout: 300 }),
            (error) => {
              assert.ok(error instanceof AlreadyLocked);
              assert.match(error.message, /^Cannot relock .*: already locked/);
              assert.match(
                error.message,
                locker === "flock"
                  ? /; the lock it had is back, but was not held meanwhile$/
                  : /\(waited \d+ ms\)$/,
              );
              assert.equal(error.path, it.path);
              assert.equal(error.waited < 250, (flags & LOCK_NB) !== 0);
              return true;
            },
          );
          assert.equal(it.canLock(LOCK_SH), true);
        }
        await other.call("release");
        assert.equal(it.canLock(LOCK_EX), false);
        assert.equal(await relock(file, LOCK_EX), ATOMIC_UPGRADE);
      },
      ...needs,
    );

    test(
      `${form} with "${locker}" rejects invalid arguments and keeps the lock`,
      async () => {
        using it = lockFile(locker);
        const file = it.reader();
        const refuses = (flags: unknown, options: unknown, name: string) =>
          assert.rejects(
            relock(file, flags as number, options as AcquireOptions),
            { name },
          );
        for (const flags of [LOCK_UN, 0, LOCK_EX | LOCK_SH, 64]) {
          await refuses(flags, undefined, "RangeError");
        }
        await refuses("LOCK_EX", undefined, "TypeError");
        await refuses(LOCK_EX, { timeout: -1 }, "RangeError");
        await refuses(LOCK_EX | LOCK_NB, { check: 1 }, "TypeError");
        for (const aborting of abortReasons()) {
          aborting.abort();
          const { signal } = aborting;
          await aborting.rejects(relock(file, LOCK_EX, { signal }));
        }
        assert.equal(it.canLock(LOCK_SH), true);
        assert.equal(it.canLock(LOCK_EX), false);
        file.closeSync();
        await assert.rejects(relock(file, LOCK_EX), {
          name: "LockException",
          code: "EBADF",
          message: /^Cannot relock .* is closed/,
        });
      },
      ...needs,
    );

    test(
      `${form} with "${locker}" reports the system's error and keeps the lock`,
      async () => {
        using it = lockFile(locker);
        const fails = (file: PlatformFile): Partial<PlatformFile> => ({
          tryLock(exclusive) {
            if (!exclusive) return file.tryLock(exclusive);
            if (locker === "flock") file.unlock();
            throw systemError("ENOLCK", 37);
          },
        });
        await withPatchedFiles(fails, async () => {
          await using file = it.reader();
          await assert.rejects(relock(file, LOCK_EX), {
            name: "LockException",
            code: "ENOLCK",
            message: /^Cannot relock .*ENOLCK/,
          });
          assert.equal(it.canLock(LOCK_SH), true);
          await using child = LockProcess.start(currentRuntime);
          const writer = { mode: "a+", locker };
          const free = await child.call("tryAcquire", it.path, writer);
          assert.equal(free, false);
        });
      },
      ...needs,
    );
  }

  test(
    `relock() with "${locker}" waits until other holders release`,
    async () => {
      using it = lockFile(locker);
      const other = it.reader();
      await using file = it.reader();
      using waits = observeWaits();
      const upgrade = file.relock(LOCK_EX);
      await waits.begun();
      other.closeSync();
      // flock(2) releases the shared lock before it waits.
      assert.equal(await upgrade, locker !== "flock");
      assert.equal(it.canLock(LOCK_SH), false);
    },
    ...needs,
  );

  test(
    `relock() with "${locker}" rejects when the file is closed during the wait`,
    async () => {
      using it = lockFile(locker);
      await using _other = it.reader();
      for (const close of ["close", "closeSync"] as const) {
        const file = it.reader();
        using waits = observeWaits();
        const upgrade = assert.rejects(
          file.relock(LOCK_EX, { timeout: Infinity }),
          { code: "EBADF", message: /^Cannot relock .*: it is being closed$/ },
        );
        await waits.begun();
        const start = performance.now();
        await file[close]();
        await upgrade;
        await file.close();
        assert.ok(performance.now() - start < 5000, "the wait must not go on");
      }
      if (openDescriptors(it.dir) > 0) assert.equal(openDescriptors(it.dir), 1);
    },
    ...needs,
  );

  test(
    `relock() with "${locker}" keeps the lock when it is aborted`,
    async () => {
      using it = lockFile(locker);
      const other = it.reader();
      await using file = it.reader();
      for (const aborting of abortReasons()) {
        const { signal } = aborting;
        using waits = observeWaits();
        const options = { signal, timeout: Infinity };
        const upgrade = file.relock(LOCK_EX, options);
        await waits.begun();
        aborting.abort();
        await aborting.rejects(upgrade);
      }
      other.closeSync();
      assert.equal(it.canLock(LOCK_EX), false);
      assert.equal(it.canLock(LOCK_SH), true);
    },
    ...needs,
  );

  test(
    `relock() with "${locker}" rejects while another relock() is pending`,
    async () => {
      using it = lockFile(locker);
      const other = it.reader();
      await using file = it.reader();
      const upgrade = file.relock(LOCK_EX);
      const busy = { name: "LockException", code: "EBUSY" };
      await assert.rejects(file.relock(LOCK_SH), busy);
      assert.throws(() => file.relockSync(LOCK_EX), busy);
      other.closeSync();
      await upgrade;
      assert.equal(await file.relock(LOCK_SH), true);
    },
    ...needs,
  );

  test(
    `a downgrade with "${locker}" wakes readers in this and other processes`,
    async () => {
      using it = lockFile(locker);
      await using file = it.writer();
      await using child = LockProcess.start(currentRuntime);
      await child.call("disablePolling", 2);
      const options = { mode: "a+", locker, flags: LOCK_SH, timeout: 60_000 };
      const there = child.call("acquire", it.path, options);
      using polling = disablePolling(0);
      const here = it.lock(LOCK_SH, { timeout: 60_000 }).acquire();
      await polling.untilAsleep();
      await child.untilAsleep();
      assert.equal(await file.relock(LOCK_SH), true);
      await there;
      (await here).closeSync();
    },
    "inotify(7)",
    "/proc",
  );

  test(
    `a downgrade with "${locker}" wakes readers in this process without inotify(7)`,
    async () => {
      using it = lockFile(locker);
      const withoutEvents = () => ({
        watchClose: () => null,
        wakeWatchers() {},
      });
      await withPatchedFiles(withoutEvents, async () => {
        await using file = it.writer();
        using polling = disablePolling(0);
        const reader = it.lock(LOCK_SH, { timeout: 60_000 }).acquire();
        await polling.untilAsleep();
        await file.relock(LOCK_SH);
        (await reader).closeSync();
      });
    },
    ...needs,
  );

  test(
    `relock() with "${locker}" rejects when it is woken while the file is being closed`,
    async () => {
      using it = lockFile(locker);
      const [one, other, file] = [it.reader(), it.reader(), it.reader()];
      using waits = observeWaits();
      const upgrade = assert.rejects(
        file.relock(LOCK_EX, { timeout: Infinity, checkInterval: 600_000 }),
        { code: "EBADF" },
      );
      await waits.begun();
      one.closeSync();
      await file.close();
      await upgrade;
      other.closeSync();
    },
    ...needs,
  );

  test(
    `the release event after relock() with "${locker}" reports the new lock type`,
    async () => {
      using it = lockFile(locker);
      const kinds: unknown[] = [];
      const listen = (event: unknown) =>
        void kinds.push((event as { exclusive: boolean }).exclusive);
      for (const name of ["acquire", "release"]) {
        subscribe(`portalock:${name}`, listen);
      }
      const file = it.reader();
      await file.relock(LOCK_EX);
      file.closeSync();
      for (const name of ["acquire", "release"]) {
        unsubscribe(`portalock:${name}`, listen);
      }
      assert.deepEqual(kinds, [false, true, true]);
    },
    ...needs,
  );
}

for (const [form, relock] of FORMS) {
  test(`${form} with "flock" closes the file when it cannot restore the old lock`, async () => {
    using it = lockFile("flock");
    let lost = false;
    const fails = (file: PlatformFile): Partial<PlatformFile> => ({
      // Another writer acquires the lock and keeps it.
      tryLock: (exclusive) => !lost && !exclusive && file.tryLock(exclusive),
      unlock: () => (lost = true, file.unlock()),
    });
    await withPatchedFiles(fails, async () => {
      const lock = it.lock(LOCK_SH, { checkInterval: 20 });
      const file = lock.acquireSync();
      await assert.rejects(relock(file, LOCK_EX, { timeout: 10 }), {
        name: "AlreadyLocked",
        message: /; the lock it had is lost and the file closed$/,
      });
      assert.equal(lock.locked, false);
      await assert.rejects(file.stat(), { code: "EBADF" });
    });
    assert.equal(openDescriptors(it.dir), 0);
  });

  test(`${form} that loses the lock reports a failed release, too, with throwOnReleaseError`, async () => {
    using it = lockFile("flock");
    let lost = false;
    const fails = (file: PlatformFile): Partial<PlatformFile> => ({
      tryLock: (exclusive) => !lost && !exclusive && file.tryLock(exclusive),
      unlock() {
        if (lost) throw systemError("EIO", 5);
        lost = true;
        file.unlock();
      },
    });
    await withPatchedFiles(fails, async () => {
      const options = { checkInterval: 20, throwOnReleaseError: true };
      const lock = it.lock(LOCK_SH, options);
      const file = lock.acquireSync();
      const failing = relock(file, LOCK_EX, { timeout: 10 });
      await assert.rejects(failing, (thrown) => {
        const { name, error, suppressed } = thrown as SuppressedError;
        assert.deepEqual([name, error.code], ["SuppressedError", "EIO"]);
        assert.ok(suppressed instanceof AlreadyLocked);
        return true;
      });
      assert.equal(lock.locked, false);
    });
    assert.equal(openDescriptors(it.dir), 0);
  });

  test(`${form} with "flock" retries to restore the old lock`, async () => {
    using it = lockFile("flock");
    let after = 0;
    let lost = false;
    const fails = (file: PlatformFile): Partial<PlatformFile> => ({
      tryLock(exclusive) {
        if (exclusive) return false;
        return lost && ++after < 4 ? false : file.tryLock(exclusive);
      },
      unlock: () => (lost = true, file.unlock()),
    });
    await withPatchedFiles(fails, async () => {
      await using file = it.reader();
      await assert.rejects(relock(file, LOCK_EX, { timeout: 10 }), {
        message: /; the lock it had is back, but was not held meanwhile$/,
      });
      assert.equal(after, 4);
      await file.stat();
    });
  });

  test(
    `${form} rejects record locks that the mode does not allow`,
    async () => {
      using it = lockFile("ofd");
      fs.writeFileSync(it.path, "");
      await using reader = it.reader({ mode: "r" });
      const words = /^mode "r" cannot write.*use mode "r\+"$/;
      const refused = { name: "RangeError", message: words };
      await assert.rejects(relock(reader, LOCK_EX), refused);
      assert.equal(it.canLock(LOCK_EX), false);
      await reader.close();
      await using writer = it.writer({ mode: "a" });
      await assert.rejects(relock(writer, LOCK_SH), { name: "RangeError" });
      assert.equal(it.canLock(LOCK_SH), false);
      using flock = new Lock(`${it.path}2`, { mode: "a" }).acquireSync();
      assert.equal(await relock(flock, LOCK_SH), true);
    },
    "record locks",
  );

  test(
    `${form} with "lockf" changes the lock that other processes see`,
    async () => {
      using it = lockFile("lockf");
      await using file = it.writer();
      await using child = LockProcess.start(currentRuntime);
      const options = { mode: "a+", locker: "lockf" };
      const canLock = async (flags: number) => {
        const how = { ...options, flags: flags | LOCK_NB };
        const free = await child.call("tryAcquire", it.path, how);
        if (free) await child.call("release");
        return free;
      };
      assert.equal(await canLock(LOCK_SH), false);
      assert.equal(await relock(file, LOCK_SH), true);
      assert.equal(await canLock(LOCK_SH), true);
      assert.equal(
        await canLock(LOCK_EX),
        false,
        "waking waiters does not release the lock",
      );
      assert.equal(await relock(file, LOCK_EX), true);
      assert.equal(await canLock(LOCK_SH), false);
    },
    "record locks",
  );
}

test(
  'of two readers that both upgrade with "ofd", one times out and keeps its lock',
  async () => {
    using it = lockFile("ofd");
    await using child = LockProcess.start(currentRuntime);
    const options = { mode: "a+", locker: "ofd", flags: LOCK_SH };
    await child.call("acquire", it.path, options);
    const file = it.reader();
    const theirs = child.call("relock", LOCK_EX, { timeout: 60_000 });
    await child.untilWaiting();
    await assert.rejects(file.relock(LOCK_EX, { timeout: 50 }), AlreadyLocked);
    let done = false;
    theirs.then(() => done = true);
    await delay(50);
    assert.equal(done, false, "the lock is still held");
    await file.close();
    assert.equal(await theirs, true);
  },
  "record locks",
);

test('two readers that both upgrade with "flock" acquire one after the other', async () => {
  using it = lockFile("flock");
  const [one, other] = [it.reader(), it.reader()];
  const first = one.relock(LOCK_EX);
  assert.equal(await other.relock(LOCK_EX), ATOMIC_UPGRADE);
  assert.equal(it.canLock(LOCK_SH), false);
  other.closeSync();
  assert.equal(await first, false);
  one.closeSync();
});

test("two readers that both upgrade acquire one after the other even if a failed attempt keeps the shared lock", async () => {
  using it = lockFile("flock");
  let others = 2;
  const keeps = (file: PlatformFile): Partial<PlatformFile> => ({
    tryLock: (exclusive) =>
      exclusive && others > 1 ? false : file.tryLock(exclusive),
    unlock: () => (others--, file.unlock()),
  });
  await withPatchedFiles(keeps, async () => {
    const [one, other] = [it.reader(), it.reader()];
    using waits = observeWaits();
    const first = one.relock(LOCK_EX, { timeout: 60_000 });
    await waits.begun();
    assert.equal(
      await other.relock(LOCK_EX, { timeout: 1000 }),
      ATOMIC_UPGRADE,
    );
    other.closeSync();
    assert.equal(await first, false);
    one.closeSync();
  });
});

test(
  'an upgrade with "ofd" acquires before the waiting writers',
  async () => {
    using it = lockFile("ofd");
    using _polling = disablePolling(0);
    using waits = observeWaits();
    const other = it.reader();
    const file = it.reader();
    const writers = [1, 2].map(() =>
      it.lock(LOCK_EX, { timeout: 60_000 }).acquire()
    );
    await waits.begun(2);
    const upgrade = file.relock(LOCK_EX, { timeout: 10_000 });
    await waits.begun(3);
    other.closeSync();
    assert.equal(await upgrade, true);
    file.closeSync();
    await Promise.all(
      writers.map(async (writer) => (await writer).closeSync()),
    );
  },
  "inotify(7)",
);

test("relock() publishes diagnostics and calls onWait as acquire() does", async () => {
  using it = lockFile("flock");
  await using _other = it.reader();
  const reported: string[] = [];
  const onWait = ({ path }: { path: string }) => void reported.push(path);
  await using file = it.reader({ onWait });
  const waits: unknown[] = [];
  const listen = (event: unknown) => void waits.push(event);
  subscribe("portalock:wait", listen);
  await assert.rejects(file.relock(LOCK_EX, { timeout: 200 }));
  unsubscribe("portalock:wait", listen);
  assert.deepEqual(reported, [it.path]);
  assert.deepEqual(waits, [{ path: it.path, exclusive: true }]);
});

test(
  "AlreadyLocked of relock() names the other holder, not this process",
  async () => {
    using it = lockFile("flock");
    await using child = LockProcess.start(currentRuntime);
    await using file = it.reader();
    await child.call("acquire", it.path, { flags: LOCK_SH });
    await assert.rejects(file.relock(LOCK_EX, { timeout: 150 }), {
      holderPid: child.process.pid,
    });
  },
  "inotify(7)",
);

test(
  'an upgrade with "flock" that has to wait acquires after the earlier waiters',
  async () => {
    using it = lockFile("flock");
    let attempts = 0;
    // The first attempt fails but keeps the shared lock, as on macOS.
    const keeps = (file: PlatformFile): Partial<PlatformFile> => ({
      tryLock: (exclusive) =>
        exclusive && attempts++ === 0 ? false : file.tryLock(exclusive),
    });
    let file!: LockedFile;
    await withPatchedFiles(keeps, () => void (file = it.reader()));
    using polling = disablePolling(0);
    const writer = it.lock(LOCK_EX, { timeout: 60_000 }).acquire();
    await polling.untilAsleep();
    const upgrade = file.relock(LOCK_EX, { timeout: 60_000 });
    (await writer).closeSync();
    assert.equal(await upgrade, false);
    file.closeSync();
  },
  "inotify(7)",
);

test('relock() with "flock" restores the old lock before waiters acquire', async () => {
  using it = lockFile("flock");
  const other = it.reader();
  const file = it.reader();
  using waits = observeWaits();
  const writer = it.lock(LOCK_EX, { timeout: 60_000 }).acquire();
  await waits.begun();
  const message = /; the lock it had is back, but was not held meanwhile$/;
  await assert.rejects(file.relock(LOCK_EX, { timeout: 20 }), { message });
  other.closeSync();
  file.closeSync();
  (await writer).closeSync();
});

test('closing a file during relock() with "flock" does not restore the lost lock', async () => {
  using it = lockFile("flock");
  const other = it.reader();
  const file = it.reader();
  const upgrade = assert.rejects(
    file.relock(LOCK_EX, { timeout: Infinity, checkInterval: 600_000 }),
    { code: "EBADF" },
  );
  assert.equal(other.relockSync(LOCK_EX), ATOMIC_UPGRADE);
  await file.close();
  await upgrade;
  assert.equal(it.canLock(LOCK_SH), false);
  other.closeSync();
});

test("relock() rejects for lock files that may be unlinked while the lock is lost", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const shared = { flags: LOCK_SH | LOCK_NB };
  const slots = { directory: dir.path };
  const pidFile = join(dir.path, "a.pid");
  const files: [LockedFile, number, number][] = [
    [await new TemporaryFileLock(path, shared).acquire(), LOCK_SH, LOCK_EX],
    [await new PidFileLock(pidFile).acquire(), LOCK_EX, LOCK_SH],
    [await new BoundedSemaphore(1, slots).acquire(), LOCK_EX, LOCK_SH],
  ];
  await using _fellow = await new TemporaryFileLock(path, shared).acquire();
  for (const [file, own, other] of files) {
    const refused = { name: "LockException", code: "ENOTSUP" };
    await assert.rejects(file.relock(other), refused);
    assert.throws(() => file.relockSync(other), refused);
    assert.equal(await file.relock(own), true);
    assert.equal(new Lock(file.path).tryAcquireSync(), null, "still held");
    await file.close();
  }
});

test("a second relock() rejects and keeps the file open while the old lock is being restored", async () => {
  using it = lockFile("flock");
  let after = 0;
  let lost = false;
  let second: Promise<unknown> | undefined;
  let file!: LockedFile;
  await withPatchedFiles((real) => ({
    tryLock(exclusive) {
      if (exclusive) return false;
      if (!lost || ++after >= 4) return real.tryLock(exclusive);
      second ??= file.relock(LOCK_EX).catch(({ code }) => code);
      return false;
    },
    unlock: () => (lost = true, real.unlock()),
  }), async () => {
    file = it.reader();
    await assert.rejects(file.relock(LOCK_EX, { timeout: 10 }), {
      message: /; the lock it had is back, but was not held meanwhile$/,
    });
    assert.equal(await second, "EBUSY");
    assert.equal((await file.stat()).size, 0);
    await file.close();
  });
});

test("relockSync() throws when its onWait closes the file", async () => {
  using it = lockFile("flock");
  const victim = join(it.dir, "victim");
  await using _other = await otherReader(it.path, "flock");
  const file = it.reader();
  let next: number | undefined;
  const closing = {
    timeout: 10_000,
    onWait() {
      file.closeSync();
      // The next file may get the descriptor number of the closed file.
      next = fs.openSync(victim, "w");
    },
  };
  assert.throws(() => file.relockSync(LOCK_EX, closing), {
    code: "EBADF",
    message: /: it is being closed$/,
  });
  new Lock(victim).acquireSync().closeSync();
  fs.closeSync(next!);
  await file.close();
  assert.equal(openDescriptors(it.path), 0);
});
