import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import {
  BoundedSemaphore,
  Lock,
  lockAll,
  PidFileLock,
  RLock,
  TemporaryFileLock,
  updateFile,
} from "../../mod.ts";
import { abortReasons } from "../support/abort_reasons.ts";
import { hasCapability } from "../support/capabilities.ts";
import { openDescriptors, waitForDescriptors } from "../support/descriptors.ts";
import { lockOutsideLibrary } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { activeTimers } from "../support/timers.ts";

/**
 * Unmounts a file system, which fails as long as a file is open. A file may be
 * opened after the file system was resumed, and is closed then.
 */
async function unmount(path: string): Promise<boolean> {
  for (const end = performance.now() + 20_000; performance.now() < end;) {
    if (spawnSync("umount", [path]).status === 0) return true;
    await delay(20);
  }
  spawnSync("umount", ["--lazy", path]);
  return false;
}

/** Mounts a file system that can be stopped and resumed. */
async function slowFileSystem() {
  const dir = tempDir();
  const source = join(dir.path, "source");
  const path = join(dir.path, "mounted");
  fs.mkdirSync(source);
  fs.mkdirSync(path);
  const { dev } = fs.statSync(path);
  // The kernel would otherwise ask the stopped server again after a second, for
  // each name on the path that Deno resolves in its main thread.
  const cache = "attr_timeout=600,entry_timeout=600";
  const server = spawn("bindfs", ["-f", "-o", cache, source, path], {
    stdio: "ignore",
  });
  const signal = (name: string) => process.kill(server.pid!, name);
  while (fs.statSync(path).dev === dev) {
    assert.equal(server.exitCode, null, "bindfs(1) failed to mount");
    await delay(5);
  }
  return {
    path,
    stop: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT"),
    async [Symbol.asyncDispose]() {
      signal("SIGCONT");
      const ended = once(server, "exit");
      const unmounted = await unmount(path);
      await ended;
      dir[Symbol.dispose]();
      assert.ok(unmounted, "a file is still open");
    },
  };
}

test(
  "Lock.acquire() does not block the event loop while the file system blocks",
  async () => {
    await using slow = await slowFileSystem();
    const path = join(slow.path, "a.lock");
    // Deno without FFI resolves the path in its main thread, with readlink(2).
    // The kernel answers from its cache if the file exists.
    fs.writeFileSync(path, "");
    fs.statSync(path);
    // The second time, the path is known to the package.
    for (const aborting of abortReasons()) {
      const lock = new Lock(path);
      slow.stop();
      let ticks = 0;
      const timer = setInterval(() => {
        if (++ticks === 10) aborting.abort();
      }, 5);
      const acquiring = lock.acquire({ signal: aborting.signal });
      // The abort comes from the event loop, which must not block.
      await aborting.rejects(acquiring);
      clearInterval(timer);
      slow.resume();
      while (openDescriptors(slow.path) > 0) await delay(5);
      await lock.run(() => {});
    }
  },
  "bindfs(1) and FUSE",
  "root",
);

/** Counts the turns of the event loop until it is disposed. */
function countTicks(): { count: number } & Disposable {
  const ticks = {
    count: 0,
    [Symbol.dispose]: () => clearInterval(timer),
  };
  const timer = setInterval(() => ticks.count++, 5);
  return ticks;
}

/** What opens a file in a directory, and how it fails at its timeout. */
const OPENING: Record<string, (directory: string) => Promise<unknown>> = {
  "Lock.acquire()": (dir) =>
    new Lock(join(dir, "a.lock"), { timeout: 200 }).acquire(),
  "Lock.tryAcquire()": (dir) =>
    new Lock(join(dir, "a.lock"), { timeout: 200 }).tryAcquire(),
  "Lock.acquire({ timeout: 0 })": (dir) =>
    new Lock(join(dir, "a.lock"), { timeout: 200 }).acquire({ timeout: 0 }),
  "Lock.run()": (dir) =>
    new Lock(join(dir, "a.lock")).run(() => assert.fail("not locked"), {
      timeout: 200,
    }),
  "RLock.acquire()": (dir) =>
    new RLock(join(dir, "a.lock"), { timeout: 200 }).acquire(),
  "TemporaryFileLock.acquire()": (dir) =>
    new TemporaryFileLock(join(dir, "a.tmp"), { timeout: 200 }).acquire(),
  "PidFileLock.acquire()": (dir) =>
    new PidFileLock(join(dir, "a.pid"), { timeout: 200 }).acquire(),
  "BoundedSemaphore.acquire()": (dir) =>
    new BoundedSemaphore(2, { directory: dir, timeout: 200 }).acquire(),
  "lockAll()": (dir) => lockAll([uncached(dir, "a.lock")], { timeout: 200 }),
  "updateFile()": (dir) =>
    updateFile(uncached(dir, "a.json"), () => assert.fail("not locked"), {
      timeout: 200,
    }),
};

/** A path that the kernel does not know, where the runtime does not ask. */
function uncached(directory: string, name: string): string {
  return hasCapability("file descriptors")
    ? join(directory, "missing", name)
    : join(directory, name);
}

const TIMED_OUT = {
  name: "LockException",
  code: "ETIMEDOUT",
  message:
    /^Cannot lock \S*".+": opening it took longer than the timeout of (200|1\d\d) ms$/,
};

for (const [what, open] of Object.entries(OPENING)) {
  test(
    `${what} rejects at its timeout while the file system does not answer`,
    async () => {
      await using slow = await slowFileSystem();
      // Deno without FFI resolves the path in its main thread, from the cache.
      const names = ["a.lock", "a.json", "a.tmp", "a.pid.lock"];
      for (let i = 0; i < 2; i++) names.push(`bounded_semaphore.0${i}.lock`);
      for (const name of names) {
        fs.writeFileSync(join(slow.path, name), "");
        fs.statSync(join(slow.path, name));
      }
      using timers = activeTimers();
      slow.stop();
      using ticks = countTicks();
      const active = timers.size;
      try {
        await assert.rejects(open(slow.path), TIMED_OUT);
        // The event loop has turned meanwhile.
        assert.ok(ticks.count > 5, `${ticks.count}`);
        assert.equal(timers.size, active);
      } finally {
        slow.resume();
      }
      await waitForDescriptors(slow.path, 0);
      for (const name of names) {
        const path = join(slow.path, name);
        if (fs.existsSync(path)) lockOutsideLibrary(path).release();
      }
    },
    "bindfs(1) and FUSE",
    "root",
  );
}
