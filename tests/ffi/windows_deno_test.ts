import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { serializeAppends } from "../../ffi/windows/append_queue.ts";
import type {
  DenoApi,
  DenoFile,
  DenoOpenOptions,
} from "../../ffi/runtime/deno_api.ts";
import { denoPlatform } from "../../ffi/file/deno_platform.ts";
import { denoLocks } from "../../ffi/file/deno_locks.ts";
import type { OpenMode, PlatformFile } from "../../ffi/types.ts";
import {
  Lock,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  lockSync,
  unlock,
} from "../../mod.ts";
import { BoundedSemaphore, TemporaryFileLock, writeAtomic } from "../../mod.ts";
import { writeAtomicSync } from "../../mod.ts";
import { withPatchedPlatform } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

const MODE: OpenMode = {
  read: true,
  write: true,
  append: false,
  create: true,
  exclusive: false,
};
const NOW = { timeout: 0 };
const SHARED = { flags: LOCK_SH | LOCK_NB, timeout: 0 };

/** Returns an error with the message of Rust. */
const osError = (number: number) => new Error(`Words. (os error ${number})`);

/** Fake locks that stack on a file, as those of `LockFileEx` do. */
class FakeLocks {
  readonly held: [file: object, id: string, exclusive: boolean][] = [];
  log: string[] = [];

  lock(file: object, id: string, exclusive: boolean): void {
    const denied = this.held.some(([owner, other, kind]) =>
      other === id && (exclusive || kind && owner !== file)
    );
    this.log.push(`${exclusive ? "X" : "S"}${denied ? " denied" : ""}`);
    if (denied) throw osError(33);
    this.held.push([file, id, exclusive]);
  }

  unlock(file: object): void {
    this.log.push("unlock");
    const mine = this.held.filter(([owner]) => owner === file);
    const gone = mine.find(([, , exclusive]) => exclusive) ?? mine[0];
    if (!gone) throw osError(158);
    this.held.splice(this.held.indexOf(gone), 1);
  }

  unlockAll(file: object): void {
    while (this.held.some(([owner]) => owner === file)) this.unlock(file);
  }
}

/** Opens a fake file of Deno for Windows. */
function openFakeFile(
  path: string,
  options: DenoOpenOptions,
  locks: FakeLocks,
): DenoFile {
  const { create, createNew, write, append } = options;
  const { O_CREAT, O_EXCL, O_RDONLY, O_RDWR } = fs.constants;
  const real = fs.openSync(
    path,
    (write || append ? O_RDWR : O_RDONLY) | (create ? O_CREAT : 0) |
      (createNew ? O_CREAT | O_EXCL : 0),
  );
  const { dev, ino } = fs.fstatSync(real);
  let position = 0;
  const file = {
    tryLockSync(exclusive: boolean) {
      if (append) throw osError(5);
      locks.lock(file, `${dev}:${ino}`, exclusive);
      return true;
    },
    lockSync: (exclusive: boolean) => void file.tryLockSync(exclusive),
    unlockSync: () => locks.unlock(file),
    seekSync(offset: number, whence: number) {
      const starts = [0, position, fs.fstatSync(real).size];
      return position = at(starts, whence) + offset;
    },
    writeSync(data: Uint8Array) {
      const count = fs.writeSync(real, data, 0, data.length, position);
      position += count;
      return count;
    },
    write: async (data: Uint8Array) => await file.writeSync(data),
    truncateSync: (length: number) => fs.ftruncateSync(real, length),
    syncSync: () => fs.fsyncSync(real),
    sync: async () => await file.syncSync(),
    // Deno for Windows neither reports nor changes the owner.
    statSync: () => ({ ...fs.fstatSync(real), dev, ino, uid: null, gid: null }),
    stat: () => Promise.resolve(file.statSync()),
    close() {
      locks.unlockAll(file);
      fs.closeSync(real);
    },
  };
  return file as unknown as DenoFile;
}

/** Creates a fake Deno for Windows, and the platform on top of it. */
function fakeDeno() {
  const locks = new FakeLocks();
  const openSync = (path: string, options: DenoOpenOptions) =>
    openFakeFile(path, options, locks);
  const deno = {
    version: { deno: "2.9.5" },
    errors: { NotCapable: class extends Error {} },
    FsFile: { prototype: { tryLockSync() {} } },
    stat: () => Promise.resolve({ isFifo: false }),
    statSync: () => ({ isFifo: false }),
    openSync,
    open: async (path: string, options: DenoOpenOptions) =>
      await openSync(path, options),
  } as unknown as DenoApi;
  return { locks, files: denoPlatform(deno, true) };
}

/** Runs a body with two open files of the fake Deno. */
function withTwo(
  body: (locks: FakeLocks, a: PlatformFile, b: PlatformFile) => void,
) {
  using dir = tempDir();
  const { locks, files } = fakeDeno();
  const path = join(dir.path, "a.lock");
  const open = () => files.openSync(path, MODE, 0o666);
  const [one, other] = [open(), open()];
  body(locks, one, other);
  one.closeSync();
  other.closeSync();
}

test("Windows: a file of Deno has one lock at a time", () => {
  for (const first of [true, false]) {
    for (const second of [true, false]) {
      withTwo((locks, one, other) => {
        assert.equal(one.tryLock(first), true);
        assert.equal(one.tryLock(second), true);
        assert.equal(other.tryLock(false), !second);
        assert.equal(other.tryLock(true), false);
        one.unlock();
        assert.equal(other.tryLock(true), true);
        other.unlock();
        assert.deepEqual(locks.held, []);
      });
    }
  }
});

test("Windows: unlock() of an unlocked file of Deno succeeds", () => {
  withTwo((_locks, one) => {
    one.unlock();
    one.tryLock(true);
    one.unlock();
    one.unlock();
  });
});

test("Windows: tryLock() on Deno returns false for a busy lock, and throws any other error", () => {
  withTwo((_locks, one, other) => {
    one.tryLock(true);
    assert.equal(other.tryLock(true), false);
    assert.equal(other.tryLock(false), false);
  });
  const denied = () => {
    throw osError(5);
  };
  const locks = denoLocks({
    tryLockSync: denied,
    lockSync: denied,
    unlockSync: denied,
  }, true);
  assert.throws(() => locks.tryLock(true), /os error 5/);
  assert.throws(() => locks.unlock(), /os error 5/);
});

test("Windows: lock() on Deno releases the old lock of the file before it blocks", () => {
  withTwo((locks, one, other) => {
    one.tryLock(false);
    other.tryLock(false);
    locks.log = [];
    // The fake locks throw instead of blocking.
    assert.throws(() => one.lock(true), /os error 33/);
    assert.deepEqual(locks.log, [
      "X denied",
      "unlock",
      "unlock",
      "X denied",
      "X denied",
    ]);
    assert.equal(locks.held.length, 1);
  });
});

test("Windows: locks, semaphores and relock() work with files of Deno", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const { locks, files } = fakeDeno();
  await withPatchedPlatform(() => files, async () => {
    const file = await new Lock(path, { ...NOW, mode: "a+" }).acquire();
    assert.equal(await new Lock(path, SHARED).tryAcquire(), null);
    assert.equal(await file.relock(LOCK_SH), true);
    const reader = await new Lock(path, SHARED).acquire();
    await assert.rejects(file.relock(LOCK_EX | LOCK_NB), {
      name: "AlreadyLocked",
    });
    await reader.close();
    assert.equal(
      await file.relock(LOCK_EX),
      false,
      "the upgrade is not atomic",
    );
    await file.close();
    const temporary = join(dir.path, "b.lock");
    new TemporaryFileLock(temporary).acquireSync().closeSync();
    const one = new BoundedSemaphore(1, { name: "s", directory: dir.path });
    const two = new BoundedSemaphore(1, { name: "s", directory: dir.path });
    const slot = await one.acquire();
    assert.equal(await two.tryAcquire(), null);
    await slot.close();
    assert.deepEqual(locks.held, []);
  });
  assert.ok(!fs.existsSync(join(dir.path, "b.lock")));
});

test("Windows: Deno locks a file in append mode", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "one ");
  const { files } = fakeDeno();
  await withPatchedPlatform(() => files, async () => {
    const file = await new Lock(path, { ...NOW, mode: "a" }).acquire();
    file.seekSync(0);
    file.writeTextSync("two ");
    file.seekSync(0);
    const writing = [file.writeText("three "), file.writeText("four")];
    await Promise.resolve();
    const seeking = file.seek(0);
    await Promise.all([...writing, seeking]);
    const appended = fs.readFileSync(path, "utf8");
    assert.equal(appended, "one two three four");
    await file.replaceContents("newer and longer than before ");
    await file.seek(0);
    await file.writeText("end");
    await file.close();
  });
  assert.equal(
    fs.readFileSync(path, "utf8"),
    "newer and longer than before end",
  );
});

test("Windows: Deno replaces a file whose owner is not reported", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  const { files } = fakeDeno();
  for (const write of [writeAtomic, writeAtomicSync]) {
    fs.writeFileSync(path, "old");
    fs.chownSync(path, 12345, 12345);
    await withPatchedPlatform(
      () => files,
      () => write(path, "new", { replace: true }),
    );
    assert.equal(fs.readFileSync(path, "utf8"), "new");
    assert.equal(fs.statSync(path).uid, process.getuid!());
  }
}, "root");

test("Windows: the error of Deno for a file descriptor does not advise --allow-ffi", () => {
  const { files } = fakeDeno();
  assert.throws(
    () => files.fromFd(3),
    (error: Error) =>
      /Deno\.FsFile/.test(error.message) && !/ffi/.test(error.message),
  );
});

test(
  "Windows: lockSync() and unlock() replace the lock of a Deno.FsFile",
  () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const locks = new FakeLocks();
    const options = { read: true, write: true, append: false, create: true };
    const open = () =>
      openFakeFile(path, { ...options, createNew: false }, locks);
    const [one, other] = [open(), open()];
    unlock(one);
    lockSync(one, LOCK_EX | LOCK_NB);
    assert.throws(() => lockSync(other, LOCK_SH | LOCK_NB), {
      name: "AlreadyLocked",
    });
    lockSync(one, LOCK_SH | LOCK_NB);
    lockSync(other, LOCK_SH | LOCK_NB);
    unlock(one);
    lockSync(other, LOCK_EX | LOCK_NB);
    unlock(other);
    assert.deepEqual(locks.held, []);
    one.close();
    other.close();
  },
  "stacked locks",
);

test("Windows: an append is not interleaved, and other work runs between its chunks", async () => {
  const log: string[] = [];
  const chunk = 2 ** 16;
  let writesLeft = 3;
  const write = serializeAppends((data) => {
    if (writesLeft-- === 0) throw new Error("full");
    log.push(`${data[0]}: ${data.length}`);
    return data.length;
  });
  let ticks = 0;
  const timer = setInterval(() => ticks++);
  const first = write(new Uint8Array(2 * chunk + 1).fill(1));
  const second = write(Uint8Array.of(2));
  await assert.rejects(second, /full/);
  assert.equal(await first, 2 * chunk + 1);
  assert.deepEqual(log, [`1: ${chunk}`, `1: ${chunk}`, "1: 1"]);
  // A write that fails halfway returns the length. The next write fails.
  writesLeft = 1;
  assert.equal(await write(new Uint8Array(2 * chunk)), chunk);
  writesLeft = Infinity;
  assert.equal(await write(new Uint8Array()), 0);
  assert.equal(await write(new Uint8Array(200 * chunk)), 200 * chunk);
  clearInterval(timer);
  assert.ok(ticks > 0);
});
