import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import {
  type AtomicFile,
  Lock,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  type LockedFile,
  openAtomic,
  RLock,
} from "../../mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { systemError, withPatchedFiles } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { entry } from "../support/values.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

/** The open files of each class, and what happens to them at the end. */
const KINDS: Record<
  string,
  (path: string) => Promise<[LockedFile | AtomicFile, () => Promise<void>]>
> = {
  async LockedFile(path) {
    const file = await new Lock(path, { mode: "w+" }).acquire();
    return [file, () => file.close()];
  },
  async "LockedFile in append mode"(path) {
    fs.writeFileSync(path, "");
    const file = await new Lock(path, { mode: "a+" }).acquire();
    return [file, () => file.close()];
  },
  async AtomicFile(path) {
    const file = await openAtomic(path, { replace: true, durable: false });
    return [file, () => file.commit()];
  },
};

for (const [kind, open] of Object.entries(KINDS)) {
  test(`calls of writeText() without await land in the order of the calls: ${kind}`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.txt");
    for (let round = 0; round < 20; round++) {
      const [file, end] = await open(path);
      const expected: string[] = [];
      for (let i = 0; i < 40; i++) {
        const text = `${i},`.repeat(i % 3 ? 1 : 500);
        expected.push(text);
        const writing = i % 2
          ? file.writeText(text)
          : file.write(bytes(text)).then((count) =>
            assert.equal(count, text.length)
          );
        writing.catch(() => {});
      }
      await end();
      assert.equal(fs.readFileSync(path, "utf8"), expected.join(""));
    }
  });

  test(`calls of different methods without await run in the order of the calls: ${kind}`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.txt");
    for (let round = 0; round < 20; round++) {
      const [file, end] = await open(path);
      const one = new Uint8Array(1);
      const results = await Promise.all([
        file.writeText("0123456789"),
        file.seek(0, 1),
        file.readText(),
        file.truncate(4),
        file.stat().then(({ size }) => size),
        file.seek(1),
        file.read(one).then(() => String.fromCharCode(...one)),
        file.sync().then(() => "synced"),
        file.replaceContents("new"),
        file.readBytes().then((content) => content.length),
        file.writeText("!"),
        file.syncData().then(() => "synced"),
        file.readText(),
      ]);
      // Deno without FFI resolves some of them to null.
      assert.deepEqual(results.map((result) => result ?? undefined), [
        undefined,
        10,
        "0123456789",
        undefined,
        4,
        1,
        "1",
        "synced",
        undefined,
        3,
        undefined,
        "synced",
        "new!",
      ]);
      await end();
    }
  });

  test(`the streams take turns with the calls of other methods: ${kind}`, async () => {
    using dir = tempDir();
    const [file, end] = await open(join(dir.path, "a.txt"));
    const writer = file.writable.getWriter();
    const reader = file.readable.getReader();
    // The streams start.
    await setImmediate();
    const done = [
      writer.write(bytes("a".repeat(100_000))),
      file.writeText("b"),
      file.seek(0),
    ];
    let text = "";
    for (let part; !(part = await reader.read()).done;) {
      text += new TextDecoder().decode(part.value);
    }
    await Promise.all(done);
    assert.equal(text, "a".repeat(100_000) + "b");
    await end();
  });

  test(`an operation that fails does not stop the next one: ${kind}`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.txt");
    let calls = 0;
    const fail = (real: PlatformFile): Partial<PlatformFile> => ({
      write: (data) =>
        ++calls % 2 ? Promise.reject(systemError("EIO", 5)) : real.write(data),
    });
    await withPatchedFiles(fail, async () => {
      const [file, end] = await open(path);
      const results = await Promise.allSettled([
        file.writeText("a"),
        file.writeText("b"),
        file.truncate(-1),
        file.writeText("c"),
        file.writeText(1 as never),
        file.writeText("d"),
      ]);
      assert.deepEqual(
        results.map(({ status }) => status[0]).join(""),
        "rfrrrf",
      );
      await end();
    });
    assert.equal(fs.readFileSync(path, "utf8"), "bd");
  });

  test(`while an operation is pending, methods that block the thread throw EBUSY: ${kind}`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.txt");
    const [file, end] = await open(path);
    const pending = file.writeText("0123456789".repeat(10_000));
    const calls: Record<string, unknown[]> = {
      readSync: [new Uint8Array(1)],
      writeSync: [bytes("x")],
      readTextSync: [],
      readBytesSync: [],
      writeTextSync: ["x"],
      replaceContentsSync: ["x"],
      seekSync: [0],
      truncateSync: [0],
      syncSync: [],
      syncDataSync: [],
      statSync: [],
      ..."relockSync" in file ? { relockSync: [LOCK_SH] } : {},
    };
    const methods = file as unknown as Record<string, () => unknown>;
    for (const [name, args] of Object.entries(calls)) {
      assert.throws(() => entry(methods, name).apply(file, args as []), {
        name: "LockException",
        code: "EBUSY",
        path,
        message: /: operations are pending; await them first$/,
      }, name);
    }
    assert.equal(file.path, path);
    await pending;
    assert.equal(file.statSync().size, 100_000);
    await end();
    assert.equal(fs.readFileSync(path, "utf8").length, 100_000);
  });
}

test("operations of both acquisitions of an RLock run in the order of the calls", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.txt");
  const lock = new RLock(path, { mode: "w+" });
  const files = [await lock.acquire(), await lock.acquire()];
  const expected: string[] = [];
  const writing: Promise<void>[] = [];
  for (let i = 0; i < 100; i++) {
    expected.push(`${i},`);
    writing.push(files[i % 2]!.writeText(`${i},`));
  }
  assert.throws(() => files[1]!.statSync(), { code: "EBUSY" });
  await Promise.all(files.map((file) => file.close()));
  assert.equal(fs.readFileSync(path, "utf8"), expected.join(""));
  await Promise.all(writing);
  assert.equal(openDescriptors(path), 0);
});

test("a file is closed after all operations that were called before, and holds its lock until then", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.txt");
  for (const close of ["close", "closeSync"] as const) {
    const file = await new Lock(path, { mode: "w" }).acquire();
    const writing = Array.from({ length: 50 }, () => file.writeText("12345"));
    const closing = file[close]();
    const late = assert.rejects(file.writeText("late"), { code: "EBADF" });
    assert.equal(new Lock(path).tryAcquireSync(), null);
    await Promise.all(writing);
    await closing;
    await late;
    assert.equal(fs.readFileSync(path, "utf8"), "12345".repeat(50));
    new Lock(path).acquireSync({ timeout: 60_000 }).closeSync();
    assert.equal(openDescriptors(path), 0);
  }
});

test("relock() downgrades after the writes that were called before", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.txt");
  const seen: string[] = [];
  const record = (real: PlatformFile): Partial<PlatformFile> => ({
    tryLock(exclusive) {
      if (!exclusive) seen.push(fs.readFileSync(path, "utf8"));
      return real.tryLock(exclusive);
    },
  });
  await withPatchedFiles(record, async () => {
    await using file = await new Lock(path, { mode: "w+" }).acquire();
    const writing = ["a", "b", "c"].map((text) => file.writeText(text));
    const change = file.relock(LOCK_SH);
    await assert.rejects(file.relock(LOCK_SH), { code: "EBUSY" });
    const reading = file.readText();
    assert.equal(await change, true);
    assert.equal(await reading, "abc");
    await Promise.all(writing);
  });
  assert.deepEqual(seen, ["abc"]);
});

test("close() ends a relock() that waits for other operations", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.txt");
  const shared = { mode: "r+", flags: LOCK_SH | LOCK_NB } as const;
  fs.writeFileSync(path, "");
  await using _other = await new Lock(path, shared).acquire();
  const file = await new Lock(path, shared).acquire();
  const writing = file.writeText("a");
  const change = assert.rejects(file.relock(LOCK_EX, { timeout: Infinity }), {
    code: "EBADF",
    message: /: it is being closed$/,
  });
  await file.close();
  await change;
  await writing;
  assert.equal(fs.readFileSync(path, "utf8"), "a");
});

test("operations that wait for a relock() which loses the lock do not run without it", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.txt");
  fs.writeFileSync(path, "old");
  let lost = false;
  const lose = (real: PlatformFile): Partial<PlatformFile> => ({
    tryLock: (exclusive) => lost || exclusive ? false : real.tryLock(exclusive),
    unlock() {
      lost = true;
      real.unlock();
    },
  });
  await withPatchedFiles(lose, async () => {
    const options = { mode: "r+", flags: LOCK_SH | LOCK_NB } as const;
    const file = await new Lock(path, options).acquire();
    const change = file.relock(LOCK_EX, { timeout: 20, checkInterval: 20 });
    const writing = assert.rejects(file.writeText("new"), {
      name: "LockException",
      code: "EBADF",
      message: /^Cannot write .*: relock\(\) lost its lock$/,
    });
    await assert.rejects(change, { name: "AlreadyLocked" });
    await writing;
    await file.close();
  });
  assert.equal(fs.readFileSync(path, "utf8"), "old");
  assert.equal(openDescriptors(path), 0);
});

test("20,000 operations that are called at once all run", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.txt");
  await using file = await new Lock(path, { mode: "w" }).acquire();
  const order: number[] = [];
  const calls = Array.from(
    { length: 20_000 },
    (_, i) => file.seek(i).then((position) => order.push(position)),
  );
  await Promise.all(calls);
  assert.deepEqual(order, Array.from({ length: 20_000 }, (_, i) => i));
});
