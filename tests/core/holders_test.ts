import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setImmediate, setTimeout as delay } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { holdersIn } from "../../ffi/linux/proc.ts";
import type { LockerSettings } from "../../ffi/types.ts";
import { findHolders } from "../../src/core/holders.ts";
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
import { fixtureCommand, runtimes } from "../support/env.ts";
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
import { SHORT_WAIT_MS } from "../support/waits.ts";

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

/** Returns an imitation of /proc. A path that ends in `/` may not be listed. */
function fakeProc(files: Record<string, string>) {
  Object.assign(files, {
    "/proc/2/comm": files["/proc/2/comm"] ?? "kthreadd\n",
    "/proc/self/stat": `${pid} (name) R 1`,
    "/proc/self/fdinfo/7": "pos:\t0\nflags:\t02\nmnt_id:\t41\nino:\t99\n",
    "/proc/self/mountinfo": "40 1 0:50 / / rw - ext4 /dev/a rw\n" +
      "41 1 259:3 / /home rw - btrfs /dev/b rw\n",
  });
  const names = (path: string) =>
    new Set(
      Object.keys(files).filter((file) => file.startsWith(`${path}/`))
        .map((file) => at(file.slice(path.length + 1).split("/"), 0)),
    );
  return {
    read: (path: string): string | undefined => files[path],
    list: (path: string) => `${path}/` in files ? undefined : [...names(path)],
    inode: () => 99n,
    processExists: (pid: number) => pid === 30,
  };
}

test(
  "holdersIn() finds holders by device and inode, and skips waiters and other locks",
  () => {
    const files: Record<string, string> = {
      "/proc/locks": "1: FLOCK  ADVISORY  WRITE 10 103:03:99 0 EOF\n" +
        "1: -> FLOCK  ADVISORY  WRITE 11 103:03:99 0 EOF\n" +
        "2: POSIX  ADVISORY  READ 12 103:03:99 50 60\n" +
        "3: OFDLCK ADVISORY  READ -1 103:03:99 0 EOF\n" +
        "4: FLOCK  ADVISORY  WRITE 13 103:03:999 0 EOF\n" +
        "5: FLOCK  ADVISORY  WRITE 14 00:32:99 0 EOF\n" +
        "6: LEASE  ACTIVE    READ 15 103:03:99 0 EOF\n" +
        "7: FLOCK  ADVISORY  WRITE 0 103:03:99 0 EOF\n",
      "/proc/10/fdinfo/3":
        "lock:\t1: FLOCK ADVISORY WRITE 10 103:03:99 0 EOF\n",
      "/proc/20/fdinfo/3": "pos:\t0\nmnt_id:\t41\nino:\t99\n" +
        "lock:\t1: OFDLCK ADVISORY  READ -1 103:03:99 0 EOF\n",
      "/proc/21/fdinfo/3": "lock:\t1: FLOCK ADVISORY WRITE 1 00:32:99 0 EOF\n",
    };
    for (const pid of [10, 11, 12, 13, 14, 15, 20, 21]) {
      files[`/proc/${pid}/comm`] = `name ${pid}\n`;
    }
    const proc = fakeProc(files);
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

test(
  "holdersIn() names the process that /proc/locks names only if it can hold the lock",
  () => {
    const line = (pid: number) =>
      `1: FLOCK ADVISORY WRITE ${pid} 103:03:99 0 EOF\n`;
    const heir = { "/proc/20/fdinfo/3": `lock:\t${line(10)}` };
    const found = (files: Record<string, string>, pid = 10) => {
      const proc = fakeProc({ "/proc/locks": line(pid), ...heir, ...files });
      return [false, true].map((search) =>
        holdersIn(proc, 7, search).map(({ pid }) => pid)
      );
    };
    const other = "/proc/10/fdinfo/3";
    assert.deepEqual(found({}), [[], [20]], "it has ended");
    assert.deepEqual(
      found({ "/proc/10/comm": "new", [other]: "pos:\t0\n" }),
      [[], [20]],
      "its PID is used again",
    );
    const exists = { "/proc/10/stat": "10 (a) b) S 1", "/proc/10/fdinfo/": "" };
    assert.deepEqual(found(exists), [[10], [10]], "of another user");
    const zombie = { ...exists, "/proc/10/stat": "10 (a) S) Z 1" };
    assert.deepEqual(found(zombie), [[], [20]], "a zombie of another user");
    const hidden = { "/proc/30/fdinfo/": "", "/proc/31/fdinfo/": "" };
    assert.deepEqual(found(hidden, 30), [[30], [30]], "hidepid");
    assert.deepEqual(found(hidden, 31), [[], [20]], "hidepid, and ended");
    // Deno may not list /proc, but may read it by FFI.
    const unlisted = {
      "/proc/10/fdinfo/": "",
      "/proc/10/status": "Name:\ta\nFDSize:\t64\n",
    };
    assert.deepEqual(
      found({ ...unlisted, "/proc/10/fdinfo/40": `lock:\t${line(10)}` }),
      [[10], [10]],
    );
    assert.deepEqual(
      found({ ...unlisted, ...exists, "/proc/10/fdinfo/40": "pos:\t0\n" }),
      [[], [20]],
    );
    const crowded = Object.fromEntries(
      Array.from({ length: 2000 }, (_, fd) => [`/proc/10/fdinfo/${fd}`, ""]),
    );
    const last = { [`/proc/10/fdinfo/2000`]: `lock:\t${line(10)}` };
    assert.deepEqual(found({ ...crowded, ...last }), [[], [10]]);
    // A process can convert its own POSIX locks.
    const posix = `1: POSIX ADVISORY READ 12 103:03:99 0 EOF\n` +
      `2: POSIX ADVISORY READ ${pid} 103:03:99 0 EOF\n`;
    for (const [name, pids] of [["lockf", [12]], ["ofd", [12, pid]]] as const) {
      const proc = fakeProc({ "/proc/locks": posix });
      const holders = holdersIn(proc, 7, false, { name });
      assert.deepEqual(holders.map(({ pid }) => pid), pids);
    }
    // The lock of the descriptor itself does not exclude it.
    const own = { [`/proc/${pid}/fdinfo/7`]: `lock:\t${line(pid)}` };
    assert.deepEqual(found(own, pid), [[], []]);
    const twice = { ...own, [`/proc/${pid}/fdinfo/8`]: `lock:\t${line(pid)}` };
    assert.deepEqual(found(twice, pid), [[pid], [pid]]);
    // In a PID namespace, /proc/locks does not list the lock of an ended process.
    const unlisted10 = { "/proc/locks": "", ...heir };
    assert.deepEqual(found(unlisted10), [[], []]);
    assert.deepEqual(found({ ...unlisted10, "/proc/2/comm": "sh\n" }), [[], [
      20,
    ]]);
    const proc = fakeProc({ "/proc/locks": line(10), ...heir, ...exists });
    const elsewhere = (path: string) =>
      path === "/proc/self/stat" ? "5 (a) S 1" : proc.read(path);
    assert.deepEqual(holdersIn({ ...proc, read: elsewhere }, 7, true), []);
    assert.deepEqual(
      holdersIn({ ...proc, read: () => undefined }, 7, true),
      [],
    );
  },
  "/proc",
);

/**
 * Checks that a message names this process or none. A wait of 100 ms must name
 * it. On a busy machine, a single attempt may last that long.
 */
function isHeldBy(pid: number, timeout: number) {
  return ({ name, holderPid }: AlreadyLocked) => {
    assert.equal(name, "AlreadyLocked");
    if (timeout > 0 || holderPid !== null) assert.equal(holderPid, pid);
    return true;
  };
}

test(
  "AlreadyLocked of Lock names the heir of a killed process, and never its PID",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    for (const runtime of runtimes) {
      await using child = LockProcess.start(runtime);
      await child.call("acquire", path);
      const heir = await child.call("heir") as number;
      await child.kill();
      try {
        for (const timeout of [0, 150]) {
          const waiting = new Lock(path, { timeout }).acquire();
          await assert.rejects(waiting, isHeldBy(heir, timeout), runtime.name);
        }
        const holders = await lockHolders(path);
        assert.deepEqual(holders.map(({ pid }) => pid), [heir]);
      } finally {
        process.kill(heir, "SIGKILL");
      }
      await new Lock(path).run(() => {});
    }
  },
  "inotify(7)",
);

test(
  "AlreadyLocked of Lock names no process that got the PID of an ended holder",
  async () => {
    // flock(1) takes the lock and ends, and the shell keeps it. Then a process
    // starts that gets the PID of flock(1), unless another one was faster.
    const script = 'exec 9> "$0"; for i in $(seq 500); do ' +
      "flock -u 9; flock 9 & taker=$!; wait $taker; " +
      "echo $((taker - 1)) > /proc/sys/kernel/ns_last_pid; " +
      "sleep 600 9>&- & user=$!; [ $user = $taker ] && break; kill $user; " +
      // Before it becomes sleep(1), the new process has descriptor 9.
      'done; until [ "$(cat /proc/$user/comm)" = sleep ]; do :; done; ' +
      "echo $taker $user; read line; kill $user";
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const shell = spawn("sh", ["-c", script, path], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    try {
      const [line] = await once(shell.stdout, "data");
      const [taker, user] = String(line).trim().split(" ").map(Number);
      assert.equal(user, taker);
      for (const timeout of [0, 150]) {
        const waiting = new Lock(path, { timeout }).acquire();
        await assert.rejects(waiting, isHeldBy(shell.pid!, timeout));
      }
      const holders = await lockHolders(path);
      assert.deepEqual(holders.map(({ pid }) => pid), [shell.pid]);
    } finally {
      shell.stdin.end("\n");
      await once(shell, "exit");
    }
  },
  "inotify(7)",
  "PIDs that can be chosen",
  "flock(1)",
  "sh(1)",
);

test(
  "lockHolders() in a PID namespace returns the heir of a process that has ended",
  async () => {
    // Here, /proc/locks does not list the lock at all.
    const script = 'exec 9> "$0"; flock 9; "$@" 9>&-';
    const container = ["unshare", "--pid", "--fork", "--mount-proc"];
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    for (const runtime of runtimes) {
      await using child = new LockProcess([
        ...[...container, "--kill-child", "sh", "-c", script, path],
        ...fixtureCommand(runtime, "lock_process"),
      ]);
      for (const timeout of [0, 150]) {
        const waiting = child.call("acquire", path, { timeout });
        await assert.rejects(waiting, isHeldBy(1, timeout));
      }
    }
  },
  "inotify(7)",
  "PID namespaces",
  "flock(1)",
  "sh(1)",
);

test(
  "a holder of another user is reported, although its descriptors cannot be read",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    fs.chmodSync(dir.path, 0o777);
    fs.writeFileSync(path, "", { mode: 0o644 });
    const held = await new Lock(path).acquire();
    for (const runtime of runtimes) {
      await using child = LockProcess.start(runtime);
      await child.call("become", 65534);
      await assert.rejects(
        child.call("acquire", path, { mode: "r", timeout: 0 }),
        { name: "AlreadyLocked", holderPid: pid },
      );
    }
    await held.close();
  },
  "inotify(7)",
  "root",
);

for (const form of ["acquire", "acquireSync"] as const) {
  test(
    `Lock.${form}() names the holder of its file after the working directory has changed`,
    async () => {
      using dir = tempDir();
      using elsewhere = tempDir();
      const before = process.cwd();
      await using child = LockProcess.start(at(runtimes, 0));
      await child.call("acquire", join(dir.path, "a.lock"));
      const holder = child.process.pid!;
      // A lock of another file that has the same relative path.
      using _other = new Lock(join(elsewhere.path, "a.lock")).acquireSync();
      const reported: number[] = [];
      try {
        process.chdir(dir.path);
        const lock = new Lock("a.lock", {
          timeout: 300,
          onWait: ({ holders }) =>
            void reported.push(...holders.map(({ pid }) => pid)),
        });
        if (form === "acquireSync") process.chdir(elsewhere.path);
        const waiting = (async () => await lock[form]())();
        process.chdir(elsewhere.path);
        await assert.rejects(waiting, {
          name: "AlreadyLocked",
          path: "a.lock",
          message: /^Cannot lock a\.lock: /,
          holderPid: holder,
        });
        assert.deepEqual(reported, [holder]);
        process.chdir(dir.path);
        const holders = lockHolders("a.lock");
        process.chdir(elsewhere.path);
        assert.deepEqual((await holders).map(({ pid }) => pid), [holder]);
      } finally {
        process.chdir(before);
      }
    },
    "inotify(7)",
  );
}

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

test("of waiters that time out together, one searches every process for holders", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  using _file = await holdAsOther(() => new Lock(path).acquireSync());
  let searches = 0;
  await withPatchedPlatform((real) => ({
    holders(file, search, locker) {
      if (search) searches++;
      return real.holders(file, search, locker);
    },
  }), async () => {
    const options = { timeout: SHORT_WAIT_MS };
    const waiting = Array.from(
      { length: 100 },
      () => assert.rejects(new Lock(path, options).acquire(), AlreadyLocked),
    );
    await Promise.all(waiting);
    assert.ok(searches >= 1 && searches < 50, `${searches} searches`);
    // A later one does not get an old result.
    searches = 0;
    await assert.rejects(new Lock(path, options).acquire(), AlreadyLocked);
    assert.throws(() => new Lock(path, options).acquireSync(), AlreadyLocked);
    assert.throws(() => new Lock(path, options).acquireSync(), AlreadyLocked);
    assert.equal(searches, 3);
  });
});

test("findHolders() searches again after a turn of the event loop", async () => {
  let searches = 0;
  await withPatchedPlatform(() => ({
    holders: () => (searches++, []),
  }), async () => {
    const find = (path: string) => findHolders([path], true, { name: "flock" });
    for (let i = 0; i < 3; i++) assert.deepEqual(find("a"), []);
    assert.equal(searches, 1);
    find("b");
    assert.equal(searches, 2);
    await setImmediate();
    await setImmediate();
    find("b");
    assert.equal(searches, 3);
  });
});
