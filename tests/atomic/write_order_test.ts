import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setImmediate } from "node:timers/promises";
import { openAtomic, writeAtomic, writeAtomicSync } from "../../mod.ts";
import {
  inOrderOfCalls,
  publishInOrder,
  rememberedDestinations,
} from "../../src/atomic/write_order.ts";
import { op, runAsync, runSync } from "../../src/core/gensync.ts";
import { leftovers, WAYS } from "../fixtures/atomic_writes.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { bindMount } from "../support/fuse.ts";
import { systemError, withPatchedFiles } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const REPLACE = { replace: true, durable: false } as const;
const TO_DESTINATION = { key: "key", replace: true };
const ROUNDS = 300;
const read = (path: string) => fs.readFileSync(path, "utf8");

/** Content that takes longer to write than a short text. */
const LONG = new Uint8Array(200_000);

/** Asserts that the last of several calls that are not awaited wins. */
async function lastCallWins(directory: string, rounds: number): Promise<void> {
  const path = join(directory, "a");
  for (let round = 0; round < rounds; round++) {
    const last = `last ${round}`;
    const calls = [writeAtomic(path, LONG, REPLACE)];
    if (round % 2) await setImmediate();
    if (round % 3) calls.push(writeAtomic(path, "middle", REPLACE));
    if (round % 5) calls.push(writeAtomic(path, last, REPLACE));
    else writeAtomicSync(path, last, REPLACE);
    await Promise.all(calls);
    assert.equal(read(path), last);
  }
  assert.deepEqual(leftovers(directory), []);
  assert.equal(openDescriptors(directory), 0);
  assert.equal(rememberedDestinations(), 0);
}

test("of writeAtomic() calls without await, the last call wins", async () => {
  using dir = tempDir();
  await lastCallWins(dir.path, ROUNDS);
});

test(
  "of writeAtomic() calls without await, the last call wins on a FUSE file system",
  async () => {
    using mount = bindMount();
    await lastCallWins(mount.path, ROUNDS);
  },
  "bindfs(1) and FUSE",
);

test(
  "writes keep their order on all paths of one file",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    fs.mkdirSync(join(dir.path, "sub"));
    fs.writeFileSync(path, "");
    fs.symlinkSync("../a", join(dir.path, "sub", "link"));
    fs.symlinkSync(".", join(dir.path, "here"));
    const before = process.cwd();
    process.chdir(dir.path);
    try {
      const paths = [
        path,
        "a",
        "./sub/../a",
        join(dir.path, "sub", "link"),
        join("here", "a"),
      ];
      for (let round = 0; round < 20; round++) {
        for (const [i, first] of paths.entries()) {
          const second = paths[(i + round) % paths.length]!;
          const slow = writeAtomic(first, LONG, REPLACE);
          await writeAtomic(second, "last", REPLACE);
          await slow;
          assert.equal(read(path), "last", `${first}, then ${second}`);
        }
      }
    } finally {
      process.chdir(before);
    }
    assert.ok(fs.lstatSync(join(dir.path, "sub", "link")).isSymbolicLink());
  },
  "symbolic links",
);

for (const commit of ["commit", "commitSync"] as const) {
  test(`openAtomic() files are published in the order of the commits, with ${commit}() last`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    for (let round = 0; round < 50; round++) {
      await using quick = await openAtomic(path, REPLACE);
      await using slow = await openAtomic(path, REPLACE);
      quick.writeTextSync("quick");
      // The commit waits for the write.
      const written = slow.write(LONG);
      const first = slow.commit();
      const last = quick[commit]();
      await Promise.all([written, first, last]);
      assert.equal(read(path), "quick");
    }
    assert.deepEqual(leftovers(dir.path), []);
  });
}

test("a write that fails does not affect earlier and later writes", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  const failing = { code: "EIO" };
  let failures = 0;
  await withPatchedFiles((file) => ({
    write: (data) =>
      data.length === 3
        ? (failures++, Promise.reject(systemError("EIO", 5)))
        : file.write(data),
  }), async () => {
    for (let round = 0; round < 20; round++) {
      const first = `first ${round}`;
      const slow = writeAtomic(path, first, REPLACE);
      await assert.rejects(writeAtomic(path, "bad", REPLACE), failing);
      await slow;
      assert.equal(read(path), first);
      const bad = writeAtomic(path, "bad", REPLACE);
      const last = writeAtomic(path, "last", REPLACE);
      await assert.rejects(bad, failing);
      await last;
      assert.equal(read(path), "last");
    }
  });
  assert.equal(failures, 40);
  assert.equal(rememberedDestinations(), 0);
});

test("without replace, a later write never disappears", async () => {
  using dir = tempDir();
  for (let round = 0; round < 50; round++) {
    const path = join(dir.path, `${round}`);
    const create = writeAtomic(path, LONG, { durable: false });
    const replace = writeAtomic(path, "last", REPLACE);
    const [created] = await Promise.allSettled([create, replace]);
    if (created.status === "rejected") {
      assert.equal((created.reason as { code: string }).code, "EEXIST");
    }
    assert.equal(read(path), "last");
  }
  assert.deepEqual(leftovers(dir.path), []);
});

test("every way of atomic writing takes its place in the order of the calls", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  for (const [way, write] of WAYS) {
    const slow = writeAtomic(path, LONG, REPLACE);
    await write(path, way, REPLACE);
    await slow;
    assert.equal(read(path), way);
  }
});

test("the order of writes is forgotten when it is not needed anymore", async () => {
  using dir = tempDir();
  // Calls that overlap, so that there is never a moment without a call.
  let previous: Promise<void> = Promise.resolve();
  let most = 0;
  for (let i = 0; i < 200; i++) {
    const next = writeAtomic(join(dir.path, `${i}`), "x", REPLACE);
    await previous;
    most = Math.max(most, rememberedDestinations());
    previous = next;
  }
  await previous;
  assert.ok(most < 5, `${most} destinations`);
  assert.equal(rememberedDestinations(), 0);
});

/**
 * Publishes a file as the thread pool does: when `pool` is resolved. The event
 * loop learns of that when `reported` is resolved.
 */
function publication(
  directory: string,
  content: string,
  pool: Promise<void>,
  reported?: Promise<void>,
) {
  const digits = String(content.length).padStart(16, "0");
  const tempFile = {
    path: join(directory, `.portalock.${digits}.tmp`),
    file: undefined as never,
    locked: false,
  };
  fs.writeFileSync(tempFile.path, content);
  const rename = (from: string) =>
    fs.renameSync(from, join(directory, "destination"));
  return inOrderOfCalls(function* (call) {
    const how = { ...TO_DESTINATION, tempFile, call };
    yield* publishInOrder(how, function* () {
      const { path } = tempFile;
      yield* op({
        async: () => pool.then(() => rename(path)).then(() => reported),
        sync: () => rename(path),
      });
      return true;
    });
  });
}

test("a blocking write comes after a rename that the thread pool carries out later", async () => {
  using dir = tempDir();
  const path = join(dir.path, "destination");
  let go = () => {};
  const pool = new Promise<void>((resolve) => go = resolve);
  const slow = runAsync(publication(dir.path, "first", pool));
  runSync(publication(dir.path, "second", pool));
  assert.equal(read(path), "second");
  go();
  await slow;
  assert.equal(read(path), "second");
  assert.deepEqual(leftovers(dir.path), []);
  assert.equal(rememberedDestinations(), 0);
});

test("a blocking write stays the last one if the thread pool has renamed an earlier file before it", async () => {
  using dir = tempDir();
  const path = join(dir.path, "destination");
  let report = () => {};
  const reported = new Promise<void>((resolve) => report = resolve);
  const go = Promise.resolve();
  const first = publication(dir.path, "1", go, reported);
  const second = publication(dir.path, "22", go);
  const third = publication(dir.path, "333", go);
  const slow = runAsync(first);
  while (!fs.existsSync(path)) await setImmediate();
  runSync(third);
  report();
  await slow;
  await runAsync(second);
  assert.equal(read(path), "333");
  assert.deepEqual(leftovers(dir.path), []);
  assert.equal(rememberedDestinations(), 0);
});

test("a blocking write that fails does not prevent the write that it has delayed", async () => {
  using dir = tempDir();
  const path = join(dir.path, "destination");
  let go = () => {};
  const pool = new Promise<void>((resolve) => go = resolve);
  const slow = runAsync(publication(dir.path, "first", pool));
  const failing = inOrderOfCalls(function* (call) {
    const tempFile = { path: "", file: undefined as never, locked: false };
    const how = { ...TO_DESTINATION, tempFile, call };
    yield* publishInOrder(how, () => {
      throw systemError("EIO", 5);
    });
  });
  assert.throws(() => runSync(failing), { code: "EIO" });
  go();
  await slow;
  assert.equal(read(path), "first");
  assert.deepEqual(leftovers(dir.path), []);
});
