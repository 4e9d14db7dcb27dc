import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import {
  BoundedSemaphore,
  Lock,
  LOCK_NB,
  LOCK_SH,
  lockAll,
  PidFileLock,
  RLock,
  TemporaryFileLock,
} from "../../mod.ts";
import { hasCapability } from "../support/capabilities.ts";
import { waitForDescriptors } from "../support/descriptors.ts";
import {
  lockOutsideLibrary,
  withPatchedPlatform,
} from "../support/platform.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { activeTimers, countBalance } from "../support/timers.ts";

/** More than any runtime has threads in its pool: Deno has 32. */
const MAX_POOL_THREADS = 100;

/** Runs a body while every thread of the pool is blocked by open(2). */
async function withBusyPool(body: () => Promise<void>): Promise<void> {
  using dir = tempDir();
  const fifo = join(dir.path, "fifo");
  execFileSync("mkfifo", [fifo]);
  const readers = Array.from(
    { length: MAX_POOL_THREADS },
    () => fs.promises.open(fifo, "r"),
  );
  let answered: boolean;
  let other: Promise<unknown>;
  // Bun may run a later call before all threads are blocked.
  do {
    answered = false;
    other = fs.promises.stat(dir.path).then(() => answered = true);
    await delay(50);
  } while (answered);
  try {
    await body();
    assert.equal(answered, false, "the thread pool was not busy");
  } finally {
    const writer = fs.openSync(fifo, "r+");
    for (const reader of readers) await (await reader).close();
    await other;
    fs.closeSync(writer);
  }
}

/** What acquires a lock in a directory, and releases it. */
const ACQUIRING: Record<string, (directory: string) => Promise<unknown>> = {
  "Lock.acquire()": async (dir) => {
    await using _file = await new Lock(join(dir, "a")).acquire();
  },
  'Lock.acquire() with mode "w"': async (dir) => {
    const path = join(dir, "a");
    fs.writeFileSync(path, "old");
    await using _file = await new Lock(path, { mode: "w" }).acquire();
    assert.equal(fs.readFileSync(path, "utf8"), "");
  },
  "Lock.tryAcquire()": async (dir) => {
    const lock = new Lock(join(dir, "a"));
    assert.notEqual(await lock.tryAcquire(), null);
    assert.equal(await new Lock(join(dir, "a")).tryAcquire(), null);
    await lock.release();
  },
  "RLock.run()": (dir) => new RLock(join(dir, "a")).run(() => {}),
  "TemporaryFileLock.run()": (dir) =>
    new TemporaryFileLock(join(dir, "a")).run(() => {}),
  "PidFileLock.run()": (dir) => new PidFileLock(join(dir, "a")).run(() => {}),
  "BoundedSemaphore.run()": (dir) =>
    new BoundedSemaphore(2, { directory: dir }).run(() => {}),
  "lockAll()": async (dir) => {
    await using _files = await lockAll([join(dir, "a"), join(dir, "b")]);
  },
};

for (const [what, acquire] of Object.entries(ACQUIRING)) {
  test(
    `${what} on a local file system does not need the thread pool`,
    async () => {
      using dir = tempDir();
      await withBusyPool(() => acquire(dir.path) as Promise<void>);
    },
    "mkfifo(1)",
    "/proc",
    "file descriptors",
  );
}

test(
  "acquisitions open local files in the order of the calls",
  async () => {
    using dir = tempDir();
    const paths = Array.from({ length: 20 }, (_, i) => join(dir.path, `${i}`));
    const opened: string[] = [];
    await withPatchedPlatform((real) => ({
      open(path, ...how) {
        opened.push(path);
        const file = real.open(path, ...how);
        assert.ok(!(file instanceof Promise));
        return file;
      },
    }), async () => {
      const acquiring = paths.map((path) => new Lock(path).acquire());
      for (const file of await Promise.all(acquiring)) file.closeSync();
    });
    assert.deepEqual(opened, paths);
  },
  "/proc",
  "file descriptors",
);

/** A path that is opened in the pool, on each runtime. */
function slowPath(directory: string): string {
  return hasCapability("file descriptors")
    ? `/proc/${process.pid}/stat`
    : join(directory, "a.lock");
}

const READ = { mode: "r", flags: LOCK_SH | LOCK_NB } as const;

/** The acquisitions, and the time that each has to open the file. */
const SLOW: Record<string, [number, (lock: Lock) => Promise<unknown>]> = {
  "acquire()": [200, (lock) => lock.acquire()],
  "tryAcquire()": [200, (lock) => lock.tryAcquire()],
  "acquire({ timeout: 0 })": [200, (lock) => lock.acquire({ timeout: 0 })],
  "acquire({ timeout: 150 })": [150, (lock) => lock.acquire({ timeout: 150 })],
  "acquire({ failWhenLocked: true })": [
    200,
    (lock) => lock.acquire({ failWhenLocked: true }),
  ],
};

for (const [what, [timeout, acquire]] of Object.entries(SLOW)) {
  test(
    `Lock.${what} rejects after ${timeout} ms while the thread pool is busy`,
    async () => {
      using dir = tempDir();
      const path = slowPath(dir.path);
      if (path.startsWith(dir.path)) fs.writeFileSync(path, "");
      await withBusyPool(async () => {
        using timers = activeTimers();
        const start = performance.now();
        await assert.rejects(
          acquire(new Lock(path, { ...READ, timeout: 200 })),
          {
            name: "LockException",
            code: "ETIMEDOUT",
            path,
            message: new RegExp(
              `^Cannot lock .+: opening it took longer than the timeout of ${timeout} ms$`,
            ),
          },
        );
        // Timers may fire a millisecond early.
        assert.ok(performance.now() - start > timeout - 2);
        assert.equal(timers.size, 0);
      });
      await waitForDescriptors(path, 0);
    },
    "mkfifo(1)",
    "/proc",
  );
}

test(
  "a lock with timeout 0 has the default time to open its file",
  async () => {
    using dir = tempDir();
    const path = slowPath(dir.path);
    if (path.startsWith(dir.path)) fs.writeFileSync(path, "");
    const lengths: number[] = [];
    const { setTimeout } = globalThis;
    await withBusyPool(async () => {
      globalThis.setTimeout = Object.assign(
        (callback: () => void, milliseconds: number) => {
          lengths.push(milliseconds);
          return setTimeout(callback, 0);
        },
        setTimeout,
      ) as typeof setTimeout;
      const { now } = performance;
      let time = now.call(performance);
      performance.now = () => time += 1000;
      const lock = new Lock(path, { ...READ, timeout: 0 });
      try {
        for (const options of [undefined, { timeout: 0 }]) {
          await assert.rejects(lock.acquire(options), {
            message: /5000 ms$/,
          });
        }
      } finally {
        performance.now = now;
        globalThis.setTimeout = setTimeout;
      }
    });
    assert.ok(lengths.length > 0 && Math.max(...lengths) <= 5000);
  },
  "mkfifo(1)",
  "/proc",
);

test(
  "an acquisition that timed out in the pool leaves nothing when its file opens",
  async () => {
    using dir = tempDir();
    const path = slowPath(dir.path);
    const reasons = [null, 0, new Error("enough")];
    const settings = path.startsWith(dir.path) ? {} : READ;
    await withBusyPool(async () => {
      for (const reason of reasons) {
        const controller = new AbortController();
        const { signal } = controller;
        const listeners = countBalance(
          signal,
          "addEventListener",
          "removeEventListener",
        );
        const failing = new Lock(path, { ...settings, signal }).acquire();
        while (listeners.left() === 0) await delay(1);
        controller.abort(reason);
        await assert.rejects(failing, (error) => error === reason);
      }
      const controller = new AbortController();
      const { signal } = controller;
      const listeners = countBalance(
        signal,
        "addEventListener",
        "removeEventListener",
      );
      const options = { ...settings, signal, timeout: 20 };
      await assert.rejects(new Lock(path, options).acquire(), {
        code: "ETIMEDOUT",
      });
      assert.equal(listeners.left(), 0);
      if (path.startsWith(dir.path)) {
        const temporary = new TemporaryFileLock(`${path}.tmp`, { timeout: 20 });
        await assert.rejects(temporary.acquire(), { code: "ETIMEDOUT" });
      }
    });
    await waitForDescriptors(path, 0);
    if (path.startsWith(dir.path)) {
      assert.deepEqual(sortedNames(dir.path), ["a.lock"]);
      lockOutsideLibrary(path).release();
    }
  },
  "mkfifo(1)",
  "/proc",
);
