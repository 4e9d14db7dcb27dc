import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { constants } from "node:buffer";
import * as fs from "node:fs";
import { join } from "node:path";
import { FileTooLarge, Lock, LockException, SeekMode } from "../../mod.ts";
import type { FileInfo, FileMode, LockedFile } from "../../mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { systemError, withPatchedFiles } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { entry, firstItems } from "../support/values.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (data: Uint8Array) => new TextDecoder().decode(data);

/** Returns a locked file in a temporary directory; disposing removes both. */
async function opened(mode: FileMode, content?: string) {
  const dir = tempDir();
  const path = join(dir.path, "data.txt");
  if (content !== undefined) fs.writeFileSync(path, content);
  const file = await new Lock(path, { mode }).acquire();
  return {
    path,
    file,
    content: () => fs.readFileSync(path, "utf8"),
    async [Symbol.asyncDispose]() {
      await file.close();
      dir[Symbol.dispose]();
    },
  };
}

/** Calls the async form of a method and the form whose name ends in `Sync`. */
type Call = (name: string, ...args: unknown[]) => Promise<unknown>;

function forms(file: LockedFile): [string, Call][] {
  type Methods = Record<string, (...args: unknown[]) => unknown>;
  const methods = file as unknown as Methods;
  const call: Call = async (name, ...args) =>
    await entry(methods, name).apply(file, args);
  return [["", call], [
    "Sync",
    (name, ...args) => call(`${name}Sync`, ...args),
  ]];
}

test("LockedFile.read() reads at the position and returns null at the end", async () => {
  await using it = await opened("r", "hello world");
  for (const [form, call] of forms(it.file)) {
    const buffer = new Uint8Array(6);
    assert.equal(await call("read", new Uint8Array(0)), 0, form);
    assert.equal(await call("read", buffer), 6, form);
    assert.equal(text(buffer), "hello ");
    assert.equal(await call("read", buffer), 5, form);
    assert.equal(text(buffer.subarray(0, 5)), "world");
    assert.equal(await call("read", buffer), null, form);
    assert.equal(await call("seek", 0), 0);
  }
});

test("LockedFile.write() writes at the position, or at the end in append modes", async () => {
  for (
    const [mode, expected] of [["r+", "AAcdBB"], ["a+", "abcdAABB"]] as const
  ) {
    await using it = await opened(mode, "abcd");
    const [[, call], [, callSync]] = firstItems(forms(it.file), 2);
    assert.equal(await call("write", bytes("AA")), 2);
    if (mode === "r+") assert.equal(await call("seek", 0, SeekMode.End), 4);
    assert.equal(await callSync("write", bytes("BB")), 2);
    assert.equal(it.content(), expected);
    assert.equal(
      await call("seek", 0, SeekMode.Current),
      expected.length,
      "the position is after what was written",
    );
  }
});

test("LockedFile.write() in append modes writes at the end, no matter where the position is", async () => {
  await using it = await opened("a+", "abcd");
  for (let i = 0; i < 200; i++) {
    const writing = it.file.writeText("x");
    for (let ticks = 0; ticks < i % 4; ticks++) await null;
    const seeking = it.file.seek(0);
    await writing;
    await seeking;
  }
  assert.equal(it.content(), "abcd" + "x".repeat(200));
});

test("LockedFile uses one position for reading, writing and seeking", async () => {
  await using it = await opened("r+", "0123456789");
  for (const [, call] of forms(it.file)) {
    const digit = async () => {
      const buffer = new Uint8Array(1);
      await call("read", buffer);
      return text(buffer);
    };
    assert.equal(await call("seek", 3), 3);
    assert.equal(await digit(), "3");
    assert.equal(await call("seek", 2, SeekMode.Current), 6);
    assert.equal(await digit(), "6");
    assert.equal(await call("seek", -1n, SeekMode.End), 9);
    assert.equal(await digit(), "9");
    assert.equal(await call("seek", 4), 4);
    await call("write", bytes("x"));
    assert.equal(await digit(), "5");
    assert.equal(await call("seek", 100, SeekMode.Start), 100);
    assert.equal(await digit(), "\0");
    await call("seek", 4);
    await call("write", bytes("4"));
  }
  assert.equal(it.content(), "0123456789");
});

test("LockedFile.seek() rejects invalid offsets", async () => {
  await using it = await opened("r+", "x");
  for (const [, call] of forms(it.file)) {
    const refused = (...args: unknown[]) =>
      assert.rejects(call("seek", ...args), { name: "RangeError" });
    await refused(-1);
    await refused(1.5);
    await refused(NaN);
    await refused(2n ** 70n);
    await refused(0, 3);
    await refused(0, "start");
    for (const offset of [null, "", "2", [], true, undefined]) {
      const error = { name: "TypeError", message: /^offset/ };
      await assert.rejects(call("seek", offset), error);
    }
    await assert.rejects(call("seek", -2, SeekMode.End), { code: "EINVAL" });
    assert.equal(await call("seek", 0, SeekMode.Current), 0);
  }
});

test("LockedFile reads and writes beyond 2 GiB", async () => {
  await using it = await opened("r+", "");
  const far = 5 * 2 ** 30 + 7;
  for (const [form, call] of forms(it.file)) {
    await call("truncate", far);
    assert.equal((await call("stat") as { size: number }).size, far);
    assert.equal(await call("seek", far), far);
    assert.equal(await call("write", bytes(`far${form}`)), 3 + form.length);
    assert.equal(await call("seek", -3 - form.length, SeekMode.End), far);
    const buffer = new Uint8Array(16);
    const count = await call("read", buffer) as number;
    assert.equal(text(buffer.subarray(0, count)), `far${form}`);
    assert.equal(await call("seek", 2n ** 31n), 2 ** 31);
    assert.equal(await call("read", buffer), 16);
    await call("truncate", 0);
  }
});

test("LockedFile.readText() and readBytes() read the whole file from the start", async () => {
  const content = "\uFEFFgrüße 🔒\n".repeat(10_000);
  await using it = await opened("r", content);
  for (const [, call] of forms(it.file)) {
    for (let i = 0; i < 2; i++) {
      assert.equal(await call("readText"), content);
      assert.deepEqual(await call("readBytes"), bytes(content));
    }
    assert.equal(await call("read", new Uint8Array(1)), null);
  }
});

test("LockedFile reads an empty file as empty content", async () => {
  await using it = await opened("a+");
  for (const [, call] of forms(it.file)) {
    assert.equal(await call("readText"), "");
    assert.deepEqual(await call("readBytes"), new Uint8Array());
  }
});

test("LockedFile continues short reads and writes of the system", async () => {
  const short = (data: Uint8Array) => data.subarray(0, 3);
  const change = (real: PlatformFile) => ({
    read: (into: Uint8Array) => real.read(short(into)),
    readSync: (into: Uint8Array) => real.readSync(short(into)),
    write: (data: Uint8Array) => real.write(short(data)),
    writeSync: (data: Uint8Array) => real.writeSync(short(data)),
  });
  await withPatchedFiles(change, async () => {
    await using it = await opened("w+");
    for (const [, call] of forms(it.file)) {
      await call("replaceContents", "0123456789");
      assert.equal(await call("readText"), "0123456789");
      await call("writeText", "abcdefg");
      assert.equal(it.content(), "0123456789abcdefg");
      assert.equal(await call("write", bytes("12345")), 3);
    }
  });
});

test("LockedFile.writeText() writes at the position", async () => {
  await using it = await opened("r+", "0123456789");
  for (const [, call] of forms(it.file)) {
    await call("seek", 2);
    await call("writeText", "é");
    assert.equal(it.content(), "01é456789");
  }
});

test("LockedFile.replaceContents() leaves only the new content", async () => {
  for (const mode of ["r+", "a+", "w+", "a", "w"] as const) {
    await using it = await opened(mode, "a long old content");
    for (const [, call] of forms(it.file)) {
      await call("seek", 5);
      await call("replaceContents", "new");
      assert.equal(it.content(), "new", mode);
      await call("replaceContents", bytes("newer and longer"));
      assert.equal(it.content(), "newer and longer", mode);
      await call("writeText", "!");
      assert.equal(it.content(), "newer and longer!", mode);
      await call("replaceContents", "");
      assert.equal(it.content(), "", mode);
    }
  }
});

test("LockedFile.replaceContents() keeps the old content when the first write fails", async () => {
  const full = () => {
    throw systemError("ENOSPC", 28);
  };
  await withPatchedFiles(() => ({ write: full, writeSync: full }), async () => {
    await using it = await opened("r+", "old");
    for (const [, call] of forms(it.file)) {
      await assert.rejects(call("replaceContents", "new"), { code: "ENOSPC" });
      assert.equal(it.content(), "old");
    }
  });
});

test("LockedFile.truncate() shortens or extends the file and keeps the position", async () => {
  await using it = await opened("r+", "0123456789");
  for (const [, call] of forms(it.file)) {
    await call("seek", 8);
    await call("truncate", 4);
    assert.equal(it.content(), "0123");
    await call("truncate", 6);
    assert.equal(it.content(), "0123\0\0");
    assert.equal(await call("seek", 0, SeekMode.Current), 8);
    await call("truncate");
    assert.equal(it.content(), "");
    for (const length of [-1, 0.5, NaN, "3"]) {
      await assert.rejects(call("truncate", length), { name: "RangeError" });
    }
    await call("seek", 0);
    await call("writeText", "0123456789");
  }
});

test("LockedFile.stat() returns the same on every runtime", async () => {
  await using it = await opened("r", "12345");
  const expected = fs.statSync(it.path);
  for (const [, call] of forms(it.file)) {
    const info = await call("stat") as FileInfo;
    assert.equal(info.isFile, true);
    assert.equal(info.isDirectory, false);
    assert.equal(info.size, 5);
    assert.equal(info.ino, expected.ino);
    assert.equal(info.dev, expected.dev);
    assert.equal(info.mode, expected.mode);
    assert.equal(info.nlink, 1);
    assert.equal(info.uid, expected.uid);
    assert.equal(info.gid, expected.gid);
    assert.ok(info.mtime instanceof Date);
    assert.ok(Math.abs(info.mtime.getTime() - expected.mtimeMs) < 1);
  }
});

test("LockedFile.sync() and syncData() resolve", async () => {
  await using it = await opened("r+", "x");
  for (const [, call] of forms(it.file)) {
    assert.equal(await call("sync"), undefined);
    assert.equal(await call("syncData"), undefined);
  }
});

test(
  "LockedFile.fd is the file descriptor of the operating system",
  async () => {
    await using it = await opened("a+", "abc");
    assert.ok(it.file.fd !== null);
    assert.equal(fs.fstatSync(it.file.fd).ino, fs.statSync(it.path).ino);
    const shell = execFileSync("sh", ["-c", "cat <&3"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore", it.file.fd],
    });
    assert.equal(shell, "abc");
  },
  "file descriptors",
  "sh(1)",
);

test("LockedFile.readable streams from the position and leaves the file open", async () => {
  const content = "0123456789".repeat(50_000);
  await using it = await opened("r", content);
  await it.file.seek(10);
  assert.ok(it.file.readable instanceof ReadableStream);
  assert.equal(it.file.readable, it.file.readable);
  const streamed = await new Response(it.file.readable).text();
  assert.equal(streamed, content.slice(10));
  assert.equal(await it.file.seek(0), 0);
  assert.equal(await new Lock(it.path, { mode: "r" }).tryAcquire(), null);
});

test("LockedFile.readable fills the buffer that a BYOB reader supplies", async () => {
  await using it = await opened("r", "hello");
  const reader = it.file.readable.getReader({ mode: "byob" });
  const { value } = await reader.read(new Uint8Array(3));
  assert.equal(text(value!), "hel");
  await reader.cancel();
  assert.equal(await it.file.seek(0, SeekMode.Current), 3);
});

test("LockedFile.writable writes the piped data and leaves the file open", async () => {
  await using it = await opened("w+");
  const content = "grüße ".repeat(100_000);
  assert.ok(it.file.writable instanceof WritableStream);
  await new Response(content).body!.pipeTo(it.file.writable);
  assert.equal(it.content(), content);
  assert.equal(await it.file.readText(), content);
  await using source = await opened("r", "copied");
  await using target = await opened("w");
  await source.file.readable.pipeTo(target.file.writable);
  assert.equal(target.content(), "copied");
});

test("LockedFile.readable and writable report errors", async () => {
  await using it = await opened("r", "x");
  const writer = it.file.writable.getWriter();
  await assert.rejects(writer.write(bytes("y")), { code: "EBADF" });
  await using other = await opened("w");
  const reader = other.file.readable.getReader();
  await assert.rejects(reader.read(), { code: "EBADF" });
});

test("LockedFile rejects data that is neither bytes nor text, and writes nothing", async () => {
  await using it = await opened("a+", "old");
  for (const [, call] of forms(it.file)) {
    for (const wrong of ["x", [1], new Uint16Array(1), null, 5]) {
      const named = (name: string) => ({
        name: "TypeError",
        message: new RegExp(`^${name} must be a`),
      });
      await assert.rejects(call("read", wrong), named("into"));
      await assert.rejects(call("write", wrong), named("data"));
      if (wrong === "x") continue;
      await assert.rejects(call("writeText", wrong), named("text"));
      await assert.rejects(call("replaceContents", wrong), named("content"));
    }
  }
  const writer = it.file.writable.getWriter();
  await assert.rejects(writer.write("x" as never), { name: "TypeError" });
  assert.equal(it.content(), "old");
});

test("LockedFile names the mode that a rejected operation needs", async () => {
  const about = (message: RegExp) => ({
    name: "LockException",
    code: "EBADF",
    message,
  });
  await using reader = await opened("r", "x");
  for (const [, call] of forms(reader.file)) {
    for (const name of ["writeText", "replaceContents"]) {
      await assert.rejects(call(name, "y"), about(/mode "r"; use "r\+"/));
    }
    await assert.rejects(call("write", bytes("y")), about(/Cannot write/));
    await assert.rejects(call("truncate", 0), about(/Cannot write/));
  }
  await using writer = await opened("a");
  for (const [, call] of forms(writer.file)) {
    for (const name of ["readText", "readBytes"]) {
      await assert.rejects(call(name), about(/mode "a"; use "a\+"/));
    }
    await assert.rejects(call("read", new Uint8Array(1)), about(/Cannot read/));
  }
});

test("LockedFile rejects every operation after it is closed", async () => {
  const it = await opened("a+", "x");
  await it.file.close();
  // The next file gets the same descriptor number, and no operation of the
  // closed file may reach it.
  const other = join(it.path, "..", "other.txt");
  const fd = fs.openSync(other, "a+");
  const calls: [string, ...unknown[]][] = [
    ["read", new Uint8Array(1)],
    ["write", bytes("y")],
    ["readText"],
    ["readBytes"],
    ["writeText", "y"],
    ["replaceContents", "y"],
    ["seek", 0],
    ["truncate", 0],
    ["sync"],
    ["syncData"],
    ["stat"],
  ];
  for (const [, call] of forms(it.file)) {
    for (const [name, ...args] of calls) {
      await assert.rejects(
        call(name, ...args),
        (error: LockException) => {
          assert.ok(error instanceof LockException, name);
          assert.equal(error.code, "EBADF");
          assert.equal(error.path, it.path);
          assert.match(error.message, /it is closed and its lock released/);
          return true;
        },
      );
    }
  }
  assert.equal(fs.readFileSync(other, "utf8"), "");
  fs.closeSync(fd);
  await it[Symbol.asyncDispose]();
});

test("LockedFile.close() holds the lock until pending operations have ended", async () => {
  await using it = await opened("r+", "");
  let wrote = false;
  const data = new Uint8Array(1 << 20).fill(65);
  const writing = it.file.replaceContents(data).then(() => wrote = true);
  const closing = it.file.close();
  assert.equal(new Lock(it.path).tryAcquireSync(), null);
  await closing;
  assert.equal(wrote, true);
  await writing;
  assert.equal(it.content().length, data.length);
});

test("LockedFile.closeSync() keeps the lock until pending operations have ended", async () => {
  await using it = await opened("r+", "");
  const data = new Uint8Array(1 << 20).fill(65);
  const writing = it.file.replaceContents(data);
  it.file.closeSync();
  assert.equal(new Lock(it.path).tryAcquireSync(), null);
  await writing;
  assert.equal(it.content().length, data.length);
  const other = await new Lock(it.path).acquire();
  await other.close();
  assert.equal(openDescriptors(it.path), 0);
});

test("LockedFile refuses to write a text with a lone surrogate, and does not change the file", async () => {
  await using it = await opened("r+", "old");
  for (const [, call] of forms(it.file)) {
    for (const method of ["writeText", "replaceContents"] as const) {
      await assert.rejects(call(method, "a\ud800b"), {
        name: "RangeError",
        message: /lone surrogate \(index 1\)/,
      });
    }
  }
  assert.equal(it.content(), "old");
});

test("LockedFile.readText() rejects a file that is longer than any string before it reads", async () => {
  await using it = await opened("r+", "");
  const size = 3 * constants.MAX_STRING_LENGTH + 1;
  await it.file.truncate(size);
  for (const [, call] of forms(it.file)) {
    await assert.rejects(call("readText"), (error: FileTooLarge) => {
      assert.ok(error instanceof FileTooLarge);
      assert.equal(error.code, "EFBIG");
      assert.equal(error.path, it.path);
      assert.match(error.message, new RegExp(`${size} bytes`));
      return true;
    });
  }
});
