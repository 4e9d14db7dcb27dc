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

const MODE: OpenMode = {
  read: true,
  write: true,
  append: false,
  create: true,
  exclusive: false,
};
const NOW = { timeout: 0 };
const SHARED = { flags: LOCK_SH | LOCK_NB, timeout: 0 };

/** An error as Rust words it. */
const osError = (number: number) => new Error(`Words. (os error ${number})`);

/** The locks of files as `LockFileEx` piles them up. */
class Pile {
  readonly locks: [file: object, id: string, exclusive: boolean][] = [];
  log: string[] = [];

  take(file: object, id: string, exclusive: boolean): void {
    const denied = this.locks.some(([owner, other, kind]) =>
      other === id && (exclusive || kind && owner !== file)
    );
    this.log.push(`${exclusive ? "X" : "S"}${denied ? " denied" : ""}`);
    if (denied) throw osError(33);
    this.locks.push([file, id, exclusive]);
  }

  drop(file: object): void {
    this.log.push("drop");
    const mine = this.locks.filter(([owner]) => owner === file);
    const gone = mine.find(([, , exclusive]) => exclusive) ?? mine[0];
    if (!gone) throw osError(158);
    this.locks.splice(this.locks.indexOf(gone), 1);
  }

  dropAll(file: object): void {
    while (this.locks.some(([owner]) => owner === file)) this.drop(file);
  }
}

/** An open file of a Deno for Windows. */
function imitatedFile(
  path: string,
  options: DenoOpenOptions,
  pile: Pile,
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
      pile.take(file, `${dev}:${ino}`, exclusive);
      return true;
    },
    lockSync: (exclusive: boolean) => void file.tryLockSync(exclusive),
    unlockSync: () => pile.drop(file),
    seekSync(offset: number, whence: number) {
      const from = [0, position, fs.fstatSync(real).size][whence];
      return position = from + offset;
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
    // What Deno for Windows tells of nobody, and cannot give to anybody.
    statSync: () => ({ ...fs.fstatSync(real), dev, ino, uid: null, gid: null }),
    stat: () => Promise.resolve(file.statSync()),
    close() {
      pile.dropAll(file);
      fs.closeSync(real);
    },
  };
  return file as unknown as DenoFile;
}

/** A Deno for Windows: its locks, and what the library makes of it. */
function imitatedDeno() {
  const pile = new Pile();
  const openSync = (path: string, options: DenoOpenOptions) =>
    imitatedFile(path, options, pile);
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
  return { pile, files: denoPlatform(deno, true) };
}

/** Runs a body with two open files of that Deno. */
function withTwo(body: (pile: Pile, a: PlatformFile, b: PlatformFile) => void) {
  using dir = tempDir();
  const { pile, files } = imitatedDeno();
  const path = join(dir.path, "a.lock");
  const [one, other] = [1, 2].map(() => files.openSync(path, MODE, 0o666));
  body(pile, one, other);
  one.closeSync();
  other.closeSync();
}

test("Windows: a file of Deno's has one lock at a time", () => {
  for (const first of [true, false]) {
    for (const second of [true, false]) {
      withTwo((pile, one, other) => {
        assert.equal(one.tryLock(first), true);
        assert.equal(one.tryLock(second), true);
        assert.equal(other.tryLock(false), !second);
        assert.equal(other.tryLock(true), false);
        one.unlock();
        assert.equal(other.tryLock(true), true);
        other.unlock();
        assert.deepEqual(pile.locks, []);
      });
    }
  }
});

test("Windows: a file of Deno's that is not locked is unlocked without an error", () => {
  withTwo((_pile, one) => {
    one.unlock();
    one.tryLock(true);
    one.unlock();
    one.unlock();
  });
});

test("Windows: a lock that others have is no error on Deno, anything else is one", () => {
  withTwo((_pile, one, other) => {
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

test("Windows: blocking on Deno gives up the lock of the file first", () => {
  withTwo((pile, one, other) => {
    one.tryLock(false);
    other.tryLock(false);
    pile.log = [];
    // The imitation throws where Windows would wait.
    assert.throws(() => one.lock(true), /os error 33/);
    assert.deepEqual(pile.log, [
      "X denied",
      "drop",
      "drop",
      "X denied",
      "X denied",
    ]);
    assert.equal(pile.locks.length, 1);
  });
});

test("Windows: locks, semaphores and relock() work over files of Deno's", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const { pile, files } = imitatedDeno();
  await withPatchedPlatform(() => files, async () => {
    const file = await new Lock(path, { ...NOW, mode: "a+" }).acquire();
    assert.equal(await new Lock(path, SHARED).tryAcquire(), null);
    assert.equal(await file.relock(LOCK_SH), true);
    const reader = await new Lock(path, SHARED).acquire();
    await assert.rejects(file.relock(LOCK_EX | LOCK_NB), {
      name: "AlreadyLocked",
    });
    await reader.close();
    assert.equal(await file.relock(LOCK_EX), false, "somebody may come in");
    await file.close();
    const temporary = join(dir.path, "b.lock");
    new TemporaryFileLock(temporary).acquireSync().closeSync();
    const one = new BoundedSemaphore(1, { name: "s", directory: dir.path });
    const two = new BoundedSemaphore(1, { name: "s", directory: dir.path });
    const slot = await one.acquire();
    assert.equal(await two.tryAcquire(), null);
    await slot.close();
    assert.deepEqual(pile.locks, []);
  });
  assert.ok(!fs.existsSync(join(dir.path, "b.lock")));
});

test("Windows: Deno locks a file that it appends to", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "one ");
  const { files } = imitatedDeno();
  await withPatchedPlatform(() => files, async () => {
    const file = await new Lock(path, { ...NOW, mode: "a" }).acquire();
    file.seekSync(0);
    file.writeTextSync("two ");
    file.seekSync(0);
    const writing = [file.writeText("three "), file.writeText("four")];
    await Promise.resolve();
    file.seekSync(0);
    await Promise.all(writing);
    await file.close();
  });
  assert.equal(fs.readFileSync(path, "utf8"), "one two three four");
});

test("Windows: Deno replaces a file of which nobody is the owner", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  const { files } = imitatedDeno();
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

test("Windows: Deno's own error is no advice to pass --allow-ffi", () => {
  const { files } = imitatedDeno();
  assert.throws(
    () => files.fromFd(3),
    (error: Error) =>
      /Deno\.FsFile/.test(error.message) && !/ffi/.test(error.message),
  );
});

test(
  "Windows: lockSync() and unlock() exchange the locks of a Deno.FsFile",
  () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const pile = new Pile();
    const options = { read: true, write: true, append: false, create: true };
    const [one, other] = [1, 2].map(() =>
      imitatedFile(path, { ...options, createNew: false }, pile)
    );
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
    assert.deepEqual(pile.locks, []);
    one.close();
    other.close();
  },
  "stacked locks",
);

test("Windows: what is appended stays together, and lets others run meanwhile", async () => {
  const log: string[] = [];
  const piece = 2 ** 16;
  let room = 3;
  const write = serializeAppends((data) => {
    if (room-- === 0) throw new Error("full");
    log.push(`${data[0]}: ${data.length}`);
    return data.length;
  });
  let turns = 0;
  const turning = setInterval(() => turns++);
  const first = write(new Uint8Array(2 * piece + 1).fill(1));
  const second = write(Uint8Array.of(2));
  await assert.rejects(second, /full/);
  assert.equal(await first, 2 * piece + 1);
  assert.deepEqual(log, [`1: ${piece}`, `1: ${piece}`, "1: 1"]);
  // What fails halfway says how far it came; the next one fails.
  room = 1;
  assert.equal(await write(new Uint8Array(2 * piece)), piece);
  room = Infinity;
  assert.equal(await write(new Uint8Array()), 0);
  assert.equal(await write(new Uint8Array(200 * piece)), 200 * piece);
  clearInterval(turning);
  assert.ok(turns > 0);
});
