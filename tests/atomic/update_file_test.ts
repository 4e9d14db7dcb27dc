import assert from "node:assert/strict";
import { constants } from "node:buffer";
import * as fs from "node:fs";
import { join } from "node:path";
import {
  AlreadyLocked,
  FileTooLarge,
  Lock,
  LockException,
  updateFile,
} from "../../mod.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { withPatchedFiles } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { SHORT_WAIT_MS } from "../support/waits.ts";

const increment = (text: string) => String(Number(text) + 1);

test("updateFile() loses no update of 300 tasks, which open the lock file once", async () => {
  using temporary = tempDir();
  const path = join(temporary.path, "number");
  let most = 0;
  const options = { timeout: 60_000, durable: false };
  await Promise.all(
    Array.from({ length: 300 }, (_, i) =>
      updateFile(path, (text) => {
        if (i % 100 === 50) {
          most = Math.max(most, openDescriptors(temporary.path));
        }
        return increment(text);
      }, options)),
  );
  assert.equal(fs.readFileSync(path, "utf8"), "300");
  assert.ok(most <= 2, `${most} descriptors`);
});

test("updateFile() creates the file and missing directories", async () => {
  using temporary = tempDir();
  const path = join(temporary.path, "a", "b", "number");
  const given: string[] = [];
  await updateFile(path, (text) => (given.push(text), "1"), {
    creationMode: 0o640,
  });
  assert.deepEqual(given, [""]);
  assert.equal(fs.statSync(path).mode & 0o777, 0o640 & ~process.umask());
}, "permission bits");

test(
  "updateFile() does not write if the function returns the old content or throws",
  async () => {
    using temporary = tempDir();
    const path = join(temporary.path, "number");
    fs.writeFileSync(path, "1", { mode: 0o604 });
    const { ino } = fs.statSync(path);
    await updateFile(path, (text) => text);
    const failure = new Error("no");
    const fails = updateFile(path, () => Promise.reject(failure));
    await assert.rejects(fails, (error) => error === failure);
    assert.equal(fs.statSync(path).ino, ino);
    await updateFile(path, increment);
    assert.notEqual(fs.statSync(path).ino, ino, "it is another file");
    assert.equal(fs.statSync(path).mode & 0o777, 0o604);
    assert.equal(fs.readFileSync(path, "utf8"), "2");
    assert.equal(openDescriptors(temporary.path), 0);
  },
  "permission bits",
);

test(
  "updateFile() waits for the lock on the path plus .lock, of the target of a symbolic link",
  async () => {
    using temporary = tempDir();
    const target = join(temporary.path, "target");
    const link = join(temporary.path, "link");
    fs.writeFileSync(target, "1");
    fs.symlinkSync("target", link);
    {
      using _held = new Lock(`${target}.lock`).acquireSync();
      const ended = updateFile(link, increment, { timeout: SHORT_WAIT_MS });
      await assert.rejects(ended, AlreadyLocked);
      assert.equal(fs.readFileSync(target, "utf8"), "1");
    }
    await updateFile(link, increment);
    assert.equal(fs.readFileSync(target, "utf8"), "2");
    assert.equal(fs.readlinkSync(link), "target");
  },
  "symbolic links",
);

test("updateFile() passes bytes unchanged, and rejects text that is not valid UTF-8", async () => {
  using temporary = tempDir();
  const path = join(temporary.path, "bytes");
  fs.writeFileSync(path, Uint8Array.of(0xef, 0xbb, 0xbf, 0xff));
  await assert.rejects(updateFile(path, (text) => text + "1"), {
    name: "LockException",
    message: /not valid UTF-8; pass encoding: null/,
  });
  await updateFile(path, (bytes) => {
    bytes[3] = 0x31;
    return bytes;
  }, { encoding: null });
  await updateFile(path, (text) => text + "2");
  assert.deepEqual(
    [...fs.readFileSync(path)],
    [0xef, 0xbb, 0xbf, 0x31, 0x32],
    "a byte order mark stays",
  );
});

test("updateFile() says that a text is too long, not that it is invalid", async () => {
  const { MAX_STRING_LENGTH } = constants;
  // Texts of JavaScriptCore are so long that a test would need 6 GiB.
  const long = MAX_STRING_LENGTH < 2 ** 30 ? [MAX_STRING_LENGTH + 1] : [];
  for (const size of [...long, 3 * MAX_STRING_LENGTH + 1]) {
    using temporary = tempDir();
    const path = join(temporary.path, "long");
    fs.writeFileSync(path, "");
    fs.truncateSync(path, size);
    let reads = 0;
    const error = await withPatchedFiles(
      (file) => ({ read: (into) => (reads++, file.read(into)) }),
      () => updateFile(path, () => "").then(() => null, (error) => error),
    );
    if (!long.includes(size)) assert.equal(reads, 0);
    assert.ok(error instanceof FileTooLarge, `${error}`);
    assert.equal(error.path, path);
    assert.match(error.message, new RegExp(`${size} bytes.*encoding: null`));
    if (!long.includes(size)) continue;
    const fd = fs.openSync(path, "r+");
    fs.writeSync(fd, Uint8Array.of(0xff), 0, 1, size - 1);
    fs.closeSync(fd);
    await assert.rejects(updateFile(path, () => ""), /not valid UTF-8/);
  }
});

test("updateFile() refuses a text with a lone surrogate and does not change the file", async () => {
  using temporary = tempDir();
  const path = join(temporary.path, "text");
  fs.writeFileSync(path, "old");
  for (const text of ["a\ud800", "\udc00", "🔒\ud83d🔒"]) {
    await assert.rejects(updateFile(path, () => text), {
      name: "RangeError",
      message: /lone surrogate/,
    });
  }
  assert.equal(fs.readFileSync(path, "utf8"), "old");
  await updateFile(path, () => "🔒\ufffd");
  assert.equal(fs.readFileSync(path, "utf8"), "🔒\ufffd");
});

test("updateFile() checks its arguments before it accesses the file", async () => {
  using temporary = tempDir();
  const path = join(temporary.path, "file");
  const wrong: [unknown[], { name: string; message: RegExp }][] = [
    [["", increment], { name: "RangeError", message: /path/ }],
    [[path], { name: "TypeError", message: /change must be a function/ }],
    [[path, increment, { wait: 1 }], {
      name: "TypeError",
      message: /unknown option "wait" .*encoding/,
    }],
    [[path, increment, { encoding: "latin1" }], {
      name: "RangeError",
      message: /encoding/,
    }],
    [[path, increment, { timeout: -1 }], {
      name: "RangeError",
      message: /timeout/,
    }],
    [[path, increment, { durable: 1 }], {
      name: "TypeError",
      message: /durable/,
    }],
  ];
  for (const [args, expected] of wrong) {
    const call = updateFile as (...args: unknown[]) => Promise<void>;
    await assert.rejects(call(...args), expected);
  }
  assert.deepEqual(fs.readdirSync(temporary.path), []);
  const returns = updateFile(path, (() => 1) as never);
  await assert.rejects(returns, { name: "TypeError", message: /must return/ });
  assert.ok(!fs.existsSync(path));
  await assert.rejects(updateFile(temporary.path, increment), LockException);
});

test("updateFile() rejects when its signal is aborted during the wait", async () => {
  using temporary = tempDir();
  const path = join(temporary.path, "file");
  using _held = new Lock(`${path}.lock`).acquireSync();
  const controller = new AbortController();
  const { signal } = controller;
  const ended = updateFile(path, increment, { signal });
  controller.abort("enough");
  await assert.rejects(ended, (reason) => reason === "enough");
});
