import assert from "node:assert/strict";
import * as fs from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { platform } from "../../ffi/mod.ts";
import type { Platform, SelfLockingFile } from "../../ffi/types.ts";
import { AlreadyLocked, lock, LOCK_EX, LOCK_NB, LOCK_SH } from "../../mod.ts";
import {
  LOCK_UN,
  LockException,
  LockFlags,
  lockSync,
  unlock,
} from "../../mod.ts";
import { abortReasons } from "../support/abort_reasons.ts";
import { hasCapability } from "../support/capabilities.ts";
import { descriptorTargets } from "../support/descriptors.ts";
import { currentRuntime } from "../support/env.ts";
import {
  noopOs,
  systemError,
  withPatchedPlatform,
} from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { observeWaits, waitUntilBlocked } from "../support/waits.ts";

/** Creates a file and opens two descriptors of it. */
function twoDescriptors() {
  const dir = tempDir();
  const path = join(dir.path, "a.lock");
  const open = () => fs.openSync(path, "a+");
  const fds: [number, number] = [open(), open()];
  return {
    path,
    fds,
    [Symbol.dispose]() {
      fds.forEach((fd) => fs.closeSync(fd));
      dir[Symbol.dispose]();
    },
  };
}

/** The async and the sync form of one call. */
const FORMS: [string, (...args: Parameters<typeof lock>) => Promise<void>][] = [
  ["lock()", lock],
  // deno-lint-ignore require-await -- a throw must become a rejection
  ["lockSync()", async (file, flags) => lockSync(file, flags)],
];

test("LockFlags has Python's names for the constants", () => {
  assert.deepEqual(
    { ...LockFlags },
    {
      SHARED: LOCK_SH,
      EXCLUSIVE: LOCK_EX,
      NON_BLOCKING: LOCK_NB,
      UNBLOCK: LOCK_UN,
    },
  );
  assert.deepEqual([LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN], [1, 2, 4, 8]);
});

for (const [form, call] of FORMS) {
  test(
    `${form} excludes other descriptors of the file until unlock()`,
    async () => {
      using it = twoDescriptors();
      const [one, two] = it.fds;
      await call(one, LOCK_EX);
      await assert.rejects(call(two, LOCK_EX | LOCK_NB), (error) => {
        assert.ok(error instanceof AlreadyLocked);
        assert.equal(error.fd, two);
        assert.equal(error.code, "EWOULDBLOCK");
        assert.match(
          error.message,
          new RegExp(
            `^Cannot lock descriptor ${two}: already locked` +
              (hasCapability("names of lock holders") ? " by this" : ""),
          ),
        );
        return true;
      });
      await assert.rejects(call(two, LOCK_SH | LOCK_NB), AlreadyLocked);
      unlock(one);
      await call(two, LOCK_SH | LOCK_NB);
      await call(one, LOCK_SH | LOCK_NB);
      await call(two, LOCK_UN);
      await call(one, LOCK_EX | LOCK_NB);
      await call(one, LOCK_UN | LOCK_NB);
    },
    "file descriptors",
  );

  test(`${form} accepts objects that have a descriptor`, async () => {
    using it = twoDescriptors();
    const handle = await open(it.path, "a+");
    await call(handle, LOCK_EX);
    const contender = { fd: it.fds[0] };
    await assert.rejects(call(contender, LOCK_EX | LOCK_NB), AlreadyLocked);
    await handle.close();
    await call(contender, LOCK_EX | LOCK_NB);
    unlock(contender);
  }, "file descriptors");

  test(
    `${form} accepts a file that locks itself, as Deno.FsFile does`,
    async () => {
      const calls: unknown[] = [];
      const file = {
        free: false,
        lockSync: (exclusive?: boolean) => void calls.push(["lock", exclusive]),
        tryLockSync(exclusive?: boolean) {
          calls.push(["tryLock", exclusive]);
          return file.free;
        },
        unlockSync: () => void calls.push("unlock"),
      };
      await assert.rejects(call(file, LOCK_EX | LOCK_NB), {
        name: "AlreadyLocked",
        fd: undefined,
      });
      file.free = true;
      await call(file, LOCK_SH | LOCK_NB);
      unlock(file);
      assert.deepEqual(calls, [
        ["tryLock", true],
        ["tryLock", false],
        "unlock",
      ]);
    },
    "one lock per open file",
  );

  test(`${form} rejects values that are not files, and invalid flags`, async () => {
    const refuses = (file: unknown, flags: unknown, name: string) =>
      assert.rejects(call(file as number, flags as number), { name });
    for (const file of ["3", null, undefined, {}, { fd: null }, 3n, Symbol()]) {
      await refuses(file, LOCK_EX, "TypeError");
    }
    for (const file of [-1, 1.5, NaN, 2 ** 31]) {
      await refuses(file, LOCK_EX, "RangeError");
    }
    for (const flags of [0, LOCK_NB, 3, LOCK_EX | LOCK_UN, 16, NaN]) {
      await refuses(0, flags, "RangeError");
    }
    await refuses(0, "LOCK_EX", "TypeError");
    await refuses(0, undefined, "TypeError");
  });

  test(`${form} of a descriptor that is not open throws EBADF`, async () => {
    await assert.rejects(call(54_321, LOCK_EX), (error: LockException) => {
      assert.ok(error instanceof LockException);
      assert.equal(error.name, "LockException");
      assert.equal(error.code, "EBADF");
      assert.equal(error.errno, 9);
      assert.equal(error.fd, 54_321);
      assert.match(error.message, /^Cannot lock descriptor 54321: [Bb]ad file/);
      return true;
    });
    assert.throws(() => unlock(54_321), { code: "EBADF" });
  }, "file descriptors");

  test(`${form} changes the type of a held lock`, async () => {
    using it = twoDescriptors();
    const [one, two] = it.fds;
    await call(one, LOCK_EX);
    await call(one, LOCK_SH);
    await call(two, LOCK_SH | LOCK_NB);
    await assert.rejects(call(one, LOCK_EX | LOCK_NB), AlreadyLocked);
    unlock(two);
    await call(one, LOCK_EX | LOCK_NB);
  }, "file descriptors");

  test(`${form} of a closed Deno.FsFile throws EBADF`, async () => {
    const fails = () => {
      const error = new Error("Bad resource ID");
      throw Object.assign(error, { name: "BadResource" });
    };
    const file: SelfLockingFile = {
      lockSync: fails,
      tryLockSync: fails,
      unlockSync: fails,
    };
    const closed = { name: "LockException", code: "EBADF" };
    await assert.rejects(call(file, LOCK_SH), closed);
    await assert.rejects(call(file, LOCK_EX | LOCK_NB), closed);
    assert.throws(() => unlock(file), closed);
  });

  test(`${form} distinguishes contention from errors`, async () => {
    await withPatchedPlatform(() => ({
      fromFd: () => ({
        ...noopOs,
        tryLock() {
          throw systemError("ENOLCK", 37);
        },
        lock() {
          throw systemError("ENOLCK", 37);
        },
        unlock() {
          throw systemError("EIO", 5);
        },
      }),
    }), async () => {
      for (const flags of [LOCK_EX, LOCK_EX | LOCK_NB]) {
        await assert.rejects(call(7, flags), { code: "ENOLCK", fd: 7 });
      }
      await assert.rejects(call(7, LOCK_UN), {
        code: "EIO",
        message: "Cannot release descriptor 7: injected EIO (EIO)",
      });
    });
  });
}

test("lock() waits without blocking the event loop", async () => {
  using it = twoDescriptors();
  const [one, two] = it.fds;
  lockSync(one, LOCK_EX);
  using waits = observeWaits();
  const waiting = lock(two, LOCK_EX);
  await waits.begun();
  unlock(one);
  await waiting;
  await assert.rejects(lock(one, LOCK_SH | LOCK_NB), AlreadyLocked);
}, "file descriptors");

for (
  const [what, had, wanted] of [
    ["relocks a held exclusive lock", LOCK_EX, LOCK_EX],
    ["downgrades a held lock", LOCK_EX, LOCK_SH],
    ["upgrades a held lock", LOCK_SH, LOCK_EX],
  ] as const
) {
  test(`lock() ${what} before other waiters`, async () => {
    using it = twoDescriptors();
    const [one, two] = it.fds;
    await lock(one, had);
    using waits = observeWaits();
    const waiting = lock(two, LOCK_EX);
    await waits.begun();
    await lock(one, wanted, { signal: AbortSignal.timeout(10_000) });
    unlock(one);
    await waiting;
    unlock(two);
  }, "file descriptors");
}

test(
  "lock() that upgrades and waits releases its shared lock to waiters",
  async () => {
    using it = twoDescriptors();
    const [one, two] = it.fds;
    const three = fs.openSync(it.path, "r");
    try {
      await lock(one, LOCK_SH);
      await lock(three, LOCK_SH);
      using waits = observeWaits();
      const waiting = lock(two, LOCK_EX);
      await waits.begun();
      const upgrade = lock(one, LOCK_EX, {
        signal: AbortSignal.timeout(10_000),
      });
      await waits.begun(2);
      unlock(three);
      await waiting;
      unlock(two);
      await upgrade;
    } finally {
      fs.closeSync(three);
    }
  },
  "file descriptors",
);

test(
  "two concurrent lock() upgrades succeed one after the other, as on macOS",
  async () => {
    using it = twoDescriptors();
    const stays = ({ fromFd: descriptor }: Platform): Partial<Platform> => ({
      fromFd(fd) {
        const real = descriptor(fd);
        return Object.assign(Object.create(real) as typeof real, {
          // On macOS, flock(2) keeps a shared lock whose upgrade fails.
          tryLock(exclusive: boolean) {
            const locked = real.tryLock(exclusive);
            if (!locked && exclusive && shared.has(fd)) real.tryLock(false);
            return locked;
          },
          unlock() {
            shared.delete(fd);
            real.unlock();
          },
          lockKey: () => real.lockKey(),
          watchClose: () => null,
          wakeWatchers() {},
        });
      },
    });
    const shared = new Set(it.fds);
    await withPatchedPlatform(stays, async () => {
      for (const fd of it.fds) await lock(fd, LOCK_SH);
      const signal = AbortSignal.timeout(10_000);
      await Promise.all(it.fds.map(async (fd) => {
        await lock(fd, LOCK_EX, { signal });
        unlock(fd);
      }));
    });
  },
  "file descriptors",
);

test("lock() after unlock() queues behind other waiters", async () => {
  using it = twoDescriptors();
  const [one, two] = it.fds;
  const three = fs.openSync(it.path, "r");
  const order: string[] = [];
  const take = async (name: string, fd: number) => {
    await lock(fd, LOCK_EX, { signal: AbortSignal.timeout(10_000) });
    order.push(name);
    unlock(fd);
  };
  try {
    await lock(one, LOCK_EX);
    unlock(one);
    await lock(two, LOCK_EX);
    using waits = observeWaits();
    const first = take("first", three);
    await waits.begun();
    unlock(two);
    await Promise.all([take("second", one), first]);
    assert.deepEqual(order, ["first", "second"]);
  } finally {
    fs.closeSync(three);
  }
}, "file descriptors");

test("lock() rejects options other than signal", async () => {
  using it = twoDescriptors();
  const options = { timeout: 5 } as { signal?: AbortSignal };
  await assert.rejects(lock(it.fds[0], LOCK_EX, options), {
    name: "TypeError",
    message: 'unknown option "timeout" (expected one of signal)',
  });
  await lock(it.fds[1], LOCK_EX | LOCK_NB);
}, "file descriptors");

test(
  "lock() rejects with the signal's reason and does not hold the lock",
  async () => {
    using it = twoDescriptors();
    const [one, two] = it.fds;
    for (const aborting of abortReasons()) {
      aborting.abort();
      const { signal } = aborting;
      await aborting.rejects(lock(one, LOCK_EX, { signal }));
    }
    lockSync(one, LOCK_EX);
    // The second time, the file has a lock that could be converted.
    for (const held of [LOCK_UN, LOCK_SH]) {
      for (const aborting of abortReasons()) {
        if (held === LOCK_SH) {
          lockSync(one, LOCK_SH);
          lockSync(two, LOCK_SH);
        }
        const { signal } = aborting;
        using waits = observeWaits();
        const waiting = lock(two, LOCK_EX, { signal });
        await waits.begun();
        aborting.abort();
        await aborting.rejects(waiting);
      }
    }
    unlock(one);
    await delay(10);
    lockSync(one, LOCK_EX | LOCK_NB);
  },
  "file descriptors",
);

test("unlock() of an unlocked descriptor succeeds", () => {
  using it = twoDescriptors();
  unlock(it.fds[0]);
  lockSync(it.fds[0], LOCK_EX);
  unlock(it.fds[0]);
  unlock(it.fds[0]);
}, "file descriptors");

test(
  "lockSync() blocks until the lock is free, even if signals arrive",
  async () => {
    using it = twoDescriptors();
    const [one, two] = it.fds;
    lockSync(one, LOCK_EX);
    await using child = LockProcess.start(currentRuntime);
    assert.equal(await child.call("listenToSignals"), null);
    const locked = child.call("lockSync", it.path);
    const pid = child.process.pid!;
    while (!descriptorTargets(pid).includes(it.path)) await delay(5);
    for (let i = 0; i < 20; i++) {
      // Deno's ChildProcess.kill() also closes the child's standard input.
      process.kill(pid, "SIGUSR2");
      await delay(5);
    }
    let done = false;
    locked.then(() => done = true);
    await waitUntilBlocked(child);
    assert.equal(done, false);
    unlock(one);
    await locked;
    assert.throws(() => lockSync(two, LOCK_SH | LOCK_NB), AlreadyLocked);
  },
  "file descriptors",
  "signals",
  "/proc",
);

test(
  "100,000 contended attempts during garbage collection all report contention",
  () => {
    using it = twoDescriptors();
    const [one, two] = it.fds;
    lockSync(one, LOCK_EX);
    const contender = platform().fromFd(two);
    let garbage: unknown[] = [];
    for (let i = 0; i < 100_000; i++) {
      if (i % 50 === 0) {
        garbage = [
          new Uint8Array(65_536),
          garbage.slice(0, 99),
        ];
      }
      garbage.push({ i });
      assert.equal(contender.tryLock(true), false);
    }
  },
  "file descriptors",
);
