import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AlreadyLocked, Lock, LOCK_EX, LOCK_NB, LOCK_SH } from "../../mod.ts";
import { LockedFile, LockException, LockUnsupported } from "../../mod.ts";
import { RLock, TemporaryFileLock } from "../../mod.ts";
import { assertRejectsWith, REASONS } from "../support/abort_reasons.ts";
import { openDescriptors, waitForDescriptors } from "../support/descriptors.ts";
import {
  systemError,
  withPatchedFiles,
  withPatchedPlatform,
} from "../support/platform.ts";
import { currentRuntime } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { deferred, suppressing } from "../support/values.ts";
import { observeWaits, SHORT_WAIT_MS } from "../support/waits.ts";

const SHARED = LOCK_SH | LOCK_NB;

/** The async and the sync form, for tests of both. */
const FORMS: [string, (lock: Lock) => LockedFile | Promise<LockedFile>][] = [
  ["acquire()", (lock) => lock.acquire()],
  ["acquireSync()", (lock) => lock.acquireSync()],
];

for (const [form, acquire] of FORMS) {
  test(`Lock.${form} returns the open, locked file`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const lock = new Lock(path);
    const file = await acquire(lock);
    assert.ok(file instanceof LockedFile);
    assert.equal(file.path, path);
    assert.equal(lock.path, path);
    assert.equal(lock.locked, true);
    assert.equal(await new Lock(path).tryAcquire(), null);
    await file.close();
    assert.equal(lock.locked, false);
    const other = await new Lock(path).tryAcquire();
    assert.ok(other);
    other.closeSync();
  });

  test(`Lock.${form} throws AlreadyLocked when the timeout expires`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a b.lock");
    await using holder = LockProcess.start(currentRuntime);
    await holder.call("acquire", path);
    const timeout = SHORT_WAIT_MS;
    const begin = performance.now();
    await assert.rejects(
      async () => await acquire(new Lock(path, { timeout })),
      (error: AlreadyLocked) => {
        assert.ok(error instanceof AlreadyLocked);
        assert.ok(error instanceof LockException);
        assert.ok(error instanceof Error);
        assert.equal(error.name, "AlreadyLocked");
        assert.equal(error.path, path);
        assert.equal(error.code, "EWOULDBLOCK");
        assert.ok(error.waited >= timeout && error.waited < 5000);
        assert.match(error.message, /^Cannot lock ".*a b\.lock": already/);
        return true;
      },
    );
    assert.ok(performance.now() - begin >= timeout);
    assert.equal(openDescriptors(dir.path), 0);
  });

  test(`Lock.${form} waits for a release`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    // The release must not depend on the thread that acquireSync() blocks.
    let attempts = 0;
    const change = (real: { tryLock(exclusive: boolean): boolean }) => ({
      tryLock: (exclusive: boolean) =>
        ++attempts >= 4 && real.tryLock(exclusive),
    });
    await withPatchedFiles(change, async () => {
      const file = await acquire(new Lock(path, { timeout: 10_000 }));
      await file.close();
    });
    assert.equal(attempts, 4);
  });

  test(`Lock.${form} with failWhenLocked throws AlreadyLocked at once`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using _held = await new Lock(path).acquire();
    const lock = new Lock(path, { failWhenLocked: true, timeout: Infinity });
    await assert.rejects(async () => await acquire(lock), AlreadyLocked);
  });

  test(`Lock.${form} with an aborted signal throws its reason and opens no file`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const reason = new Error("enough");
    const lock = new Lock(path, { signal: AbortSignal.abort(reason) });
    await assert.rejects(
      async () => await acquire(lock),
      (error) => error === reason,
    );
    assert.equal(fs.existsSync(path), false);
    assert.equal(lock.locked, false);
  });

  test(`Lock.${form} throws a system error without retrying`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    let attempts = 0;
    const failing = (code: string, errno: number) => () => ({
      tryLock() {
        attempts++;
        throw systemError(code, errno);
      },
    });
    const attempt = async () =>
      await acquire(new Lock(path, { timeout: Infinity }));
    for (const [code, errno] of [["ENOLCK", 37], ["EBADF", 9]] as const) {
      await withPatchedFiles(
        failing(code, errno),
        () =>
          assert.rejects(attempt, (error: LockException) => {
            assert.equal(error.constructor, LockException);
            assert.equal(error.code, code);
            assert.equal(error.errno, errno);
            assert.equal(error.path, path);
            assert.match(error.message, new RegExp(`injected ${code}`));
            assert.equal((error.cause as Error).message, `injected ${code}`);
            return true;
          }),
      );
    }
    for (const code of ["ENOSYS", "EOPNOTSUPP"]) {
      await withPatchedFiles(
        failing(code, 1),
        () =>
          assert.rejects(attempt, (error: LockException) => {
            assert.ok(error instanceof LockUnsupported);
            assert.equal(error.code, code);
            assert.match(error.message, /file system .* put the lock file on/);
            return true;
          }),
      );
    }
    assert.equal(attempts, 4);
    assert.equal(openDescriptors(dir.path), 0);
  });
}

test("Lock.acquire() with timeout 0 makes one attempt", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  await using _held = await new Lock(path).acquire();
  let attempts = 0;
  await withPatchedFiles((real) => ({
    tryLock: (exclusive: boolean) => (attempts++, real.tryLock(exclusive)),
  }), async () => {
    await assert.rejects(new Lock(path, { timeout: 0 }).acquire());
    assert.equal(attempts, 1);
    assert.throws(() => new Lock(path).acquireSync({ timeout: 0 }));
    assert.equal(attempts, 2);
  });
});

test("Lock.acquire() options override the options of the lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const holder = new Lock(path);
  await holder.acquire();
  const lock = new Lock(path, { failWhenLocked: true });
  using waits = observeWaits();
  const waiting = lock.acquire({ failWhenLocked: false });
  await waits.begun();
  holder.releaseSync();
  await using file = await waiting;
  assert.ok(file);
});

test("Lock with LOCK_SH shares with readers and excludes writers", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const reader = () => new Lock(path, { flags: SHARED, timeout: 0 });
  const writer = new Lock(path, { timeout: 0 });
  {
    await using _one = await reader().acquire();
    using _two = reader().acquireSync();
    assert.equal(writer.tryAcquireSync(), null);
  }
  await using _writing = await writer.acquire();
  assert.equal(await reader().tryAcquire(), null);
});

test("Lock shared by 100 tasks serves them one by one in FIFO order", async () => {
  using dir = tempDir();
  const lock = new Lock(join(dir.path, "a.lock"));
  let inside = 0;
  const order: number[] = [];
  await Promise.all(Array.from({ length: 100 }, async (_, i) => {
    await using _file = await lock.acquire();
    assert.equal(++inside, 1);
    await delay(i % 7 === 0 ? 1 : 0);
    order.push(i);
    inside--;
  }));
  assert.deepEqual(order, Array.from({ length: 100 }, (_, i) => i));
  assert.equal(lock.locked, false);
});

test("AlreadyLocked of Lock says that the same object holds the lock", async () => {
  using dir = tempDir();
  const lock = new Lock(join(dir.path, "a.lock"), { timeout: 200 });
  await using _file = await lock.acquire();
  const itself = /already locked through this same object/;
  await assert.rejects(lock.acquire(), itself);
  assert.throws(() => lock.acquireSync({ timeout: Infinity }), itself);
  assert.equal(await lock.tryAcquire(), null);
  assert.equal(lock.tryAcquireSync(), null);
});

test("AlreadyLocked of Lock says that another task waits for the same object", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const elsewhere = await new Lock(path).acquire();
  const lock = new Lock(path);
  const first = lock.acquire();
  const behind = /already locked, and waited for through this same object/;
  await assert.rejects(lock.acquire({ timeout: 5 }), behind);
  assert.throws(() => lock.acquireSync(), behind);
  await elsewhere.close();
  await (await first).close();
});

test("Lock keeps the order of the other waiters when waiters time out or abort", async () => {
  using dir = tempDir();
  const lock = new Lock(join(dir.path, "a.lock"));
  const file = await lock.acquire();
  const controller = new AbortController();
  const order: string[] = [];
  const enter = async (name: string, options: object) => {
    try {
      await using _file = await lock.acquire(options);
      order.push(name);
    } catch {
      order.push(`not ${name}`);
    }
  };
  const all = [
    enter("a", { timeout: 20 }),
    enter("b", {}),
    enter("c", { signal: controller.signal }),
    enter("d", {}),
  ];
  while (order.length < 1) await delay(1);
  controller.abort();
  while (order.length < 2) await delay(1);
  await file.close();
  await Promise.all(all);
  assert.deepEqual(order, ["not a", "not c", "b", "d"]);
  assert.equal(openDescriptors(dir.path), 0);
});

test("Lock.acquire() with an aborted signal does not queue", async () => {
  using dir = tempDir();
  const lock = new Lock(join(dir.path, "a.lock"));
  await using _file = await lock.acquire();
  const signal = AbortSignal.abort("early");
  const early = (reason: unknown) => reason === "early";
  await assert.rejects(lock.acquire({ signal }), early);
  assert.throws(() => lock.acquireSync({ signal }), early);
});

test("Lock.acquire() aborted at its turn passes the turn to the next task", async () => {
  using dir = tempDir();
  const lock = new Lock(join(dir.path, "a.lock"));
  const first = await lock.acquire();
  const controller = new AbortController();
  using waits = observeWaits();
  const aborted = lock.acquire({ signal: controller.signal });
  const next = lock.acquire();
  await waits.begun(2);
  first.closeSync();
  controller.abort("late");
  await assert.rejects(aborted, (reason) => reason === "late");
  await (await next).close();
});

test("Lock.acquire() aborted while waiting holds no lock and leaves no descriptor open", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const holder = new Lock(path);
  await holder.acquire();
  const controller = new AbortController();
  using waits = observeWaits();
  const waiting = new Lock(path).acquire({ signal: controller.signal });
  const begin = performance.now();
  await waits.begun();
  controller.abort();
  await assert.rejects(waiting, { name: "AbortError" });
  assert.ok(performance.now() - begin < 4000);
  await waitForDescriptors(dir.path, 1);
  await holder.release();
  await delay(20);
  const contender = await new Lock(path).tryAcquire();
  assert.ok(contender, "the aborted wait must not acquire later");
  await contender.close();
  assert.equal(openDescriptors(dir.path), 0);
});

test("Lock.acquire() aborted while the file opens closes the file afterwards", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const opened = deferred();
  const done = deferred();
  const controller = new AbortController();
  await withPatchedPlatform((real) => ({
    async open(...how) {
      setTimeout(() => controller.abort("no longer"), 10);
      await opened.promise;
      const file = await real.open(...how);
      done.resolve();
      return file;
    },
  }), async () => {
    const lock = new Lock(path);
    const acquiring = lock.acquire({ signal: controller.signal });
    await assert.rejects(acquiring, (reason) => reason === "no longer");
    assert.equal(lock.locked, false);
    opened.resolve();
    await done.promise;
  });
  await waitForDescriptors(dir.path, 0);
  assert.ok(await new Lock(path).run(() => true));
});

test("Lock.acquire() aborted at the moment its file opens either returns or closes the file", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const controller = new AbortController();
  await withPatchedPlatform((real) => ({
    open(...how) {
      const opening = Promise.resolve(real.open(...how));
      // Runs right after Lock's own callback for the opened file.
      queueMicrotask(() => opening.then(() => controller.abort("now")));
      return opening;
    },
  }), async () => {
    const lock = new Lock(path);
    const file = await lock.acquire({ signal: controller.signal });
    assert.equal(new Lock(path).tryAcquireSync(), null);
    await file.close();
  });
  assert.equal(openDescriptors(dir.path), 0);
});

test("Lock.acquire() throws a system error even if the signal is aborted during the attempt", async () => {
  using dir = tempDir();
  const controller = new AbortController();
  const lock = new Lock(join(dir.path, "a.lock"));
  await withPatchedFiles(() => ({
    tryLock() {
      controller.abort("now");
      throw systemError("ENOLCK", 37);
    },
  }), () =>
    assert.rejects(lock.acquire({ signal: controller.signal }), {
      name: "LockException",
      code: "ENOLCK",
    }));
});

test("Lock.tryAcquire() returns null only for contention", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  using _held = new Lock(path).acquireSync();
  assert.equal(await new Lock(path).tryAcquire(), null);
  assert.equal(new Lock(path).tryAcquireSync(), null);
  const nowhere = new Lock(join(dir.path, "no", "a.lock"));
  await assert.rejects(nowhere.tryAcquire(), { code: "ENOENT" });
  assert.throws(() => nowhere.tryAcquireSync(), { code: "ENOENT" });
});

test("Lock.release() and LockedFile.close() release the lock once and can be repeated", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new Lock(path);
  await lock.release();
  lock.releaseSync();
  const first = await lock.acquire();
  await lock.release();
  const second = await lock.acquire();
  await first.close();
  first.closeSync();
  first[Symbol.dispose]();
  await first[Symbol.asyncDispose]();
  assert.equal(lock.locked, true);
  assert.equal(await new Lock(path).tryAcquire(), null);
  await Promise.all([second.close(), second.close(), lock.release()]);
  assert.equal(lock.locked, false);
  assert.equal(openDescriptors(dir.path), 0);
});

test("disposing a Lock releases it", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  {
    await using lock = new Lock(path);
    await lock.acquire();
  }
  {
    using lock = new Lock(path);
    lock.acquireSync();
  }
  assert.equal(openDescriptors(dir.path), 0);
});

test("Lock.run() returns the result of its body and releases", async () => {
  using dir = tempDir();
  const lock = new Lock(join(dir.path, "a.lock"));
  const result = await lock.run((file) => {
    assert.ok(lock.locked);
    return [file.path];
  });
  assert.deepEqual(result, [lock.path]);
  assert.equal(lock.locked, false);
  const error = new Error("from the body");
  const failing = lock.run(() => Promise.reject(error));
  await assert.rejects(failing, (thrown) => thrown === error);
  assert.equal(lock.locked, false);
  assert.equal(openDescriptors(dir.path), 0);
});

test("Lock reports errors of a release only with throwOnReleaseError", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const failing = (real: { closeSync(): void }) => ({
    unlock() {
      throw systemError("EIO", 5);
    },
    close() {
      real.closeSync();
    },
  });
  await withPatchedFiles(failing, async () => {
    const quiet = new Lock(path);
    await quiet.run(() => {});
    quiet.acquireSync().closeSync();
    const loud = new Lock(path, { throwOnReleaseError: true });
    const reported = {
      name: "LockException",
      code: "EIO",
      path,
      message: `Cannot release ${JSON.stringify(path)}: injected EIO (EIO)`,
    };
    await assert.rejects(loud.run(() => {}), reported);
    assert.throws(() => loud.acquireSync().closeSync(), reported);
    await loud.acquire();
    await assert.rejects(loud.release(), reported);
    for (const kind of [Lock, RLock]) {
      const lock = new kind(path, { throwOnReleaseError: true });
      for (const body of REASONS) {
        const both = lock.run(() => Promise.reject(body));
        await assert.rejects(both, suppressing("EIO", body));
        assert.equal(lock.locked, false);
        const first = new kind(path).run(() => Promise.reject(body));
        await assertRejectsWith(first, () => body);
      }
    }
  });
  assert.equal(openDescriptors(dir.path), 0);
  assert.ok(await new Lock(path).run(() => true));
});

test("Lock opens a file once and keeps it open while it waits", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  await using _held = await new Lock(path).acquire();
  let opened = 0;
  await withPatchedPlatform(
    (real) => ({
      open: (...how) => (opened++, real.open(...how)),
    }),
    () => assert.rejects(new Lock(path, { timeout: SHORT_WAIT_MS }).acquire()),
  );
  assert.equal(opened, 1);
});

test("Lock.acquire() in a tight loop does not starve the event loop", async () => {
  using dir = tempDir();
  const lock = new Lock(join(dir.path, "a.lock"));
  let over = false;
  setTimeout(() => over = true, 20);
  const end = performance.now() + 10_000;
  while (!over) {
    await lock.run(() => {});
    assert.ok(performance.now() < end, "the timer did not fire");
  }
});

test(
  "Lock opens a file in the thread pool unless its file system is local",
  async () => {
    using dir = tempDir();
    const asynchronous: boolean[] = [];
    await withPatchedPlatform((real) => ({
      open(...how) {
        const opening = real.open(...how);
        asynchronous.push(opening instanceof Promise);
        return opening;
      },
    }), async () => {
      await new Lock(join(dir.path, "a.lock")).run(() => {});
      const options = { mode: "r", flags: LOCK_SH | LOCK_NB } as const;
      await new Lock("/proc/self/stat", options).run(() => {});
    });
    assert.deepEqual(asynchronous, [false, true]);
  },
  "/proc",
  "file descriptors",
);

test("Lock keeps a lock file and its content", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "kept");
  await new Lock(path).run(() => {});
  new Lock(path, { flags: LOCK_EX | LOCK_NB }).acquireSync().closeSync();
  assert.equal(fs.readFileSync(path, "utf8"), "kept");
});

test("new Lock() opens no file", () => {
  using dir = tempDir();
  const path = join(dir.path, "no", "such", "folder", "a.lock");
  assert.equal(new Lock(path).locked, false);
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

test("a file without a lock key is released", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const other = join(dir.path, "b.lock");
  let stale = false;
  await withPatchedFiles((real) => ({
    lockKey() {
      if (stale) throw systemError("ESTALE", 116);
      return real.lockKey();
    },
  }), async () => {
    const held = new Lock(other).acquireSync();
    using waits = observeWaits();
    const waiting = new Lock(other).acquire();
    await waits.begun();
    for (const form of ["close", "closeSync"] as const) {
      const file = await new Lock(path).acquire();
      stale = true;
      await file[form]();
      stale = false;
      assert.equal(openDescriptors(path), 0);
    }
    held.closeSync();
    (await waiting).closeSync();
  });
});

test("Lock.acquire() throws any abort reason, even while the file is being opened", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  for (const reason of [null, "enough", { code: "EACCES", message: "mine" }]) {
    for (const Kind of [Lock, TemporaryFileLock]) {
      const controller = new AbortController();
      await withPatchedPlatform(({ openSync }) => ({
        open: (...how) =>
          new Promise((resolve) => {
            setTimeout(() => controller.abort(reason), 10);
            setTimeout(() => resolve(openSync(...how)), 30);
          }),
      }), async () => {
        const { signal } = controller;
        const error = await new Kind(path).acquire({ signal }).then(
          () => "acquired",
          (error) => error,
        );
        assert.equal(error, reason);
        await delay(60);
      });
      await waitForDescriptors(dir.path, 0);
    }
  }
});

test("an acquire() that fails under the lock reports a failed release, too, with throwOnReleaseError", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "content");
  const full = systemError("ENOSPC", 28);
  const failing = (real: { closeSync(): void }) => ({
    truncate() {
      throw full;
    },
    unlock() {
      throw systemError("EIO", 5);
    },
    close: () => real.closeSync(),
  });
  await withPatchedFiles(failing, async () => {
    const loud = { mode: "w", throwOnReleaseError: true } as const;
    await assert.rejects(new Lock(path, loud).acquire(), (thrown) => {
      const { name, error, suppressed } = thrown as SuppressedError;
      const codes = [error, suppressed].map(({ code }) => code);
      assert.deepEqual([name, ...codes], ["SuppressedError", "EIO", "ENOSPC"]);
      return true;
    });
    const quiet = new Lock(path, { mode: "w" }).acquire();
    await assert.rejects(quiet, { name: "LockException", code: "ENOSPC" });
  });
  assert.equal(openDescriptors(dir.path), 0);
});

test("Lock in mode w that is aborted while its file is truncated holds the lock, and otherwise keeps the content", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "content");
  const before = new AbortController();
  await withPatchedFiles((real) => ({
    tryLock(exclusive) {
      const locked = real.tryLock(exclusive);
      before.abort("enough");
      return locked;
    },
  }), () =>
    assert.rejects(
      new Lock(path, { mode: "w", signal: before.signal }).acquire(),
      (reason) => reason === "enough",
    ));
  assert.equal(fs.readFileSync(path, "utf8"), "content");
  assert.equal(openDescriptors(path), 0);
  const during = new AbortController();
  await withPatchedFiles((real) => ({
    async truncate(length) {
      during.abort("enough");
      await delay(20);
      await real.truncate(length);
    },
  }), async () => {
    const lock = new Lock(path, { mode: "w", signal: during.signal });
    await using file = await lock.acquire();
    assert.equal(file.statSync().size, 0);
    assert.equal(await new Lock(path).tryAcquire(), null);
  });
});
