import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { PlatformFile } from "../../ffi/types.ts";
import { AlreadyLocked, Lock, LOCK_EX, LOCK_NB, LOCK_SH } from "../../mod.ts";
import { LockException, lockHolders, lockSync, unlock } from "../../mod.ts";
import type { LastingWait, LockedFile, LockOptions } from "../../mod.ts";
import type { Capability } from "../support/capabilities.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { currentRuntime, runtimes } from "../support/env.ts";
import { systemError, withPatchedFiles } from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { disablePolling } from "../support/timers.ts";
import { observeWaits, waitUntilBlocked } from "../support/waits.ts";

type Locker = NonNullable<LockOptions["locker"]>;
const LOCKERS = ["flock", "ofd", "lockf"] as const;
const RECORDS = ["ofd", "lockf"] as const;
const FORMS = ["acquire", "acquireSync"] as const;

const LINUX = "record locks independent of flock(2)";

/** Returns the capabilities that a test of these lockers needs. */
const capabilitiesFor = (...lockers: Locker[]): Capability[] =>
  lockers.every((locker) => locker === "flock")
    ? ["file descriptors"]
    : [LINUX];

/** Returns the options of an attempt to lock with a locker. */
const lockerOptions = (
  locker: Locker,
  more: LockOptions = {},
): LockOptions => ({
  locker,
  mode: "a+",
  timeout: 0,
  ...more,
});

/** Returns whether two lockers conflict: flock(2) and record locks do not. */
const conflicts = (one: Locker, other: Locker) =>
  (one === "flock") === (other === "flock");

/** Returns whether a lock can be acquired at once. */
function isFree(path: string, options: LockOptions): boolean {
  using file = new Lock(path, options).tryAcquireSync();
  return file !== null;
}

async function freeInThread(
  path: string,
  options: LockOptions,
): Promise<boolean> {
  const thread = new Worker(
    new URL(
      `../fixtures/try_lock_once_thread${currentRuntime.extension}`,
      import.meta.url,
    ),
    { workerData: [path, options] },
  );
  const answer = await new Promise<boolean>((resolve, reject) => {
    thread.on("message", resolve);
    thread.on("error", reject);
  });
  await thread.terminate();
  return answer;
}

/** Returns whether another process on this runtime can acquire a lock. */
async function isFreeInOtherProcess(
  path: string,
  options: LockOptions,
): Promise<boolean> {
  await using child = LockProcess.start(currentRuntime);
  return await child.call("tryAcquire", path, options) as boolean;
}

for (const ours of LOCKERS) {
  for (const theirs of LOCKERS) {
    const outcome = conflicts(ours, theirs)
      ? "excludes"
      : "does not conflict with";
    // POSIX record locks do not conflict within a process.
    const within = ours === "lockf" && theirs === "lockf"
      ? "does not exclude"
      : outcome;

    test(`"${ours}" ${outcome} "${theirs}" of another process`, async () => {
      using dir = tempDir();
      await Promise.all(runtimes.map(async (runtime) => {
        const path = join(dir.path, runtime.name);
        await using child = LockProcess.start(runtime);
        await child.call("acquire", path, lockerOptions(theirs));
        assert.equal(
          isFree(path, lockerOptions(ours)),
          !conflicts(ours, theirs),
          runtime.name,
        );
        await child.call("release");
        await using _file = await new Lock(path, lockerOptions(ours)).acquire();
        const lock = await child.call(
          "tryAcquire",
          path,
          lockerOptions(theirs),
        );
        assert.equal(lock, !conflicts(ours, theirs), runtime.name);
      }));
    }, ...capabilitiesFor(ours, theirs));

    test(`"${ours}" ${within} "${theirs}" of the same process`, async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const expected = within !== "excludes";
      await using file = await new Lock(path, lockerOptions(ours)).acquire();
      assert.equal(isFree(path, lockerOptions(theirs)), expected);
      await file.close();
      await using _file = await new Lock(path, lockerOptions(ours)).acquire();
      assert.equal(await freeInThread(path, lockerOptions(theirs)), expected);
    }, ...capabilitiesFor(ours, theirs));
  }
}

/** What a holder may do with its file, in a form that does not block. */
const OPERATIONS: Record<string, (file: LockedFile) => unknown> = {
  read: (file) => file.read(new Uint8Array(4)),
  readText: (file) => file.readText(),
  readBytes: (file) => file.readBytes(),
  write: (file) => file.write(new Uint8Array(4)),
  writeText: (file) => file.writeText("text"),
  replaceContents: (file) => file.replaceContents("text"),
  truncate: (file) => file.truncate(2 ** 21),
  "truncate of a large file": (file) => file.truncate(0),
  stat: (file) => file.stat(),
  sync: (file) => file.sync(),
  syncData: (file) => file.syncData(),
  readable: (file) => new Response(file.readable).text(),
};

for (const locker of LOCKERS) {
  test(
    `"${locker}" lock survives what its holder does with the file`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const options = lockerOptions(locker);
      await using child = LockProcess.start(currentRuntime);
      for (const [name, operate] of Object.entries(OPERATIONS)) {
        await using file = await new Lock(path, options).acquire();
        await operate(file);
        const acquired = await child.call("tryAcquire", path, options);
        assert.equal(acquired, false, name);
      }
    },
    ...capabilitiesFor(locker),
  );
}

for (const locker of RECORDS) {
  test(`"${locker}" readers share the lock and exclude a writer`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const shared = lockerOptions(locker, {
      mode: "r",
      flags: LOCK_SH | LOCK_NB,
    });
    fs.writeFileSync(path, "");
    await using _file = await new Lock(path, shared).acquire();
    await using child = LockProcess.start(currentRuntime);
    assert.equal(
      await child.call("tryAcquire", path, lockerOptions(locker)),
      false,
    );
    assert.equal(await child.call("tryAcquire", path, shared), true);
  }, "record locks");

  test(
    `"${locker}" ranges exclude each other if they overlap`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      fs.writeFileSync(path, "0123456789");
      const range = (start: number, length: number) =>
        lockerOptions(locker, { range: { start, length } });
      const last = Number.MAX_SAFE_INTEGER - 1;
      await using _file = await new Lock(path, range(100, 10)).acquire();
      await using child = LockProcess.start(currentRuntime);
      const there = (options: LockOptions) =>
        child.call("tryAcquire", path, options);
      const apart = [[0, 100], [110, 1], [last, 1], [0, 1]] as const;
      const overlapping = [[0, 101], [109, 1], [104, 2], [0, last], [
        109,
        500,
      ]] as const;
      for (const [start, length] of apart) {
        assert.equal(await there(range(start, length)), true, `${start}`);
        await child.call("release");
      }
      for (const [start, length] of overlapping) {
        assert.equal(await there(range(start, length)), false, `${start}`);
      }
      assert.equal(await there(lockerOptions(locker)), false, "the whole file");
      assert.equal(await there(lockerOptions("flock")), true);
    },
    LINUX,
  );

  test(
    `a lock on a range with "${locker}" does not cut bytes that another process has locked`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.bin");
      const content = "a".repeat(100) + "b".repeat(100);
      fs.writeFileSync(path, content);
      const options = (start: number, length: number) =>
        lockerOptions(locker, { mode: "r+", range: { start, length } });
      await using other = await LockProcess.start(currentRuntime);
      await other.call("acquire", path, options(100, 50));
      await using file = await new Lock(path, options(0, 100)).acquire();
      const error = {
        name: "RangeError",
        message: /^Cannot truncate .* locked/,
      };
      await assert.rejects(file.truncate(50), error);
      assert.throws(() => file.truncateSync(50), error);
      await assert.rejects(file.truncate(), error);
      // The other process may write there before the file is extended.
      await assert.rejects(file.truncate(150), error);
      await assert.rejects(file.replaceContents("short"), error);
      assert.throws(() => file.replaceContentsSync("short"), error);
      assert.equal(fs.readFileSync(path, "utf8"), content);
      await file.writeText("new");
      assert.equal(fs.readFileSync(path, "utf8"), "new" + content.slice(3));
      const rest = options(150, Number.MAX_SAFE_INTEGER - 150);
      await using end = await new Lock(path, rest).acquire();
      await assert.rejects(end.truncate(149), error);
      await end.truncate(160);
      assert.equal(fs.statSync(path).size, 160);
    },
    ...capabilitiesFor(locker),
  );

  test(`"${locker}" locks ranges beyond the end of the file`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using file = await new Lock(path, lockerOptions(locker)).acquire();
    await file.writeText("longer than before");
    const range = { start: 10, length: 1 };
    assert.equal(
      await isFreeInOtherProcess(path, lockerOptions(locker, { range })),
      false,
    );
  }, "record locks");

  test(
    `"${locker}" and Python's fcntl.lockf exclude each other`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const shared = { flags: LOCK_SH | LOCK_NB };
      await using python = LockProcess.startPython();
      assert.equal(await python.call("tryLockf", path), true);
      assert.equal(isFree(path, lockerOptions(locker)), false);
      assert.equal(isFree(path, lockerOptions(locker, shared)), false);
      assert.equal(isFree(path, lockerOptions("flock")), true);
      await python.call("close");
      assert.equal(await python.call("tryLockf", path, "shared", 5, 10), true);
      assert.equal(isFree(path, lockerOptions(locker)), false);
      assert.equal(isFree(path, lockerOptions(locker, shared)), true);
      const range = (start: number) =>
        lockerOptions(locker, { range: { start, length: 5 } });
      assert.equal(isFree(path, range(0)), true);
      assert.equal(isFree(path, range(14)), false);
      assert.equal(isFree(path, range(15)), true);
      await python.call("close");
      await using _file = await new Lock(path, range(20)).acquire();
      assert.equal(await python.call("tryLockf", path), false);
      assert.equal(await python.call("tryLockf", path, "shared", 24, 1), false);
      assert.equal(
        await python.call("tryLockf", path, "exclusive", 25, 0),
        true,
      );
    },
    "record locks",
    "Python's portalocker",
  );

  for (const form of FORMS) {
    test(
      `Lock.${form}() with "${locker}" is woken by a release of another process`,
      async () => {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        const patient = lockerOptions(locker, { timeout: 60_000 });
        for (const runtime of runtimes) {
          const file = await new Lock(path, lockerOptions(locker)).acquire();
          await using child = LockProcess.start(runtime);
          // The delays that follow an event are shorter.
          await child.call("disablePolling", 2);
          const waiting = child.call(form, path, patient);
          await child.untilAsleep();
          await file.close();
          await waiting;
          assert.equal(isFree(path, lockerOptions(locker)), false);
        }
      },
      "inotify(7)",
      "/proc",
    );
  }

  test(`"${locker}" lock is free after its process was killed`, async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      await using holder = LockProcess.start(runtime);
      await holder.call("acquire", path, lockerOptions(locker));
      const lock = new Lock(path, lockerOptions(locker, { timeout: 60_000 }));
      using waits = observeWaits();
      const waiting = lock.acquire();
      await waits.begun();
      holder.process.kill("SIGKILL");
      await (await waiting).close();
    }
  }, "record locks");

  test(
    `a blocking "${locker}" lock keeps waiting when signals arrive`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const file = await new Lock(path, lockerOptions(locker)).acquire();
      await using child = LockProcess.start(currentRuntime);
      await child.call("listenToSignals");
      const locked = child.call("lockRecord", path, { name: locker });
      let done = false;
      locked.then(() => done = true);
      const pid = child.process.pid!;
      while (openDescriptors(path, pid) === 0) await delay(5);
      for (let i = 0; i < 20; i++) {
        process.kill(pid, "SIGUSR2");
        await delay(5);
      }
      assert.equal(done, false);
      await file.close();
      await locked;
      assert.equal(isFree(path, lockerOptions(locker)), false);
    },
    "record locks",
    "/proc",
  );

  for (const form of FORMS) {
    test(
      `AlreadyLocked of Lock.${form}() with "${locker}" names the holder`,
      async () => {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        const range = (start: number) => ({ range: { start, length: 1 } });
        await using other = LockProcess.start(currentRuntime);
        await using elsewhere = LockProcess.start(currentRuntime);
        await using holder = LockProcess.start(currentRuntime);
        await other.call("acquire", path);
        await elsewhere.call("acquire", path, lockerOptions(locker, range(7)));
        await holder.call("acquire", path, lockerOptions(locker, range(1)));
        // Only waits of at least 100 ms search every process for holders.
        const reported: number[] = [];
        const onWait = ({ holders }: LastingWait) =>
          void reported.push(...holders.map(({ pid }) => pid));
        const how = { timeout: 150, onWait, ...range(1) };
        const lock = new Lock(path, lockerOptions(locker, how));
        const { pid } = holder.process;
        await assert.rejects(async () => await lock[form](), {
          holderPid: pid,
          message: new RegExp(`by process ${pid} \\([^)]+\\) \\(waited`),
        });
        assert.deepEqual(reported, [pid]);
        const flock = new Lock(path, { timeout: 150 });
        const flocker = { holderPid: other.process.pid };
        await assert.rejects(async () => await flock[form](), flocker);
        const fd = fs.openSync(path, "a");
        assert.throws(() => lockSync(fd, LOCK_EX | LOCK_NB), {
          message: new RegExp(`by process ${flocker.holderPid} \\([^)]+\\)$`),
        });
        fs.closeSync(fd);
        assert.equal((await lockHolders(path)).length, 3);
      },
      "inotify(7)",
    );
  }
}

for (const locker of LOCKERS) {
  const outcome = locker === "lockf" ? "releases" : "keeps";

  test(
    `closing another descriptor of the file in the process ${outcome} "${locker}"`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      await using _file = await new Lock(path, lockerOptions(locker)).acquire();
      assert.equal(
        await isFreeInOtherProcess(path, lockerOptions(locker)),
        false,
      );
      fs.closeSync(fs.openSync(path, "r"));
      const expected = locker === "lockf";
      assert.equal(
        await isFreeInOtherProcess(path, lockerOptions(locker)),
        expected,
      );
    },
    locker === "flock" ? "file descriptors" : "record locks",
  );

  const fate = locker === "lockf" ? "ends with its process" : "is inherited";

  test(
    `"${locker}" ${fate} when a child process inherits the descriptor`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      await using holder = LockProcess.start(
        runtimes.find(({ name }) => name.startsWith("node")) ?? currentRuntime,
      );
      await holder.call("acquire", path, lockerOptions(locker));
      const heir = await holder.call("heir") as number;
      try {
        holder.process.kill("SIGKILL");
        await holder.ended;
        assert.equal(isFree(path, lockerOptions(locker)), locker === "lockf");
      } finally {
        process.kill(heir, "SIGKILL");
      }
      const lock = new Lock(path, lockerOptions(locker, { timeout: 60_000 }));
      await lock.run(() => {});
    },
    "record locks",
  );

  test(
    `releasing "${locker}" does not wait for a child process that inherited the descriptor`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      await using holder = LockProcess.start(
        runtimes.find(({ name }) => name.startsWith("node")) ?? currentRuntime,
      );
      await holder.call("acquire", path, lockerOptions(locker));
      const heir = await holder.call("heir") as number;
      await holder.call("release");
      assert.equal(isFree(path, lockerOptions(locker)), true);
      process.kill(heir, "SIGKILL");
    },
    "record locks",
  );
}

test(
  "waiters for different ranges of one file are all woken",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using holder = LockProcess.start(currentRuntime);
    await holder.call("acquire", path, lockerOptions("ofd"));
    using polling = disablePolling(0);
    const waiting = [0, 10, 20].map((start) =>
      new Lock(
        path,
        lockerOptions("ofd", {
          timeout: Infinity,
          range: { start, length: 5 },
        }),
      ).acquire()
    );
    await polling.untilAsleep(3);
    await holder.call("release");
    for (const file of await Promise.all(waiting)) file.closeSync();
    assert.equal(openDescriptors(dir.path), 0);
  },
  "inotify(7)",
);

test(
  "a waiter that gives up leaves the watch to the other waiters of its file",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using holder = LockProcess.start(currentRuntime);
    await holder.call("acquire", path, lockerOptions("ofd"));
    using polling = disablePolling(1);
    const range = (start: number) => ({ range: { start, length: 5 } });
    const controller = new AbortController();
    const { signal } = controller;
    const patient = { timeout: Infinity };
    const impatient = assert.rejects(
      new Lock(path, lockerOptions("ofd", { ...patient, ...range(0), signal }))
        .acquire(),
    );
    const waiting = new Lock(
      path,
      lockerOptions("ofd", { ...patient, ...range(9) }),
    )
      .acquire();
    await polling.untilAsleep(2);
    controller.abort();
    await impatient;
    await holder.call("release");
    (await waiting).closeSync();
  },
  "inotify(7)",
);

test(
  "unlock() keeps the record locks of its process",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using _file = await new Lock(path, lockerOptions("lockf")).acquire();
    const fd = fs.openSync(path, "a");
    lockSync(fd, LOCK_EX);
    unlock(fd);
    lockSync(fd, LOCK_SH);
    assert.equal(
      await isFreeInOtherProcess(path, lockerOptions("lockf")),
      false,
    );
    assert.equal(await isFreeInOtherProcess(path, lockerOptions("ofd")), false);
    fs.closeSync(fd);
  },
  "record locks",
);

test(
  "unlock() that finds record locks does not affect the next lock",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using child = LockProcess.start(currentRuntime);
    await child.call("acquire", path, lockerOptions("lockf"));
    const fd = fs.openSync(path, "a");
    unlock(fd);
    // F_OFD_GETLK has returned a process ID, which the next call must not pass
    // on.
    assert.equal(isFree(`${path}2`, lockerOptions("ofd")), true);
    fs.closeSync(fd);
  },
  "record locks",
);

test(
  "lockHolders() keeps the record locks of its process",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using _file = await new Lock(path, lockerOptions("lockf")).acquire();
    assert.deepEqual(
      (await lockHolders(path)).map(({ pid }) => pid),
      [process.pid],
    );
    assert.equal(
      await isFreeInOtherProcess(path, lockerOptions("lockf")),
      false,
    );
  },
  "inotify(7)",
);

test(
  "of two processes that wait for each other's record locks, one gets an error",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using one = LockProcess.start(currentRuntime);
    await using other = LockProcess.start(currentRuntime);
    const byte = (start: number) => ({
      name: "lockf",
      range: { start, length: 1 },
    });
    await one.call("lockRecord", path, byte(0));
    await other.call("lockRecord", path, byte(1));
    const waiting = one.call("lockRecord", path, byte(1));
    await waitUntilBlocked(one);
    await assert.rejects(other.call("lockRecord", path, byte(0)), {
      code: "EDEADLK",
    });
    other.process.kill("SIGKILL");
    await waiting;
  },
  "record locks",
  "/proc",
);

for (const form of FORMS) {
  test(
    `Lock.${form}() throws an error of fcntl(2) without retrying`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const cases = [
        ["ENOLCK", 37, LockException, /injected ENOLCK \(ENOLCK\)$/],
        ["EBADF", 9, LockException, /requires a file open for.*use mode "r\+"/],
        [
          "EINVAL",
          22,
          "LockUnsupported",
          /record locks.*use the locker "flock"/,
        ],
        ["EDEADLK", 35, LockException, /its holder waits for a lock that this/],
      ] as const;
      for (const [code, errno, kind, message] of cases) {
        let attempts = 0;
        const fails = (_file: PlatformFile): Partial<PlatformFile> => ({
          tryLock() {
            attempts++;
            const error = systemError(code, errno);
            throw Object.assign(error, { syscall: "fcntl" });
          },
        });
        await withPatchedFiles(fails, async () => {
          const lock = new Lock(
            path,
            lockerOptions("ofd", { timeout: Infinity }),
          );
          await assert.rejects(async () => await lock[form](), (error) => {
            assert.ok(error instanceof LockException);
            assert.ok(!(error instanceof AlreadyLocked));
            const name = typeof kind === "string" ? kind : "LockException";
            assert.equal(error.name, name);
            assert.equal(error.code, code);
            assert.match(error.message, message);
            return true;
          });
        });
        assert.equal(attempts, 1);
      }
      assert.equal(openDescriptors(dir.path), 0);
    },
    "record locks",
  );
}
