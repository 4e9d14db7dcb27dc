import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setImmediate, setTimeout as delay } from "node:timers/promises";
import { platform } from "../../ffi/mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { Lock, lock, LOCK_EX, LOCK_SH, lockSync, unlock } from "../../mod.ts";
import {
  countWatches,
  descriptorTargets,
  openDescriptors,
} from "../support/descriptors.ts";
import { lockOutsideLibrary, withPatchedFiles } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { type DisabledPolling, disablePolling } from "../support/timers.ts";
import { at } from "../support/values.ts";

const FORMS = ["acquire", "acquireSync"] as const;

/** Longer than any test, but not infinite: that wait may block in the kernel. */
const LONG_MS = 1e9;

/** Returns a lock that waits until it is woken. */
const patient = (path: string) => new Lock(path, { timeout: LONG_MS });

/** Runs a body with a lock file while waiters do not poll. */
async function withoutPolling(
  body: (path: string, polling: DisabledPolling) => Promise<void>,
): Promise<void> {
  using dir = tempDir();
  using polling = disablePolling(0);
  await body(join(dir.path, "a.lock"), polling);
  assert.equal(openDescriptors(dir.path), 0);
}

test(
  "Lock.acquire() is woken by a release",
  () =>
    withoutPolling(async (path, polling) => {
      const holder = lockOutsideLibrary(path);
      const waiting = patient(path).acquire();
      await polling.untilAsleep();
      holder.release();
      await (await waiting).close();
    }),
  "inotify(7)",
);

for (const form of FORMS) {
  const testRelease = (
    moment: string,
    hooks: (file: PlatformFile, release: () => void) => Partial<PlatformFile>,
  ) =>
    test(
      `Lock.${form}() misses no release ${moment}`,
      () =>
        withoutPolling(async (path) => {
          const { release } = lockOutsideLibrary(path);
          await withPatchedFiles((file) => hooks(file, release), async () => {
            await (await patient(path)[form]()).close();
          });
          assert.notEqual(new Lock(path).tryAcquireSync()?.closeSync(), null);
        }),
      "inotify(7)",
    );

  testRelease("between the first attempt and the watch", (file, release) => ({
    watchClose(closed) {
      release();
      return file.watchClose(closed);
    },
  }));

  testRelease("between the watch and the next attempt", (file, release) => ({
    watchClose(closed) {
      const watch = file.watchClose(closed);
      release();
      return watch;
    },
  }));

  testRelease("between the last attempt and the sleep", (file, release) => {
    let attempts = 0;
    return {
      tryLock(exclusive) {
        const locked = file.tryLock(exclusive);
        if (++attempts === 2) release();
        return locked;
      },
    };
  });

  testRelease("of a file whose path names another file", (file, release) => {
    let attempts = 0;
    return {
      tryLock(exclusive) {
        const locked = file.tryLock(exclusive);
        if (++attempts === 2) {
          const path = descriptorTargets(process.pid).find((target) =>
            target.endsWith("a.lock")
          )!;
          fs.renameSync(path, `${path}.old`);
          fs.writeFileSync(path, "");
          release();
        }
        return locked;
      },
    };
  });

  test(
    `Lock.${form}() retries soon when the event precedes the release`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const fd = fs.openSync(path, "a+");
      lockSync(fd, LOCK_EX);
      let attempts = 0;
      const hooks = (file: PlatformFile) => ({
        identity: () => null,
        tryLock(exclusive: boolean) {
          const locked = file.tryLock(exclusive);
          // The delays are long by now: an event without a release.
          if (++attempts === 13) fs.closeSync(fs.openSync(path, "r"));
          // A release without an event.
          if (attempts === 14) platform().fromFd(fd).unlock();
          return locked;
        },
      });
      await withPatchedFiles(hooks, async () => {
        using polling = disablePolling(Infinity);
        const lock = new Lock(path, { timeout: LONG_MS, checkInterval: 200 });
        await (await lock[form]()).close();
        // The waiter sets a timer for the rest of the delay of 88 to 176 ms. It
        // sets another timer if that one fires early.
        const { lengths } = polling;
        const long = lengths.findLastIndex((length) => length > 1);
        assert.ok(at(lengths, long) >= 80, `${lengths}`);
        assert.ok(lengths.length > long + 1, `${lengths}`);
      });
      assert.equal(attempts, 15);
      unlock(fd);
      fs.closeSync(fd);
    },
    "inotify(7)",
  );
}

/** Returns hooks that call a function after the attempt with that number. */
const after = (done: Record<number, () => void>) => {
  let attempts = 0;
  return (file: PlatformFile) => ({
    tryLock(exclusive: boolean) {
      const locked = file.tryLock(exclusive);
      done[++attempts]?.();
      return locked;
    },
  });
};

test(
  "acquireSync() leaves the events of an asynchronous waiter in place",
  () =>
    withoutPolling(async (path, polling) => {
      const [one, two] = [
        lockOutsideLibrary(path),
        lockOutsideLibrary(`${path}2`),
      ];
      const waiting = patient(path).acquire();
      await polling.untilAsleep();
      await withPatchedFiles(
        after({ 2: one.release, 3: two.release }),
        () => patient(`${path}2`).acquireSync().closeSync(),
      );
      await (await waiting).close();
    }),
  "inotify(7)",
);

test(
  "acquireSync() acquires before asynchronous waiters, because it blocks their thread",
  () =>
    withoutPolling(async (path, polling) => {
      const holder = lockOutsideLibrary(path);
      const waiting = patient(path).acquire();
      await polling.untilAsleep();
      await withPatchedFiles(after({ 2: holder.release }), async () => {
        const file = patient(path).acquireSync();
        // The release has woken the asynchronous waiter, too.
        await polling.untilAsleep(polling.sleeps + 1);
        await file.close();
      });
      await (await waiting).close();
    }),
  "inotify(7)",
);

test("a wait that begins right after another wait is woken", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const holder = lockOutsideLibrary(path);
  assert.throws(() => new Lock(path, { timeout: 1 }).acquireSync());
  using polling = disablePolling(0);
  const waiting = patient(path).acquire();
  await polling.untilAsleep();
  holder.release();
  await (await waiting).close();
}, "inotify(7)");

test(
  "a release wakes waiters although the event queue has overflowed",
  () =>
    withoutPolling(async (path, polling) => {
      const [holder, busy] = [
        lockOutsideLibrary(path),
        lockOutsideLibrary(`${path}2`),
      ];
      const waiting = patient(path).acquire();
      const other = patient(`${path}2`).acquire();
      await polling.untilAsleep(2);
      const limit = "/proc/sys/fs/inotify/max_queued_events";
      const most = Number(
        spawnSync("cat", [limit], { encoding: "utf8" }).stdout,
      );
      // The kernel merges equal consecutive events into one.
      for (let i = 0; i <= most; i++) {
        fs.closeSync(fs.openSync(`${path}2`, i % 2 ? "r" : "a"));
      }
      holder.release();
      await (await waiting).close();
      busy.release();
      await (await other).close();
    }),
  "inotify(7)",
  "/proc",
);

test(
  "unlock() wakes waiters although the file stays open",
  () =>
    withoutPolling(async (path, polling) => {
      const fd = fs.openSync(path, "a+");
      for (const flags of [LOCK_EX, LOCK_SH]) {
        lockSync(fd, LOCK_EX);
        const { sleeps } = polling;
        const waiting = new Lock(path, { flags }).acquire();
        await polling.untilAsleep(sleeps + 1);
        // A downgrade of the writer wakes readers.
        if (flags === LOCK_SH) lockSync(fd, LOCK_SH);
        else unlock(fd);
        await (await waiting).close();
      }
      fs.closeSync(fd);
    }),
  "inotify(7)",
);

test("unlock() does not reopen a device to wake waiters", () => {
  using dir = tempDir();
  const regular = join(dir.path, "a.lock");
  const countEvents = (path: string, flags: string) => {
    const fd = fs.openSync(path, flags);
    let events = 0;
    const watch = platform().fromFd(fd).watchClose(() => events++)!;
    unlock(fd);
    watch.block(20);
    watch.end();
    fs.closeSync(fd);
    return events;
  };
  assert.equal(countEvents(regular, "a"), 1);
  // Another process may close the device at the same moment.
  const device = Array.from(
    { length: 20 },
    () => countEvents("/dev/null", "r"),
  );
  assert.ok(device.includes(0), `${device}`);
}, "inotify(7)");

test(
  "lock() of a descriptor is woken by a release",
  () =>
    withoutPolling(async (path, polling) => {
      const holder = lockOutsideLibrary(path);
      const fd = fs.openSync(path, "a+");
      const waiting = lock(fd, LOCK_EX);
      await polling.untilAsleep();
      holder.release();
      await waiting;
      fs.closeSync(fd);
    }),
  "inotify(7)",
);

test(
  "the last waiter of a file removes its inotify watch",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    using _held = new Lock(path).acquireSync();
    const controller = new AbortController();
    const { signal } = controller;
    const ends = [
      new Lock(path, { timeout: 30 }).acquire(),
      new Lock(path, { signal }).acquire(),
      new Lock(path, { timeout: Infinity, signal }).acquire(),
    ].map((end) => assert.rejects(end));
    while (countWatches() === 0) await delay(1);
    controller.abort();
    await Promise.all(ends);
    // The watch is removed in the next turn of the event loop.
    await setImmediate();
    assert.equal(countWatches(), 0);
    assert.throws(() => new Lock(path, { timeout: 10 }).acquireSync());
    await setImmediate();
    assert.equal(countWatches(), 0);
  },
  "inotify(7)",
  "/proc",
);
