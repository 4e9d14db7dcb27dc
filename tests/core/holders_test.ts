import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { holdersIn } from "../../ffi/linux/proc.ts";
import type { LockerSettings } from "../../ffi/types.ts";
import {
  AlreadyLocked,
  type LastingWait,
  Lock,
  lock,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  lockHolders,
} from "../../mod.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { runtimes } from "../support/env.ts";
import {
  holdAsOther,
  withPatchedFiles,
  withPatchedPlatform,
} from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { disablePolling } from "../support/timers.ts";
import { at } from "../support/values.ts";

const SHARED = { flags: LOCK_SH | LOCK_NB };

/** The process ID of the holder in these tests. */
const { pid } = process;

test("lockHolders() returns the processes that hold a lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "");
  assert.deepEqual(await lockHolders(path), []);
  const readers = await Promise.all(runtimes.map(async (runtime) => {
    const child = LockProcess.start(runtime);
    await child.call("acquire", path, SHARED);
    return child;
  }));
  const holders = await lockHolders(pathToFileURL(path));
  for (const { process } of readers) {
    const holder = holders.find(({ pid }) => pid === process.pid);
    assert.equal(holder?.exclusive, false);
    assert.match(holder?.command ?? "", /deno|bun|node/i);
  }
  assert.equal(holders.length, readers.length);
  for (const reader of readers) await reader[Symbol.asyncDispose]();
  using _file = new Lock(path).acquireSync();
  const own = await lockHolders(path);
  assert.deepEqual(
    own.map(({ pid, exclusive }) => [pid, exclusive]),
    [[pid, true]],
  );
}, "inotify(7)");

test(
  "lockHolders() returns the process that inherited the lock of an ended process",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const command = 'exec 9> "$0"; flock 9; echo; read line';
    const shell = spawn("sh", ["-c", command, path], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(shell.stdout, "data");
    const holders = await lockHolders(path);
    assert.deepEqual(
      holders.map(({ pid, exclusive }) => [pid, exclusive]),
      [[shell.pid, true]],
    );
    shell.stdin.end();
    await once(shell, "exit");
  },
  "inotify(7)",
  "flock(1)",
  "sh(1)",
);

test(
  "lockHolders() wakes no waiter and leaves no descriptor open",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    using _held = new Lock(path).acquireSync();
    let attempts = 0;
    await withPatchedFiles((file) => ({
      tryLock: (exclusive) => (attempts++, file.tryLock(exclusive)),
    }), async () => {
      using polling = disablePolling(30);
      const controller = new AbortController();
      const { signal } = controller;
      const lock = new Lock(path, { timeout: Infinity, signal });
      const waiting = assert.rejects(lock.acquire(), { name: "AbortError" });
      // From now on the waiter attempts only if it is woken.
      while (!(polling.lengths.at(-1)! > 30)) await delay(5);
      const before = attempts;
      for (let i = 0; i < 50; i++) await lockHolders(path);
      assert.equal(attempts, before);
      assert.equal(openDescriptors(dir.path), 2);
      controller.abort();
      await waiting;
    });
  },
  "inotify(7)",
);

test(
  "a message quotes the name of a program that contains control characters",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const program = join(dir.path, "a\n\x1b[31m)b");
    const { stdout } = spawnSync("sh", ["-c", "command -v flock"]);
    fs.copyFileSync(String(stdout).trim(), program);
    fs.chmodSync(program, 0o755);
    const holder = spawn(program, [path, "sh", "-c", "echo locked; read line"]);
    try {
      await once(holder.stdout, "data");
      const failing = new Lock(path).acquire({ timeout: 0 });
      await assert.rejects(failing, (error: AlreadyLocked) => {
        assert.ok(
          error.message.includes(
            `by process ${holder.pid} ("a\\n\\u001b[31m)b")`,
          ),
          error.message,
        );
        return true;
      });
    } finally {
      holder.stdin.end();
      await once(holder, "exit");
    }
  },
  "inotify(7)",
  "flock(1)",
  "line breaks and quotes in file names",
);

test("lockHolders() rejects for a missing file and for an invalid path", async () => {
  using dir = tempDir();
  const path = join(dir.path, "none.lock");
  await assert.rejects(lockHolders(path), { code: "ENOENT" });
  await assert.rejects(lockHolders(7 as unknown as string), TypeError);
  await assert.rejects(lockHolders(""), RangeError);
  assert.equal(fs.existsSync(path), false);
});

test(
  "holdersIn() finds holders by device and inode, and skips waiters and other locks",
  () => {
    const files: Record<string, string> = {
      "/proc/self/fdinfo/7": "pos:\t0\nflags:\t02\nmnt_id:\t41\nino:\t99\n",
      "/proc/self/mountinfo": "40 1 0:50 / / rw - ext4 /dev/a rw\n" +
        "41 1 259:3 / /home rw - btrfs /dev/b rw\n",
      "/proc/locks": "1: FLOCK  ADVISORY  WRITE 10 103:03:99 0 EOF\n" +
        "1: -> FLOCK  ADVISORY  WRITE 11 103:03:99 0 EOF\n" +
        "2: POSIX  ADVISORY  READ 12 103:03:99 50 60\n" +
        "3: OFDLCK ADVISORY  READ -1 103:03:99 0 EOF\n" +
        "4: FLOCK  ADVISORY  WRITE 13 103:03:999 0 EOF\n" +
        "5: FLOCK  ADVISORY  WRITE 14 00:32:99 0 EOF\n" +
        "6: LEASE  ACTIVE    READ 15 103:03:99 0 EOF\n" +
        "7: FLOCK  ADVISORY  WRITE 0 103:03:99 0 EOF\n",
      "/proc/20/fdinfo/3": "pos:\t0\nmnt_id:\t41\nino:\t99\n" +
        "lock:\t1: OFDLCK ADVISORY  READ -1 103:03:99 0 EOF\n",
      "/proc/21/fdinfo/3": "lock:\t1: FLOCK ADVISORY WRITE 1 00:32:99 0 EOF\n",
    };
    for (const pid of [10, 11, 12, 13, 14, 15, 20, 21]) {
      files[`/proc/${pid}/comm`] = `name ${pid}\n`;
    }
    const names = (path: string) =>
      new Set(
        Object.keys(files).filter((file) => file.startsWith(`${path}/`))
          .map((file) => at(file.slice(path.length + 1).split("/"), 0)),
      );
    const proc = {
      read: (path: string): string | undefined => files[path],
      list: (path: string) => [...names(path)],
      inode: () => 99n,
    };
    assert.deepEqual(holdersIn(proc, 7, false), [
      { pid: 10, command: "name 10", exclusive: true },
      { pid: 12, command: "name 12", exclusive: false },
    ]);
    assert.deepEqual(holdersIn(proc, 7, true).slice(2), [
      { pid: 20, command: "name 20", exclusive: false },
    ]);
    const holderPids = (locker: LockerSettings) =>
      holdersIn(proc, 7, true, locker).map(({ pid }) => pid);
    assert.deepEqual(holderPids({ name: "flock" }), [10]);
    for (const name of ["ofd", "lockf"] as const) {
      assert.deepEqual(holderPids({ name }), [12, 20]);
      const range = (start: number, length: number) =>
        holderPids({ name, range: { start, length } });
      assert.deepEqual(range(0, 50), [20]);
      assert.deepEqual(range(0, 51), [12, 20]);
      assert.deepEqual(range(60, 5), [12, 20]);
      assert.deepEqual(range(61, 5), [20]);
    }
    // Linux before 5.14 does not have the `ino:` line.
    files["/proc/self/fdinfo/7"] = "pos:\t0\nflags:\t02\nmnt_id:\t41\n";
    assert.deepEqual(holderPids({ name: "flock" }), [10]);
    delete files["/proc/self/mountinfo"];
    assert.deepEqual(holdersIn(proc, 7, true), []);
  },
  "record locks",
  "/proc",
);

for (const form of ["acquire", "acquireSync"] as const) {
  test(
    `AlreadyLocked of Lock.${form}() names the process that holds the lock`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      for (const runtime of runtimes) {
        await using child = LockProcess.start(runtime);
        await child.call("acquire", path);
        const holder = child.process.pid!;
        const lock = new Lock(path, { timeout: 0 });
        await assert.rejects(async () => await lock[form](), (error) => {
          assert.ok(error instanceof AlreadyLocked);
          assert.equal(error.holderPid, holder);
          const words = new RegExp(`: already locked by process ${holder} \\(`);
          assert.match(error.message, words);
          return true;
        });
      }
      using _file = new Lock(path).acquireSync();
      await assert.rejects(
        async () => await new Lock(path, { timeout: 0 })[form](),
        { holderPid: pid, message: new RegExp(`by this process ${pid} `) },
      );
    },
    "inotify(7)",
  );

  test(`Lock.${form}() calls onWait once, after the wait has lasted 100 ms`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const reported: LastingWait[] = [];
    const onWait = (wait: LastingWait) => void reported.push(wait);
    using held = await holdAsOther(() => new Lock(path).acquireSync());
    const short = new Lock(path, { timeout: 20, onWait });
    await assert.rejects(async () => await short[form](), (error) => {
      // On a busy machine the wait may last longer than 100 ms.
      if ((error as AlreadyLocked).waited < 100) {
        assert.equal(reported.length, 0);
      }
      return true;
    });
    reported.length = 0;
    const long = new Lock(path, { timeout: 1000, onWait });
    await assert.rejects(async () => await long[form]());
    assert.equal(reported.length, 1);
    const { path: where, waited, holders } = at(reported, 0);
    assert.equal(where, path);
    assert.ok(waited >= 100 && waited < 1000, `${waited} ms`);
    if (holders.length > 0) assert.equal(at(holders, 0).pid, pid);
    held.closeSync();
    (await long[form]()).closeSync();
    assert.equal(reported.length, 1);
  });

  test(
    `Lock.${form}() throws the error that onWait throws`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const reason = Object.assign(new Error("no"), { code: "ENOLCK" });
      const lock = new Lock(path, {
        timeout: Infinity,
        onWait() {
          throw reason;
        },
      });
      const held = await holdAsOther(() => new Lock(path).acquireSync());
      await assert.rejects(
        async () => await lock[form](),
        (error) => error === reason,
      );
      assert.equal(openDescriptors(dir.path), 1);
      held.closeSync();
      (await lock[form]()).closeSync();
    },
    "file descriptors",
  );
}

test("onWait is called for waiters behind other waiters, too", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const reported: string[] = [];
  const lock = new Lock(path);
  const held = await lock.acquire();
  const wait = (through: Lock, name: string) =>
    through.acquire({ onWait: () => reported.push(name) })
      .then((file) => file.close());
  const waiting = [
    wait(lock, "shares the instance"),
    wait(new Lock(path), "head of the queue"),
    wait(new Lock(path), "in the queue"),
  ];
  while (reported.length < 3) await delay(5);
  await held.close();
  await Promise.all(waiting);
  assert.equal(reported.length, 3);
});

test(
  "AlreadyLocked of lock() names the process that holds the lock",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    using _file = new Lock(path).acquireSync();
    const fd = fs.openSync(path, "a");
    await assert.rejects(lock(fd, LOCK_EX | LOCK_NB), { holderPid: pid });
    fs.closeSync(fd);
  },
  "inotify(7)",
);

test("only waits of at least 100 ms search every process for holders", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  using _file = new Lock(path).acquireSync();
  const searched: boolean[] = [];
  await withPatchedPlatform((real) => ({
    holders(file, search) {
      searched.push(search);
      return real.holders(file, search);
    },
  }), async () => {
    assert.equal(new Lock(path).tryAcquireSync(), null);
    assert.equal(await new Lock(path).tryAcquire(), null);
    assert.deepEqual(searched, []);
    for (const timeout of [0, 150]) {
      await assert.rejects(new Lock(path, { timeout }).acquire());
    }
    assert.deepEqual(searched, [false, true]);
  });
});
