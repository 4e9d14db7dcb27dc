import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fdPlatform } from "../../ffi/file/fd_platform.ts";
import { replaceable } from "../../ffi/windows/stacked_locks.ts";
import { platform, setPlatformForTesting } from "../../ffi/mod.ts";
import { Unsupported } from "../../ffi/types.ts";
import type { CValue, FfiRuntime, SystemError } from "../../ffi/types.ts";
import { windows } from "../../ffi/windows/windows.ts";
import { renameAndUnlink } from "../../ffi/windows/unlink.ts";
import { Lock, LOCK_EX, LOCK_NB, LOCK_SH, lockSync } from "../../mod.ts";
import {
  PidFileLock,
  TemporaryFileLock,
  unlock,
  writeAtomic,
} from "../../mod.ts";
import { BoundedSemaphore, lockAll } from "../../mod.ts";
import { openAtomic, writeAtomicSync } from "../../mod.ts";
import { parseMode } from "../../src/options/open_mode.ts";
import { staleName } from "../fixtures/atomic_writes.ts";
import { currentRuntime, runtimes, testEnv } from "../support/env.ts";
import { systemError, withPatchedPlatform } from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import { waitUntilBlocked } from "../support/waits.ts";

const EXCLUSIVE = { timeout: 0 };
const SHARED = { flags: LOCK_SH | LOCK_NB, timeout: 0 };

const PEER = "a program that locks as Python does on Windows";

/** A child process that locks as Python does on Windows. */
class Peer extends LockProcess {
  constructor() {
    super([testEnv.peer!]);
  }

  /** Returns whether it acquired the lock. */
  async try(how: string, path: string): Promise<boolean> {
    this.writeLine(`${how} ${path}`);
    return await this.#result();
  }

  async release(): Promise<void> {
    this.writeLine("release");
    assert.equal(await this.#result(), true);
  }

  async #result(): Promise<boolean> {
    const line = (await this.readLine()).trim();
    assert.match(line, /^[01]$/);
    return line === "1";
  }
}

const PYTHON_CALLS = { pywin32: "LockFileEx", msvcrt: "_locking" };

for (const [how, name] of Object.entries(PYTHON_CALLS)) {
  test(
    `Windows: Lock and ${name}, called as by ${how} of Python, exclude each other`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      await using peer = new Peer();
      for (const size of [0, 100, 200_000]) {
        fs.writeFileSync(path, "x".repeat(size));
        const file = await new Lock(path, EXCLUSIVE).acquire();
        assert.equal(await peer.try(how, path), false);
        await file.close();
        assert.equal(await peer.try(how, path), true);
        assert.equal(await new Lock(path, EXCLUSIVE).tryAcquire(), null);
        assert.equal(await new Lock(path, SHARED).tryAcquire(), null);
        await peer.release();
        await using _reader = await new Lock(path, SHARED).acquire();
        assert.equal(await peer.try(how, path), false);
      }
    },
    PEER,
  );
}

test(
  "Windows: Lock shares with LockFileEx, called as by pywin32 of Python",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using peer = new Peer();
    const file = await new Lock(path, SHARED).acquire();
    assert.equal(await peer.try("shared", path), true);
    assert.equal(await new Lock(path, EXCLUSIVE).tryAcquire(), null);
    await peer.release();
    await file.close();
    await new Lock(path, EXCLUSIVE).run(() => {});
  },
  PEER,
);

test(
  "Windows: the LockFileEx of a killed program is released",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using peer = new Peer();
    assert.equal(await peer.try("pywin32", path), true);
    assert.equal(await new Lock(path, EXCLUSIVE).tryAcquire(), null);
    const waiting = new Lock(path, { timeout: 60_000 }).acquire();
    await peer.kill();
    await (await waiting).close();
  },
  PEER,
);

test(
  "Windows: a program that has a lock file open, as Python does, does not prevent a release",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using peer = new Peer();
    for (const throwOnReleaseError of [false, true]) {
      const options = { throwOnReleaseError, timeout: 0 };
      const lock = new TemporaryFileLock(path, options);
      const file = await lock.acquire();
      assert.equal(await peer.try("open", path), true);
      const closing = file.close().then(() => null, (error) => error);
      assert.equal(
        (await closing)?.name,
        throwOnReleaseError ? "LockException" : undefined,
      );
      assert.deepEqual(fs.readdirSync(dir.path), ["a.lock"]);
      await new Lock(path, EXCLUSIVE).run(() => {});
      await peer.release();
    }
    await new TemporaryFileLock(path, EXCLUSIVE).run(() => {});
    assert.deepEqual(fs.readdirSync(dir.path), []);
  },
  PEER,
);

test(
  "Windows: a program that reads a PID file, as Python does, does not prevent a release",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    await using peer = new Peer();
    const file = await new PidFileLock(path).acquire();
    assert.equal(await peer.try("open", path), true);
    await file.close();
    assert.deepEqual(fs.readdirSync(dir.path), ["a.pid"]);
    await peer.release();
    await new PidFileLock(path).run(() => {});
    assert.deepEqual(fs.readdirSync(dir.path), []);
  },
  PEER,
);

test("Windows: no byte of a held PID file is locked", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.pid");
  await using peer = new Peer();
  await using _file = await new PidFileLock(path).acquire();
  assert.equal(await peer.try("pywin32", `${path}.lock`), false);
  assert.equal(await peer.try("pywin32", path), true);
  await peer.release();
}, PEER);

test(
  "Windows: no byte of the content of an atomic write is locked",
  async () => {
    using dir = tempDir();
    await using peer = new Peer();
    await using file = await openAtomic(join(dir.path, "a"));
    await file.writeText("new");
    const path = join(dir.path, at(fs.readdirSync(dir.path), 0));
    assert.equal(await peer.try("pywin32", path), false, "the file is locked");
    assert.equal(await peer.try("msvcrt", path), true);
    await peer.release();
  },
  PEER,
);

test("Windows: opening a lock file that is being removed is retried", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const retries = process.platform === "win32";
  for (const form of ["acquire", "acquireSync"] as const) {
    for (const denials of [3, Infinity]) {
      let opened = 0;
      const denied = <F extends (...how: never[]) => unknown>(open: F) =>
        ((...how) => {
          if (++opened > denials) return open(...how);
          throw Object.assign(new Error("denied"), { code: "EPERM" });
        }) as F;
      const acquire = async () =>
        await (await new TemporaryFileLock(path, EXCLUSIVE)[form]()).close();
      const start = performance.now();
      const error = await withPatchedPlatform(
        (real) => ({
          open: denied(real.open),
          openSync: denied(real.openSync),
        }),
        () => acquire().then(() => null, (error) => error),
      );
      if (retries && denials === 3) {
        assert.equal(error, null);
      } else {
        assert.equal(error.code, "EPERM");
        assert.equal(opened > 3, retries);
        assert.ok(performance.now() - start < 5000);
      }
    }
  }
});

test(
  "Windows: no process has a file open after the release of its lock",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using peer = new Peer();
    for (const runtime of runtimes) {
      await using worker = LockProcess.start(runtime);
      await worker.call("acquire", path);
      assert.equal(await peer.try("alone", path), false, runtime.name);
      await worker.call("release");
      assert.equal(await peer.try("alone", path), true, runtime.name);
      for (let i = 0; i < 20; i++) {
        const options = i % 2 ? EXCLUSIVE : SHARED;
        using _held = await new Lock(path, options).acquire();
        assert.equal(await worker.call("tryAcquire", path), false);
        const lock = new Lock(path, { timeout: 1 });
        await assert.rejects(lock.acquire({ failWhenLocked: false }));
      }
      assert.equal(await peer.try("alone", path), true, runtime.name);
    }
  },
  PEER,
);

test("Windows: lockSync() blocks until the lock is released", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  await using holder = LockProcess.start(currentRuntime);
  for (const runtime of runtimes) {
    await using worker = LockProcess.start(runtime);
    await holder.call("acquire", path);
    let done = false;
    const waiting = worker.call("lockSync", path).then(() => done = true);
    await waitUntilBlocked(worker);
    assert.equal(done, false, runtime.name);
    await holder.call("release");
    await waiting;
    assert.equal(await new Lock(path, SHARED).tryAcquire(), null);
  }
}, "file descriptors");

test("Windows: a file in append mode can be locked and appended to", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "one ");
  await using file = await new Lock(path, { mode: "a" }).acquire();
  assert.equal(await new Lock(path, EXCLUSIVE).tryAcquire(), null);
  await file.writeText("two ");
  file.seekSync(0);
  file.writeTextSync("three ");
  file.seekSync(0);
  const words = Array.from({ length: 100 }, (_, i) => `<${i}>`);
  const writing = words.map((word) => file.writeText(word));
  const seeking = file.seek(0);
  await Promise.all([...writing, seeking, file.writeText("four ")]);
  file.writeTextSync("");
  const text = fs.readFileSync(path, "utf8");
  assert.equal(text, `one two three ${words.join("")}four `);
  for (const content of ["new ", "newer and longer ", ""]) {
    await file.replaceContents(content);
    file.seekSync(0);
    await file.writeText("end");
    assert.equal(fs.readFileSync(path, "utf8"), `${content}end`);
  }
});

test("Windows: a file in append mode is opened for writing", () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  fs.writeFileSync(path, "one");
  const files = fdPlatform(fakeWindows({}).system);
  const file = files.openSync(path, parseMode("a"), 0o666);
  // If the system appended, the position would be ignored.
  fs.writeSync(file.fd!, Uint8Array.of(120), 0, 1, 0);
  file.closeSync();
  assert.equal(fs.readFileSync(path, "utf8"), "xne");
});

test("Windows: the name of a released file is free even if a process has the file open", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  for (const form of ["acquire", "acquireSync"] as const) {
    const file = await new TemporaryFileLock(path, EXCLUSIVE)[form]();
    const reader = fs.openSync(path, "r");
    await file.close();
    fs.writeFileSync(path, "another", { flag: "wx" });
    fs.closeSync(reader);
    assert.equal(fs.readFileSync(path, "utf8"), "another");
    fs.unlinkSync(path);
  }
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

test("Windows: the locked range does not depend on the file position", () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "x".repeat(200 * 1024));
  const [one, other] = [fs.openSync(path, "r+"), fs.openSync(path, "r+")];
  // Beyond the range that msvcrt of Python locks.
  fs.readSync(one, new Uint8Array(100 * 1024));
  lockSync(one, LOCK_EX);
  assert.throws(() => lockSync(other, LOCK_EX | LOCK_NB), {
    name: "AlreadyLocked",
  });
  fs.readSync(one, new Uint8Array(1024));
  unlock(one);
  lockSync(other, LOCK_EX | LOCK_NB);
  fs.closeSync(one);
  fs.closeSync(other);
}, "file descriptors");

test("Windows: acquire() never rejects because the file is being removed", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const options = { timeout: 60_000, failWhenLocked: false };
  const cycles = async (form: "acquire" | "acquireSync") => {
    for (let i = 0; i < 200; i++) {
      const file = await new TemporaryFileLock(path, options)[form]();
      await file.close();
    }
  };
  const others = await Promise.all(
    runtimes.map((runtime) => LockProcess.start(runtime)),
  );
  const theirs = others.map((other) =>
    other.call("cycleOf", "TemporaryFileLock", path, 200)
  );
  await Promise.all([cycles("acquire"), cycles("acquire"), ...theirs]);
  await cycles("acquireSync");
  await Promise.all(others.map((other) => other[Symbol.asyncDispose]()));
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

test("Windows: a PID file can be read while it is locked", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.pid");
  await using _file = await new PidFileLock(path).acquire();
  assert.equal(fs.readFileSync(path, "utf8"), String(process.pid));
  for (const runtime of runtimes) {
    await using worker = LockProcess.start(runtime);
    assert.equal(await worker.call("readPid", path), process.pid);
  }
});

test("Windows: an atomic write waits for readers that have the file open", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  fs.writeFileSync(path, "old");
  const reader = fs.openSync(path, "r");
  const writing = writeAtomic(path, "new", { replace: true });
  await delay(50);
  assert.equal(fs.readFileSync(reader, "utf8"), "old");
  fs.closeSync(reader);
  await writing;
  assert.equal(fs.readFileSync(path, "utf8"), "new");
  writeAtomicSync(path, "newer", { replace: true });
  assert.equal(fs.readFileSync(path, "utf8"), "newer");
  assert.deepEqual(fs.readdirSync(dir.path), ["a"]);
});

test(
  "Windows: creationMode determines whether the owner may write",
  async () => {
    using dir = tempDir();
    for (const creationMode of [0o600, 0o400]) {
      const path = join(dir.path, `${creationMode}`);
      await new Lock(path, { creationMode }).run(() => {});
      assert.equal(fs.statSync(path).mode & 0o200, creationMode & 0o200);
      fs.chmodSync(path, 0o600);
    }
  },
  "file descriptors",
);

/** Creates fake locks that stack as those of LockFileEx do. Files are numbers. */
function stackedLocks() {
  const locks: [file: number, exclusive: boolean][] = [];
  const log: string[] = [];
  const { tryLock, unlock } = replaceable<number>({
    push(file, exclusive) {
      const denied = locks.some(([other, kind]) =>
        exclusive || kind && other !== file
      );
      log.push(`${exclusive ? "X" : "S"}${denied ? " denied" : ""}`);
      if (!denied) locks.push([file, exclusive]);
      return !denied;
    },
    pop(file) {
      log.push("unlock");
      const mine = locks.filter(([owner]) => owner === file);
      const gone = mine.find(([, exclusive]) => exclusive) ?? mine[0];
      if (gone) locks.splice(locks.indexOf(gone), 1);
      return gone !== undefined;
    },
  });
  const kinds = (file: number) =>
    locks.filter(([owner]) => owner === file).map(([, kind]) => kind);
  return { tryLock, unlock, kinds, log };
}

test("Windows: the latest lock of a file is its only lock", () => {
  for (const first of [true, false]) {
    for (const second of [true, false]) {
      const { tryLock, unlock, kinds } = stackedLocks();
      assert.equal(tryLock(1, first), true);
      assert.equal(tryLock(1, second), true);
      assert.ok(kinds(1).every((kind) => kind === second));
      assert.equal(tryLock(2, false), !second);
      assert.equal(tryLock(2, true), false);
      unlock(1);
      assert.deepEqual(kinds(1), []);
      assert.equal(tryLock(2, true), true);
      unlock(1);
      assert.deepEqual(kinds(2), [true], "the other file keeps its lock");
    }
  }
});

test("Windows: a downgrade from exclusive to shared is atomic", () => {
  const { tryLock, log } = stackedLocks();
  tryLock(1, true);
  log.length = 0;
  tryLock(1, false);
  assert.deepEqual(log, ["S", "S", "unlock"]);
});

test("Windows: a shared lock that cannot be stacked stays", () => {
  let locks = 0;
  const { tryLock } = replaceable<number>({
    push: () => locks === 0 && ++locks > 0,
    pop: () => locks > 0 && locks-- > 0,
  });
  assert.equal(tryLock(1, false), true);
  assert.equal(locks, 1);
});

test("Windows: unlock() ends even if every attempt succeeds", () => {
  const { unlock } = replaceable<number>({ push: () => true, pop: () => true });
  unlock(1);
});

test("Windows: a failed upgrade to exclusive loses the shared lock", () => {
  const { tryLock, kinds } = stackedLocks();
  tryLock(1, false);
  tryLock(2, false);
  assert.equal(tryLock(1, true), false);
  assert.deepEqual(kinds(1), []);
  assert.equal(tryLock(2, true), true);
});

/** Creates a fake Windows whose functions return these results in turn. */
function fakeWindows(results: Record<string, number[]>) {
  const calls: [name: string, ...values: CValue[]][] = [];
  const runtime: FfiRuntime = {
    name: "a fake",
    bind: (_library, functions) =>
      Object.fromEntries(
        Object.keys(functions).map((name) => [name, (...values: CValue[]) => {
          calls.push([
            name,
            ...values.map((value) =>
              value instanceof Uint8Array ? value.slice() : value
            ),
          ]);
          return results[name]?.shift() ?? 1;
        }]),
      ) as ReturnType<FfiRuntime["bind"]>,
    errno: () => assert.fail("Windows does not have errno"),
  };
  return { system: windows(runtime), calls };
}

test("Windows: LockFileEx is called for the same bytes as by Python's portalocker", () => {
  const { system, calls } = fakeWindows({ uv_get_osfhandle: [77] });
  assert.equal(system.tryLock(3, true), true);
  assert.deepEqual(calls[0], ["uv_get_osfhandle", 3]);
  const [name, file, flags, reserved, low, high, overlapped] = at(calls, 1);
  assert.equal(name, "LockFileEx");
  // winbase.h: LOCKFILE_FAIL_IMMEDIATELY and LOCKFILE_EXCLUSIVE_LOCK.
  assert.deepEqual([file, flags, reserved], [77n, 3, 0]);
  assert.deepEqual([low, high], [0, -0x10000]);
  assert.deepEqual(overlapped, new Uint8Array(32));
});

test("Windows: tryLock() returns false for a busy lock, and throws any other error with code and message", () => {
  const busy = fakeWindows({
    LockFileEx: [0],
    UnlockFileEx: [0],
    GetLastError: [33, 158],
  });
  assert.equal(busy.system.tryLock(3, true), false);
  const broken = fakeWindows({ LockFileEx: [0], GetLastError: [6] });
  assert.throws(() => broken.system.tryLock(3, true), (error: SystemError) => {
    assert.equal(error.syscall, "LockFileEx");
    assert.match(error.message, /Windows error 6$/);
    return true;
  });
  const none = fakeWindows({ LockFileEx: [0], GetLastError: [1] });
  assert.throws(() => none.system.tryLock(3, true), { code: "ENOTSUP" });
  const closed = fakeWindows({ uv_get_osfhandle: [-1] });
  assert.throws(() => closed.system.unlock(3), { code: "EBADF" });
});

test("Windows: GetLastError is called right after the failed call", () => {
  const { system, calls } = fakeWindows({
    LockFileEx: [0],
    UnlockFileEx: [0],
    GetLastError: [33, 158],
  });
  system.tryLock(3, true);
  const names = calls.map(([name]) => name);
  for (const name of ["LockFileEx", "UnlockFileEx"]) {
    assert.equal(names[names.indexOf(name) + 1], "GetLastError");
  }
});

test("Windows: a call whose error code was cleared is repeated", () => {
  const acquired = fakeWindows({ LockFileEx: [0, 1], GetLastError: [0] });
  assert.equal(acquired.system.tryLock(3, true), true);
  const busy = fakeWindows({
    LockFileEx: [0, 0],
    UnlockFileEx: [0, 0],
    GetLastError: [0, 33, 0, 158],
  });
  assert.equal(busy.system.tryLock(3, true), false);
  const zeros = Array.from({ length: 100 }, () => 0);
  const broken = fakeWindows({ LockFileEx: zeros, GetLastError: [...zeros] });
  assert.throws(() => broken.system.tryLock(3, true), /Windows error 0$/);
});

test("Windows: WriteFile writes at the end of the file", () => {
  const { system, calls } = fakeWindows({ uv_get_osfhandle: [77] });
  system.append!(3, Uint8Array.of(1, 2));
  const [name, file, data, length, , overlapped] = at(calls, 1);
  assert.deepEqual([name, file, length], ["WriteFile", 77n, 2]);
  assert.deepEqual(data, Uint8Array.of(1, 2));
  const offset = (overlapped as Uint8Array).subarray(16, 24);
  assert.deepEqual(offset, new Uint8Array(8).fill(0xff));
  assert.equal(system.append!(3, new Uint8Array()), 0);
  assert.equal(calls.length, 2, "no call for empty data");
  const full = fakeWindows({ WriteFile: [0], GetLastError: [112] });
  assert.throws(() => full.system.append!(3, Uint8Array.of(1)), {
    syscall: "WriteFile",
  });
});

test("Windows: renameAndUnlink() frees the name even if the file cannot be removed yet", () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "");
  renameAndUnlink(path, () => {
    throw Object.assign(new Error("the file is open"), { code: "EBUSY" });
  });
  const [name = "", ...others] = fs.readdirSync(dir.path);
  assert.match(name, /^\.portalock\.[0-9a-f]{16}\.tmp$/);
  assert.deepEqual(others, []);
  fs.writeFileSync(path, "");
  renameAndUnlink(path);
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

test(
  "Windows: a symbolic link at the path of a lock file is rejected",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const target = join(dir.path, "b");
    fs.symlinkSync(target, path);
    const files = fdPlatform(fakeWindows({}).system);
    const mode = { ...parseMode("a"), noFollow: true };
    assert.throws(() => files.openSync(path, mode, 0o666), { code: "ELOOP" });
    const open = async () => await files.open(path, mode, 0o666);
    await assert.rejects(open, { code: "ELOOP" });
    assert.equal(fs.existsSync(target), false, "no file is created");
  },
  "symbolic links",
);

test("Windows: locker() rejects record locks", () => {
  const { system } = fakeWindows({});
  for (const name of ["ofd", "lockf"] as const) {
    assert.throws(() => system.locker({ name }), Unsupported);
  }
});

test("Windows: lockAll() recognizes a file in upper case", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "");
  const names = [path, path.toUpperCase()];
  await using files = await lockAll(names, EXCLUSIVE);
  assert.equal(files.at(0), files.at(1));
}, "stacked locks");

test("Windows: a path may be relative to a drive", async () => {
  using dir = tempDir();
  const before = process.cwd();
  process.chdir(dir.path);
  try {
    const name = `${dir.path.slice(0, 2)}a`;
    await writeAtomic(name, "content");
    await using _ = await new TemporaryFileLock(`${name}.lock`).acquire();
    assert.deepEqual(sortedNames(dir.path), ["a", "a.lock"]);
  } finally {
    process.chdir(before);
  }
}, "stacked locks");

test(
  "Windows: a read-only file can be a slot, and stale read-only files are removed",
  async () => {
    using dir = tempDir();
    const slot = join(dir.path, "a.00.lock");
    const left = join(dir.path, await staleName(dir.path));
    const options = { name: "a", directory: dir.path, ...EXCLUSIVE };
    const path = join(dir.path, "b");
    for (const path of [slot, left]) fs.writeFileSync(path, "");
    // Like Node and Bun on Windows. Under Wine, root may write any file.
    await withPatchedPlatform(({ openSync }) => ({
      open: (...how) =>
        Promise.resolve().then(() => platform().openSync(...how)),
      openSync(path, mode, ...how) {
        const denied = mode.write && [slot, left].includes(path);
        if (denied) throw systemError("EPERM", 1);
        return openSync(path, mode, ...how);
      },
    }), async () => {
      await using _ = await new BoundedSemaphore(1, options).acquire();
      assert.equal(await new BoundedSemaphore(1, options).tryAcquire(), null);
      writeAtomicSync(path, "");
      assert.deepEqual(sortedNames(dir.path), ["a.00.lock", "b"]);
      fs.writeFileSync(left, "");
      await writeAtomic(path, "", { replace: true });
    });
    assert.deepEqual(sortedNames(dir.path), ["a.00.lock", "b"]);
  },
  "an id of this machine",
);

test("Windows: platform() rejects 32-bit processors", () => {
  const before = setPlatformForTesting(undefined);
  const { arch } = process;
  Object.defineProperty(process, "arch", { value: "ia32" });
  try {
    assert.throws(() => platform(), /does not support win32 on ia32/);
  } finally {
    Object.defineProperty(process, "arch", { value: arch });
    setPlatformForTesting(before);
  }
}, "stacked locks");
