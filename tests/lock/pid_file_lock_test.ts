import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { setImmediate } from "node:timers/promises";
import {
  AlreadyLocked,
  Lock,
  LOCK_NB,
  LOCK_SH,
  PidFileLock,
} from "../../mod.ts";
import { TemporaryFileLock } from "../../mod.ts";
import type { LockedFile } from "../../mod.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { allRuntimes } from "../support/env.ts";
import {
  noopOs,
  systemError,
  withPatchedFiles,
  withPatchedPlatform,
} from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { hasCapability } from "../support/capabilities.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import { observeWaits } from "../support/waits.ts";

/** The async and the sync form, for tests of both. */
const FORMS: [
  string,
  (lock: PidFileLock) => LockedFile | Promise<LockedFile>,
][] = [
  ["acquire()", (lock) => lock.acquire()],
  ["acquireSync()", (lock) => lock.acquireSync()],
];

/** Deno without FFI cannot ask the kernel of Linux. */
const knowsHolders = process.platform !== "linux" ||
  hasCapability("file descriptors");

/** Reads the PID in both forms and checks that they agree. */
async function readPid(lock: PidFileLock): Promise<number | null> {
  const pid = await lock.readPid();
  assert.equal(lock.readPidSync(), pid);
  return pid;
}

/** Asserts that no file in the directory and no descriptor is left. */
function assertNothingLeft(dir: string, ...but: string[]) {
  assert.deepEqual(sortedNames(dir), but);
  assert.equal(openDescriptors(dir), 0);
}

for (const [form, acquire] of FORMS) {
  test(`PidFileLock.${form} writes the PID beside the lock file while it is held`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    const lock = new PidFileLock(path);
    assert.equal(lock.path, path);
    assert.equal(await readPid(lock), null);
    for (let i = 0; i < 3; i++) {
      const file = await acquire(lock);
      assert.equal(file.path, `${path}.lock`);
      assert.deepEqual(sortedNames(dir.path), ["a.pid", "a.pid.lock"]);
      assert.equal(fs.readFileSync(path, "utf8"), String(process.pid));
      assert.equal(await readPid(lock), process.pid);
      assert.equal(await new Lock(`${path}.lock`).tryAcquire(), null);
      if (i % 2) file.closeSync();
      else await lock.release();
      assertNothingLeft(dir.path);
      assert.equal(await readPid(lock), null);
    }
  });

  test(`PidFileLock.${form} throws AlreadyLocked with the holder's PID`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    for (const runtime of allRuntimes) {
      await using child = LockProcess.start(runtime);
      await child.call("hold", "PidFileLock", path);
      const { pid } = child.process;
      for (const options of [{}, { timeout: 100 }]) {
        const lock = new PidFileLock(path, options);
        assert.equal(await readPid(lock), pid);
        await assert.rejects(
          async () => await acquire(lock),
          (error: AlreadyLocked) => {
            assert.ok(error instanceof AlreadyLocked);
            assert.equal(error.holderPid, knowsHolders ? pid : null);
            const by = knowsHolders ? ` by process ${pid}\\b` : " \\(";
            assert.match(error.message, new RegExp(`already locked${by}`));
            return true;
          },
        );
      }
      await child.call("drop");
      assertNothingLeft(dir.path);
    }
  });

  test(`PidFileLock.${form} prefers the kernel's holder to the PID file`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    await using _file = await new PidFileLock(path).acquire();
    const reportedPid = async (
      holders: { pid: number; exclusive: boolean }[] | null,
    ) => {
      let reported: unknown;
      await withPatchedPlatform(
        () => ({ holders: () => holders }),
        () =>
          assert.rejects(
            async () => await acquire(new PidFileLock(path)),
            (error: AlreadyLocked) => (reported = error.holderPid, true),
          ),
      );
      return reported;
    };
    await using other = LockProcess.start(at(allRuntimes, 0));
    const living = other.process.pid!;
    fs.writeFileSync(path, String(living));
    assert.equal(await reportedPid([{ pid: 17, exclusive: true }]), 17);
    // The kernel was asked, and no process that it knows holds the lock.
    assert.equal(await reportedPid([]), null);
    assert.equal(await reportedPid(null), living);
    // A PID from a file is never that of this process, nor that of a dead one.
    const { pid: dead } = spawnSync(process.execPath, ["--version"]);
    for (const pid of [process.pid, dead, 2 ** 40 + living]) {
      fs.writeFileSync(path, String(pid));
      assert.equal(await reportedPid(null), null);
    }
    fs.writeFileSync(path, "junk");
    assert.equal(await reportedPid(null), null);
    fs.rmSync(path);
    assert.equal(await reportedPid(null), null);
    fs.mkdirSync(path);
    assert.equal(await reportedPid(null), null);
    fs.rmdirSync(path);
  });

  test(`PidFileLock.${form} takes over the files of a killed process`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    for (const runtime of allRuntimes) {
      await using child = LockProcess.start(runtime);
      await child.call("hold", "PidFileLock", path);
      const { pid } = child.process;
      await child.kill();
      const lock = new PidFileLock(path);
      assert.equal(await readPid(lock), pid, "a stale PID");
      await using _file = await acquire(lock);
      assert.equal(await readPid(lock), process.pid);
    }
    assertNothingLeft(dir.path);
  });

  test(
    `PidFileLock.${form} releases the lock when the PID file cannot be published`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.pid");
      const lock = new PidFileLock(path);
      fs.mkdirSync(path);
      // Windows denies the access after a time in which the other process could
      // close the file.
      const code = process.platform === "win32" ? "EPERM" : "EISDIR";
      await assert.rejects(async () => await acquire(lock), { code });
      assert.equal(lock.locked, false);
      assertNothingLeft(dir.path, "a.pid");
      fs.rmdirSync(path);
      fs.mkdirSync(join(`${path}.tmp`, "full"), { recursive: true });
      await assert.rejects(async () => await acquire(lock), { code: "EEXIST" });
      assert.equal(lock.locked, false);
      assertNothingLeft(dir.path, "a.pid.tmp");
      fs.rmdirSync(join(`${path}.tmp`, "full"));
      fs.rmdirSync(`${path}.tmp`);
      await (await acquire(lock)).close();
      assertNothingLeft(dir.path);
    },
  );

  test(
    `PidFileLock.${form} on a full disk releases the lock`,
    async () => {
      using dir = tempDir();
      const disk = join(dir.path, "disk");
      fs.mkdirSync(disk);
      mount("-t", "tmpfs", "-o", "size=8k", "none", disk);
      try {
        const lock = new PidFileLock(join(disk, "a.pid"));
        const filling = join(disk, "filling");
        const room = fs.openSync(filling, "w");
        assert.throws(() => {
          for (;;) fs.writeSync(room, new Uint8Array(4096));
        }, { code: "ENOSPC" });
        fs.closeSync(room);
        const full = { code: "ENOSPC" };
        await assert.rejects(async () => await acquire(lock), full);
        assert.equal(lock.locked, false);
        assertNothingLeft(disk, "filling");
        fs.rmSync(filling);
        await (await acquire(lock)).close();
        assertNothingLeft(disk);
      } finally {
        spawnSync("umount", ["-l", disk]);
      }
    },
    "root",
  );

  test(
    `PidFileLock.${form}: planted symlink in a shared directory is rejected`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.pid");
      const victim = join(dir.path, "victim");
      const lock = new PidFileLock(path);
      for (const exists of [true, false]) {
        const intact = () => {
          assert.equal(fs.existsSync(victim), exists);
          if (exists) assert.equal(fs.readFileSync(victim, "utf8"), "4711");
        };
        if (exists) fs.writeFileSync(victim, "4711");
        else fs.rmSync(victim);
        for (const planted of [path, `${path}.tmp`]) {
          fs.symlinkSync(victim, planted);
          const file = await acquire(lock);
          assert.ok(fs.lstatSync(path).isFile());
          assert.equal(await readPid(lock), process.pid);
          await file.close();
          intact();
          assertNothingLeft(dir.path, ...exists ? ["victim"] : []);
        }
        fs.symlinkSync(victim, `${path}.lock`);
        await assert.rejects(async () => await acquire(lock), {
          code: "ELOOP",
          message: /^Cannot lock .+: it is a symbolic link, which .+ refuse; /,
        });
        intact();
        fs.rmSync(`${path}.lock`);
      }
      assertNothingLeft(dir.path);
    },
    "symbolic links",
  );

  test(`PidFileLock.${form}: another process acquires between open and lock`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    const holder = new PidFileLock(path);
    const third = new PidFileLock(path);
    await holder.acquire();
    let attempts = 0;
    await withPatchedFiles((real) => ({
      tryLock(exclusive) {
        if (++attempts === 1) {
          holder.releaseSync();
          third.acquireSync();
        }
        return real.tryLock(exclusive);
      },
    }), () =>
      assert.rejects(
        async () => await acquire(new PidFileLock(path)),
        AlreadyLocked,
      ));
    assert.equal(await readPid(third), process.pid);
    assert.deepEqual(sortedNames(dir.path), ["a.pid", "a.pid.lock"]);
    await third.release();
    assertNothingLeft(dir.path);
  });
}

for (const [form, acquire] of FORMS) {
  test(
    `PidFileLock.${form}: a hard link in the place of its files is rejected`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.pid");
      const victim = join(dir.path, "victim");
      for (const planted of [path, `${path}.lock`, `${path}.tmp`]) {
        for (const content of ["precious", "4711", ""]) {
          fs.writeFileSync(victim, content);
          fs.linkSync(victim, planted);
          const lock = new PidFileLock(path);
          await assert.rejects(async () => await acquire(lock), {
            name: "LockException",
            code: "EMLINK",
            path: planted,
          });
          assert.equal(lock.locked, false);
          for (const name of [victim, planted]) {
            assert.equal(fs.readFileSync(name, "utf8"), content);
            assert.equal(fs.statSync(name).nlink, 2);
          }
          assertNothingLeft(dir.path, basename(planted), "victim");
          fs.rmSync(planted);
          fs.rmSync(victim);
        }
      }
    },
    "hard links",
  );

  test(`PidFileLock.${form} does not replace a file that is not a PID file`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    for (const planted of [path, `${path}.tmp`]) {
      for (const content of ["precious", "12 34", "4711".padEnd(100)]) {
        fs.writeFileSync(planted, content);
        const lock = new PidFileLock(path);
        await assert.rejects(async () => await acquire(lock), {
          name: "LockException",
          code: "EEXIST",
          path: planted,
          message: /it contains something else than a PID/,
        });
        assert.equal(fs.readFileSync(planted, "utf8"), content);
        assertNothingLeft(dir.path, basename(planted));
      }
      // What a crash may leave.
      for (const content of ["", "\n", "\0\0\0\0", "4711\n"]) {
        fs.writeFileSync(planted, content);
        await (await acquire(new PidFileLock(path))).close();
        assertNothingLeft(dir.path);
      }
    }
  });

  test(`PidFileLock.${form} does not replace a FIFO`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    for (const planted of [path, `${path}.tmp`]) {
      spawnSync("mkfifo", [planted]);
      const lock = new PidFileLock(path);
      const refused = { code: "EEXIST", path: planted };
      await assert.rejects(async () => await acquire(lock), refused);
      assert.ok(fs.lstatSync(planted).isFIFO());
      assertNothingLeft(dir.path, basename(planted));
      fs.rmSync(planted);
    }
  }, "mkfifo(1)");
}

function mount(...args: string[]) {
  const { status, stderr } = spawnSync("mount", args, { encoding: "utf8" });
  assert.equal(status, 0, stderr);
}

test("PidFileLock has the default path .pid", () => {
  assert.equal(new PidFileLock().path, ".pid");
});

test("PidFileLock keeps its paths when the working directory changes", async () => {
  using dir = tempDir();
  using elsewhere = tempDir();
  const before = process.cwd();
  const held = new Lock(join(dir.path, "a.pid.lock")).acquireSync();
  try {
    process.chdir(dir.path);
    using waits = observeWaits();
    const waiting = new PidFileLock("a.pid", { timeout: 60_000 }).acquire();
    await waits.begun();
    const reading = new PidFileLock("a.pid");
    process.chdir(elsewhere.path);
    held.closeSync();
    const file = await waiting;
    assert.equal(await readPid(reading), process.pid);
    const pid = fs.readFileSync(join(dir.path, "a.pid"), "utf8");
    assert.equal(pid, String(process.pid));
    await file.close();
  } finally {
    process.chdir(before);
  }
  assert.deepEqual(sortedNames(dir.path), []);
  assert.deepEqual(sortedNames(elsewhere.path), []);
});

test("PidFileLock rejects LOCK_SH", () => {
  using dir = tempDir();
  const path = join(dir.path, "a.pid");
  for (const flags of [LOCK_SH, LOCK_SH | LOCK_NB]) {
    assert.throws(
      () => new PidFileLock(path, { flags }),
      /^RangeError: flags must be LOCK_EX: a PID file has one holder$/,
    );
  }
  assertNothingLeft(dir.path);
});

test("PidFileLock fails at once, unless it has a timeout", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.pid");
  await using child = LockProcess.start(at(allRuntimes, 0));
  await child.call("hold", "PidFileLock", path);
  const lock = new PidFileLock(path);
  await assert.rejects(lock.acquire(), (error: AlreadyLocked) => {
    assert.ok(error.waited < 4000);
    return true;
  });
  assert.equal(await lock.tryAcquire(), null);
  assert.equal(lock.tryAcquireSync(), null);
  const waiting = lock.acquire({ timeout: 60_000 });
  await child.call("drop");
  await waiting;
  assert.equal(await child.call("readPid", path), process.pid);
  await lock.release();
  assertNothingLeft(dir.path);
});

test(
  "PidFileLock.readPid() returns null for every content except a PID",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    const lock = new PidFileLock(path);
    const contents: [string | Uint8Array, number | null][] = [
      ["4711", 4711],
      ["4711\n", 4711],
      [" 4711 \r\n", 4711],
      ["0004711", 4711],
      ["", null],
      ["\n", null],
      ["0", null],
      ["-1", null],
      ["+1", null],
      ["1_000", null],
      ["1e3", null],
      ["0x10", null],
      ["12 34", null],
      ["4711 node", null],
      ["٤٧١١", null],
      [new Uint8Array([0xff, 0xfe]), null],
      [new Uint8Array(4), null],
      ["1".repeat(15), 111_111_111_111_111],
      ["1".repeat(16), null],
      ["4711".padEnd(64), 4711],
      ["4711".padEnd(65), null],
      ["4711".padEnd(100_000) + "junk", null],
    ];
    for (const [content, pid] of contents) {
      fs.writeFileSync(path, content);
      assert.equal(await readPid(lock), pid, String(content).slice(0, 20));
    }
    // A file that is larger than the memory.
    fs.truncateSync(path, 2 ** 40);
    assert.equal(await readPid(lock), null);
    fs.rmSync(path);
    assert.equal(await readPid(lock), null);
    fs.mkdirSync(path);
    assert.equal(await readPid(lock), null);
    fs.rmdirSync(path);
    spawnSync("mkfifo", [path]);
    assert.equal(await readPid(lock), null, "a FIFO must not block");
    fs.rmSync(path);
    fs.writeFileSync(`${path}.other`, "12");
    fs.symlinkSync(`${path}.other`, path);
    assert.equal(await readPid(lock), 12);
    fs.rmSync(`${path}.other`);
    assert.equal(await readPid(lock), null);
    fs.rmSync(path);
    fs.symlinkSync(path, path);
    await assert.rejects(lock.readPid(), { code: "ELOOP" });
    assert.throws(() => lock.readPidSync(), { code: "ELOOP" });
    assert.equal(openDescriptors(dir.path), 0);
  },
  "symbolic links",
  "mkfifo(1)",
);

test("PidFileLock publishes the PID atomically", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.pid");
  await using one = LockProcess.start(at(allRuntimes, 0));
  await using two = LockProcess.start(allRuntimes.at(-1)!);
  const seen = new Set<number | null>();
  let done = false;
  const cycling = Promise.all(
    [one, two].map((child) => child.call("cycleOf", "PidFileLock", path, 300)),
  ).finally(() => done = true);
  const lock = new PidFileLock(path);
  while (!done) {
    seen.add(lock.readPidSync());
    seen.add(await lock.readPid());
    const text = fs.existsSync(path) ? readIfThere(path) : null;
    assert.notEqual(text, "", "the PID appears whole");
    await setImmediate();
  }
  await cycling;
  const pids = [one, two].map((child) => child.process.pid);
  for (const pid of seen) assert.ok(pid === null || pids.includes(pid));
  assert.ok(seen.size > 1);
  assertNothingLeft(dir.path);
});

function readIfThere(path: string): string | null {
  try {
    return fs.readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

test("PidFileLock keeps the PID file of another process", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.pid");
  const lock = new PidFileLock(path);
  for (const content of ["4711", "junk", ""]) {
    await lock.acquire();
    fs.writeFileSync(path, content);
    await lock.release();
    assert.equal(fs.readFileSync(path, "utf8"), content);
    assertNothingLeft(dir.path, "a.pid");
    fs.rmSync(path);
  }
  // Another file with the same number: only the file itself differs.
  await lock.acquire();
  fs.writeFileSync(`${path}.other`, String(process.pid));
  fs.renameSync(`${path}.other`, path);
  await lock.release();
  assert.equal(await readPid(lock), process.pid);
  assertNothingLeft(dir.path, "a.pid");
  await lock.acquire();
  fs.rmSync(path);
  await lock.release();
  assertNothingLeft(dir.path);
});

test(
  "PidFileLock keeps the files of a process that replaced its lock file",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    const lock = new PidFileLock(path);
    await lock.acquire();
    fs.rmSync(`${path}.lock`);
    // Both holders are this process, so the PID does not distinguish them.
    const other = new PidFileLock(path);
    await other.acquire();
    await lock.release();
    assert.deepEqual(sortedNames(dir.path), ["a.pid", "a.pid.lock"]);
    assert.equal(await new PidFileLock(path).tryAcquire(), null);
    await other.release();
    assertNothingLeft(dir.path);
  },
  "unlinking open files",
);

test(
  "PidFileLock that cannot remove its PID file removes its lock file, and reports the error if requested",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    const target = join(dir.path, "b.pid");
    for (const throwOnReleaseError of [false, true]) {
      const lock = new PidFileLock(path, { throwOnReleaseError });
      await lock.acquire();
      fs.rmSync(path);
      fs.symlinkSync(path, path);
      const releasing = lock.release();
      if (throwOnReleaseError) {
        await assert.rejects(releasing, {
          name: "LockException",
          code: "ELOOP",
        });
      } else {
        await releasing;
      }
      assert.equal(lock.locked, false);
      assertNothingLeft(dir.path, "a.pid");
      fs.rmSync(path);
    }
    assert.equal(fs.existsSync(target), false);
  },
  "symbolic links",
);

test(
  "PidFileLock creates its files with creationMode minus the umask",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    const umask = process.umask(0o027);
    try {
      await using _file = await new PidFileLock(path, { creationMode: 0o624 })
        .acquire();
      for (const name of [path, `${path}.lock`]) {
        assert.equal(fs.statSync(name).mode & 0o777, 0o600);
      }
    } finally {
      process.umask(umask);
    }
  },
  "permission bits",
);

test(
  "PidFileLock throws AlreadyLocked although the PID file cannot be read",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    await using _held = await new PidFileLock(path).acquire();
    fs.unlinkSync(path);
    fs.symlinkSync(path, path);
    await withPatchedPlatform(() => ({ holders: () => null }), async () => {
      const refused = { name: "AlreadyLocked", holderPid: null };
      await assert.rejects(new PidFileLock(path).acquire(), refused);
    });
    fs.unlinkSync(path);
  },
  "symbolic links",
);

test("PidFileLock conflicts with a TemporaryFileLock on its lock file", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.pid");
  const temporary = new TemporaryFileLock(`${path}.lock`);
  await temporary.run(async () => {
    assert.equal(await new PidFileLock(path).tryAcquire(), null);
    assert.deepEqual(sortedNames(dir.path), ["a.pid.lock"]);
  });
  await new PidFileLock(path).run(async () => {
    assert.equal(await temporary.tryAcquire(), null);
  });
  assertNothingLeft(dir.path);
});

test("PidFileLock reads the PID file if the system does not report holders", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.pid");
  await using child = LockProcess.start(at(allRuntimes, 0));
  await child.call("hold", "PidFileLock", path);
  const { pid } = child.process;
  await withPatchedPlatform(() => ({ holders: noopOs.holders }), async () => {
    await assert.rejects(new PidFileLock(path).acquire(), { holderPid: pid });
    const lock = new PidFileLock(path, { timeout: 10 });
    assert.throws(() => lock.acquireSync(), { holderPid: pid });
  });
});

test("PidFileLock that cannot truncate its lock file publishes no PID", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.pid");
  fs.writeFileSync(`${path}.lock`, "stale");
  await withPatchedFiles(
    () => ({
      truncateSync() {
        throw systemError("EIO", 5);
      },
    }),
    () =>
      assert.throws(() => new PidFileLock(path).acquireSync(), { code: "EIO" }),
  );
  assertNothingLeft(dir.path);
});

test("PidFileLock takes a name that leaves no room for the suffix of its lock file", async () => {
  for (const length of [250, 251, 255]) {
    using dir = tempDir();
    const name = "p".repeat(length);
    const path = join(dir.path, name);
    const lock = new PidFileLock(path);
    const file = await lock.acquire();
    assert.equal(await lock.readPid(), process.pid);
    const names = sortedNames(dir.path);
    assert.equal(names.length, 2);
    assert.ok(names.includes(name));
    assert.ok(names.every((name) => name.length <= 255));
    assert.equal(names.includes(`${name}.lock`), length === 250);
    assert.equal(await new PidFileLock(path).tryAcquire(), null);
    await file.close();
    assert.deepEqual(fs.readdirSync(dir.path), []);
  }
});

test(
  "workers: the end of a thread removes no PID file that the lock has not written",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "precious");
    fs.writeFileSync(path, "not a PID");
    const registered: string[] = [];
    await withPatchedPlatform(() => ({
      unlinkOnThreadExit(_, path) {
        registered.push(path);
        return () => {};
      },
    }), async () => {
      await assert.rejects(new PidFileLock(path).acquire(), { code: "EEXIST" });
      assert.deepEqual(registered, [`${path}.lock`]);
      fs.unlinkSync(path);
      await new PidFileLock(path).run(() => {});
      assert.deepEqual(registered.slice(1), [`${path}.lock`, path]);
    });
  },
  "file descriptors",
);
