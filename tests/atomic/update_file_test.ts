import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { AlreadyLocked, Lock, LockException, updateFile } from "../../mod.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { runtimes } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const more = (text: string) => String(Number(text) + 1);

/** The file must be whole whenever it is looked at. */
function look(path: string): number {
  const { count, pad, again } = JSON.parse(fs.readFileSync(path, "utf8"));
  assert.equal(count, again);
  assert.equal(pad.length, 5000);
  return count;
}

/** Reads without a lock until the others are done. */
async function watch(path: string, others: Promise<unknown>): Promise<number> {
  let done = false;
  const ended = others.finally(() => done = true);
  let looks = 0;
  for (let last = 0; !done; looks++) {
    const count = look(path);
    assert.ok(count >= last, "nothing that was seen is taken back");
    last = count;
    await setImmediate();
  }
  await ended;
  return looks;
}

test("updateFile() loses nothing of 8 processes on every runtime, and readers that never lock read whole files", async () => {
  using temporary = tempDir();
  const path = join(temporary.path, "count.json");
  const each = 250;
  const workers = [...runtimes, ...runtimes].map((one) =>
    LockProcess.start(one)
  );
  try {
    await workers[0].call("update", path, 1);
    const all = Promise.all(
      workers.map((one) => one.call("update", path, each)),
    );
    const looks = await watch(path, all);
    assert.equal(look(path), 1 + each * workers.length);
    assert.ok(looks > 10);
    assert.deepEqual(fs.readdirSync(temporary.path).sort(), [
      "count.json",
      "count.json.lock",
    ]);
  } finally {
    for (const one of workers) await one[Symbol.asyncDispose]();
  }
});

test(
  "updateFile() and Python lose nothing of each other",
  async () => {
    using temporary = tempDir();
    const path = join(temporary.path, "count.json");
    await using python = LockProcess.startPython();
    await using worker = LockProcess.start(runtimes[0]);
    await worker.call("update", path, 1);
    const all = Promise.all(
      [python, worker].map((one) => one.call("update", path, 200)),
    );
    await watch(path, all);
    assert.equal(look(path), 401);
  },
  "Python's portalocker",
);

test("updateFile() loses nothing of 300 tasks, whose lock file is open once", async () => {
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
        return more(text);
      }, options)),
  );
  assert.equal(fs.readFileSync(path, "utf8"), "300");
  assert.ok(most <= 2, `${most} descriptors`);
});

test("updateFile() makes a new file and the directories above it", async () => {
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
  "updateFile() leaves the file as it is when nothing changes or the function throws",
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
    await updateFile(path, more);
    assert.notEqual(fs.statSync(path).ino, ino, "it is another file");
    assert.equal(fs.statSync(path).mode & 0o777, 0o604);
    assert.equal(fs.readFileSync(path, "utf8"), "2");
    assert.equal(openDescriptors(temporary.path), 0);
  },
  "permission bits",
);

test(
  "updateFile() waits for the lock on the path with .lock added, of a link's target",
  async () => {
    using temporary = tempDir();
    const target = join(temporary.path, "target");
    const link = join(temporary.path, "link");
    fs.writeFileSync(target, "1");
    fs.symlinkSync("target", link);
    {
      using _held = new Lock(`${target}.lock`).acquireSync();
      const ended = updateFile(link, more, { timeout: 20 });
      await assert.rejects(ended, AlreadyLocked);
      assert.equal(fs.readFileSync(target, "utf8"), "1");
    }
    await updateFile(link, more);
    assert.equal(fs.readFileSync(target, "utf8"), "2");
    assert.equal(fs.readlinkSync(link), "target");
  },
  "symbolic links",
);

test("updateFile() changes bytes as they are, and refuses text that is no UTF-8", async () => {
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

test("updateFile() checks everything before it touches anything", async () => {
  using temporary = tempDir();
  const path = join(temporary.path, "file");
  const wrong: [unknown[], { name: string; message: RegExp }][] = [
    [["", more], { name: "RangeError", message: /path/ }],
    [[path], { name: "TypeError", message: /change must be a function/ }],
    [[path, more, { wait: 1 }], {
      name: "TypeError",
      message: /unknown option "wait" .*encoding/,
    }],
    [[path, more, { encoding: "latin1" }], {
      name: "RangeError",
      message: /encoding/,
    }],
    [[path, more, { timeout: -1 }], { name: "RangeError", message: /timeout/ }],
    [[path, more, { durable: 1 }], { name: "TypeError", message: /durable/ }],
  ];
  for (const [args, expected] of wrong) {
    const call = updateFile as (...args: unknown[]) => Promise<void>;
    await assert.rejects(call(...args), expected);
  }
  assert.deepEqual(fs.readdirSync(temporary.path), []);
  const returns = updateFile(path, (() => 1) as never);
  await assert.rejects(returns, { name: "TypeError", message: /must return/ });
  assert.ok(!fs.existsSync(path));
  await assert.rejects(updateFile(temporary.path, more), LockException);
});

test("updateFile() ends its wait when its signal is aborted", async () => {
  using temporary = tempDir();
  const path = join(temporary.path, "file");
  using _held = new Lock(`${path}.lock`).acquireSync();
  const controller = new AbortController();
  const { signal } = controller;
  const ended = updateFile(path, more, { signal });
  controller.abort("enough");
  await assert.rejects(ended, (reason) => reason === "enough");
});
