import { setImmediate } from "node:timers/promises";
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { runtimes } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

/** Reads the count, and asserts that the file is whole. */
function readCount(path: string): number {
  const { count, pad, again } = JSON.parse(fs.readFileSync(path, "utf8"));
  assert.equal(count, again);
  assert.equal(pad.length, 5000);
  return count;
}

/** Reads without a lock until the writers have ended. */
async function readUntilDone(
  path: string,
  writers: Promise<unknown>,
): Promise<number> {
  let done = false;
  const ended = writers.finally(() => done = true);
  let reads = 0;
  for (let last = 0; !done; reads++) {
    const count = readCount(path);
    assert.ok(count >= last, "no update is reverted");
    last = count;
    await setImmediate();
  }
  await ended;
  return reads;
}

test("updateFile() loses no update of 8 processes on every runtime, and readers without a lock read whole files", async () => {
  using temporary = tempDir();
  const path = join(temporary.path, "count.json");
  const each = 250;
  const workers = [...runtimes, ...runtimes].map((one) =>
    LockProcess.start(one)
  );
  try {
    await at(workers, 0).call("update", path, 1);
    const all = Promise.all(
      workers.map((one) => one.call("update", path, each)),
    );
    const reads = await readUntilDone(path, all);
    assert.equal(readCount(path), 1 + each * workers.length);
    assert.ok(reads > 10);
    assert.deepEqual(fs.readdirSync(temporary.path).sort(), [
      "count.json",
      "count.json.lock",
    ]);
  } finally {
    for (const one of workers) await one[Symbol.asyncDispose]();
  }
});

test(
  "updateFile() and Python lose no update of each other",
  async () => {
    using temporary = tempDir();
    const path = join(temporary.path, "count.json");
    await using python = LockProcess.startPython();
    await using worker = LockProcess.start(at(runtimes, 0));
    await worker.call("update", path, 1);
    const all = Promise.all(
      [python, worker].map((one) => one.call("update", path, 200)),
    );
    await readUntilDone(path, all);
    assert.equal(readCount(path), 401);
  },
  "Python's portalocker",
);

test(
  "updateFile() loses no update of a file with a long name on every runtime, also of the first ones",
  async () => {
    for (const name of ["short", "ü".repeat(127)]) {
      using dir = tempDir();
      const path = join(dir.path, name);
      const workers = [...runtimes, ...runtimes].map((one) =>
        LockProcess.start(one)
      );
      try {
        // The first call in each process loads what it needs.
        const other = join(dir.path, "other");
        await Promise.all(workers.map((one) => one.call("update", other, 1)));
        await Promise.all(workers.map((one) => one.call("update", path, 10)));
        assert.equal(readCount(path), 10 * workers.length);
        assert.equal(fs.readdirSync(dir.path).length, 4);
      } finally {
        for (const one of workers) await one[Symbol.asyncDispose]();
      }
    }
  },
  "POSIX error codes",
);
