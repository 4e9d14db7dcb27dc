import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join, relative } from "node:path";
import process from "node:process";
import { setImmediate, setTimeout as delay } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import {
  AlreadyLocked,
  type LastingWait,
  Lock,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  lockAll,
  LockedFiles,
} from "../../mod.ts";
import type { LockException, LockOptions } from "../../mod.ts";
import { abortReasons } from "../support/abort_reasons.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { runtimes } from "../support/env.ts";
import {
  lockOutsideLibrary,
  systemError,
  withPatchedFiles,
  withPatchedPlatform,
} from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { activeTimers } from "../support/timers.ts";
import { at } from "../support/values.ts";
import { observeWaits } from "../support/waits.ts";

const LONG = { timeout: 60_000 };

/** Creates a directory with paths, and shows which of the files are locked. */
function files<const Names extends string[]>(...names: Names) {
  const dir = tempDir();
  const path = (name: string) => join(dir.path, name);
  return {
    directory: dir.path,
    path,
    paths: names.map(path) as { [I in keyof Names]: string },
    write: (content: string) =>
      names.forEach((name) => fs.writeFileSync(path(name), content)),
    read: () => names.map((name) => fs.readFileSync(path(name), "utf8")),
    free: () =>
      names.filter((name) => {
        if (!fs.existsSync(path(name))) return false;
        using file = new Lock(path(name), { mode: "r" }).tryAcquireSync();
        return file !== null;
      }).join(""),
    list: () => fs.readdirSync(dir.path).sort().join(" "),
    open: () => openDescriptors(dir.path),
    [Symbol.dispose]: () => dir[Symbol.dispose](),
  };
}

/** Runs a body and returns the paths that it opens, in order. */
async function openedPaths(body: () => unknown): Promise<string[]> {
  const paths: string[] = [];
  await withPatchedPlatform((real) => ({
    open: (...how) => (paths.push(how[0]), real.open(...how)),
  }), async () => void await body());
  return paths;
}

test(
  "lockAll() returns the locked files in the order of the given paths",
  async () => {
    using dir = files("a", "b", "c");
    const [a, b, c] = dir.paths;
    const paths = [c, a, b];
    const all = await lockAll(new Set(paths), { mode: "a+" });
    assert.ok(all instanceof LockedFiles);
    assert.equal(all.length, 3);
    assert.deepEqual([...all].map(({ path }) => path), paths);
    assert.deepEqual([all.at(0)!.path, all.at(-1)!.path], [c, b]);
    assert.equal(all.at(3), undefined);
    for (const file of all) await file.writeText(file.path);
    assert.equal(dir.free(), "");
    assert.equal(dir.open(), 3);
    await all.close();
    await all.close();
    all.closeSync();
    assert.equal(dir.free(), "abc");
    assert.deepEqual(dir.read(), [a, b, c]);
    assert.equal(dir.open(), 0);
  },
);

test("disposing LockedFiles releases them", async () => {
  using dir = files("a", "b");
  {
    await using _all = await lockAll(dir.paths);
    assert.equal(dir.free(), "");
  }
  assert.equal(dir.free(), "ab");
  {
    using _all = await lockAll(dir.paths);
    assert.equal(dir.free(), "");
  }
  assert.equal(dir.free(), "ab");
  assert.equal(dir.open(), 0);
});

test("LockedFiles keeps the other locks when one file is closed early", async () => {
  using dir = files("a", "b");
  const all = await lockAll(dir.paths);
  await all.at(0)!.close();
  assert.equal(dir.free(), "a");
  await all.close();
  assert.equal(dir.free(), "ab");
});

test("lockAll() of no paths locks nothing", async () => {
  const all = await lockAll([]);
  assert.deepEqual([all.length, [...all]], [0, []]);
  await all.close();
});

test(
  "lockAll() locks in the order of the real paths",
  async () => {
    using dir = files("a", "b", "c");
    const [a, b, c] = dir.paths;
    dir.write("");
    fs.symlinkSync(c, dir.path("1"));
    fs.symlinkSync("a", dir.path("z"));
    fs.symlinkSync(dir.directory, dir.path("there"));
    const there = join(dir.path("there"), "b");
    for (const paths of [[c, b, a], [b, a, c], [a, c, b]]) {
      assert.deepEqual(
        await openedPaths(async () => (await lockAll(paths)).closeSync()),
        [a, b, c],
      );
    }
    const [one, z] = [dir.path("1"), dir.path("z")];
    assert.deepEqual(
      await openedPaths(async () =>
        (await lockAll([one, there, z])).closeSync()
      ),
      [z, there, one],
    );
  },
  "symbolic links",
);

// Deno without FFI does not open a dangling symbolic link.
test(
  "lockAll() orders files that symbolic links are about to create",
  async () => {
    using dir = files("a");
    const [a] = dir.paths;
    fs.symlinkSync(dir.directory, dir.path("there"));
    fs.symlinkSync(dir.path("d"), dir.path("2"));
    fs.symlinkSync("there/e", dir.path("0"));
    const made = [dir.path("there/b"), dir.path("0"), dir.path("2"), a];
    assert.deepEqual(
      await openedPaths(async () => (await lockAll(made)).closeSync()),
      [a, dir.path("there/b"), dir.path("2"), dir.path("0")],
    );
    assert.equal(dir.list(), "0 2 a b d e there");
    fs.unlinkSync(dir.path("d"));
    const all = await lockAll([dir.path("2"), dir.path("d")], { timeout: 0 });
    assert.equal(all.at(0), all.at(1));
    await all.close();
  },
  "file descriptors",
  "symbolic links",
);

test("lockAll() locks a file once if several paths name it", async () => {
  using dir = files("a", "b");
  const [a, b] = dir.paths;
  const link = dir.path("link");
  fs.symlinkSync("a", link);
  fs.writeFileSync(a, "");
  for (let i = 0; i < 2; i++) {
    const names = [link, a, relative(process.cwd(), a), pathToFileURL(a), b, b];
    const all = await lockAll(names, { timeout: 0 });
    assert.equal(all.length, 6);
    const [first, ...others] = all;
    assert.ok(first);
    for (const other of others.slice(0, 3)) assert.equal(other, first);
    assert.equal(first.path, link);
    assert.notEqual(all.at(4), first);
    assert.equal(all.at(4), all.at(5));
    assert.equal(dir.open(), 2);
    if (i) all.closeSync();
    else await all.close();
    assert.equal(dir.free(), "ab");
  }
}, "symbolic links");

test("lockAll() rejects a circle of symbolic links", async () => {
  using dir = files("a");
  fs.symlinkSync("2", dir.path("1"));
  fs.symlinkSync("1", dir.path("2"));
  await assert.rejects(lockAll([dir.path("a"), dir.path("1")]), (error) => {
    assert.match(String(error), /ELOOP|symbolic links/);
    return true;
  });
  assert.equal(dir.open(), 0);
}, "symbolic links");

test("lockAll() releases its locks when it cannot acquire one file", async () => {
  using dir = files("a", "b", "c");
  const [a, b, c] = dir.paths;
  const held = lockOutsideLibrary(b);
  for (const options of [{ timeout: 0 }, { failWhenLocked: true }]) {
    await assert.rejects(
      lockAll([c, b, a], options),
      (error: AlreadyLocked) => {
        assert.ok(error instanceof AlreadyLocked);
        assert.equal(error.path, b);
        return true;
      },
    );
    assert.equal(dir.free(), "a");
    assert.equal(dir.list(), "a b", "c must not be created");
    assert.equal(dir.open(), 1);
  }
  const waiting = lockAll([a, b, c], { timeout: 500 });
  let over = false;
  waiting.catch(() => over = true);
  while (dir.free() !== "" && !over) await delay(1);
  await assert.rejects(waiting, AlreadyLocked);
  assert.equal(dir.free(), "a");
  held.release();
  assert.equal(dir.open(), 0);
  await assert.rejects(lockAll([a, join(b, "b"), c]));
  await assert.rejects(lockAll([a, dir.path("no/such"), c]), {
    code: "ENOENT",
  });
  assert.equal(dir.free(), "abc");
  assert.equal(dir.open(), 0);
});

test("lockAll() waits until the last file is released", async () => {
  using dir = files("a", "b", "c");
  const held = dir.paths.map(lockOutsideLibrary);
  using waits = observeWaits();
  const waiting = lockAll(dir.paths, { flags: LOCK_EX });
  await waits.begun();
  for (const { release } of held.reverse()) {
    await setImmediate();
    release();
  }
  await (await waiting).close();
  assert.equal(dir.open(), 0);
});

test("lockAll() has one deadline for all files", async () => {
  using dir = files("a", "b");
  const [a, b] = dir.paths;
  const [first, second] = [lockOutsideLibrary(a), lockOutsideLibrary(b)];
  const timer = setTimeout(first.release, 1500);
  const timeout = 2000;
  const start = performance.now();
  await assert.rejects(
    lockAll(dir.paths, { timeout }),
    (error: AlreadyLocked) => {
      assert.equal(error.path, b);
      assert.ok(error.waited > 1000, `${error.waited}`);
      return true;
    },
  );
  // With a deadline of its own, the second file would take 3500 ms in all.
  const elapsed = performance.now() - start;
  assert.ok(elapsed < 3000, `${elapsed}`);
  clearTimeout(timer);
  second.release();
  assert.equal(dir.open(), 0);
});

test("lockAll() releases its locks when it is aborted", async () => {
  using dir = files("a", "b");
  using timers = activeTimers();
  for (const aborting of abortReasons()) {
    const held = lockOutsideLibrary(dir.paths[1]);
    const { signal } = aborting;
    using waits = observeWaits();
    const waiting = lockAll(dir.paths, { signal, ...LONG });
    await waits.begun();
    aborting.abort();
    await aborting.rejects(waiting);
    assert.equal(dir.free(), "a");
    assert.equal(dir.open(), 1);
    assert.equal(timers.size, 0);
    held.release();
    const paths = await openedPaths(() =>
      aborting.rejects(lockAll(dir.paths, { signal }))
    );
    assert.deepEqual(paths, []);
  }
});

test("lockAll() calls onWait for each file that it waits for", async () => {
  using dir = files("a", "b");
  const held = dir.paths.map(lockOutsideLibrary);
  const reported: LastingWait[] = [];
  const all = await lockAll(dir.paths, {
    ...LONG,
    onWait(wait) {
      reported.push(wait);
      at(held, reported.length - 1).release();
    },
  });
  assert.deepEqual(reported.map(({ path }) => path), dir.paths);
  for (const { waited } of reported) assert.ok(waited >= 100);
  await all.close();
});

test("lockAll() truncates files only after all of them are locked", async () => {
  using dir = files("a", "b");
  for (const mode of ["w", "w+"] as const) {
    dir.write("old");
    const held = lockOutsideLibrary(dir.paths[1]);
    await assert.rejects(lockAll(dir.paths, { mode, timeout: 0 }));
    const waiting = lockAll(dir.paths, { mode, ...LONG });
    while (dir.free() !== "") await delay(1);
    assert.deepEqual(dir.read(), ["old", "old"]);
    held.release();
    const all = await waiting;
    assert.deepEqual(dir.read(), ["", ""]);
    for (const file of all) await file.writeText("new");
    await all.close();
    assert.deepEqual(dir.read(), ["new", "new"]);
  }
  dir.write("old");
  const error = new Error("no space");
  await withPatchedFiles(() => ({
    truncate: () => Promise.reject(error),
    truncateSync() {
      throw error;
    },
  }), async () => {
    const failing = lockAll(dir.paths, { mode: "w" });
    await assert.rejects(failing, (thrown) => thrown === error);
  });
  assert.equal(dir.free(), "ab");
  assert.equal(dir.open(), 0);
});

test("lockAll() with mode x creates all files, or none if one exists", async () => {
  using dir = files("a", "b", "c");
  const [a, b, c] = dir.paths;
  fs.writeFileSync(b, "there");
  await assert.rejects(lockAll([c, b, a], { mode: "x" }), { code: "EEXIST" });
  assert.equal(dir.list(), "b");
  const all = await lockAll([c, a, a], { mode: "x+" });
  assert.equal(dir.list(), "a b c");
  assert.equal(dir.free(), "b");
  await all.close();
  // A file that existed may be unlinked before it is opened.
  fs.unlinkSync(a);
  fs.unlinkSync(c);
  let gone = false;
  await withPatchedPlatform((real) => ({
    open(...how) {
      if (!gone) fs.unlinkSync(b);
      gone = true;
      return real.open(...how);
    },
  }), async () => (await lockAll([a, b], { mode: "x" })).closeSync());
  assert.equal(dir.list(), "a b");
  assert.equal(dir.open(), 0);
});

test("lockAll() with LOCK_SH shares with readers", async () => {
  using dir = files("a", "b");
  const options = { flags: LOCK_SH | LOCK_NB, timeout: 0 };
  const one = await lockAll(dir.paths, options);
  const two = await lockAll(dir.paths, options);
  await assert.rejects(lockAll(dir.paths, { timeout: 0 }), AlreadyLocked);
  await one.close();
  await assert.rejects(lockAll(dir.paths, { timeout: 0 }), AlreadyLocked);
  await two.close();
  await (await lockAll(dir.paths, { timeout: 0 })).close();
  const emptying = lockAll(dir.paths, { ...options, mode: "w" });
  await assert.rejects(emptying, RangeError);
});

test("lockAll() rejects invalid arguments before it opens a file", async () => {
  using dir = files("a");
  const [a] = dir.paths;
  const bad: [paths: unknown, error: string, says: RegExp, options?: object][] =
    [
      [a, "TypeError", /paths must be an iterable of paths, not "/],
      [pathToFileURL(a), "TypeError", /paths must be an iterable of paths/],
      [
        undefined,
        "TypeError",
        /paths must be an iterable of paths, not undefined/,
      ],
      [null, "TypeError", /paths must be an iterable of paths, not null/],
      [5, "TypeError", /paths must be an iterable of paths, not 5/],
      [{ 0: a, length: 1 }, "TypeError", /paths must be an iterable of paths/],
      [[a, 5], "TypeError", /path must be/],
      [[a, ""], "RangeError", /path must not be empty/],
      [[a, "b\0"], "RangeError", /NUL/],
      [[a], "TypeError", /unknown option "time"/, { time: 1 }],
      [[a], "RangeError", /timeout/, { timeout: -1 }],
      [[a], "RangeError", /mode/, { mode: "q" }],
      [[], "RangeError", /timeout/, { timeout: -1 }],
    ];
  const paths = await openedPaths(async () => {
    for (const [paths, name, message, options] of bad) {
      const failing = lockAll(paths as string[], options);
      await assert.rejects(failing, { name, message });
    }
  });
  assert.deepEqual(paths, []);
  assert.equal(dir.list(), "");
});

for (const close of ["close", "closeSync"] as const) {
  test(`LockedFiles.${close}() reports all errors, but only with throwOnReleaseError`, async () => {
    using dir = files("a", "b", "c");
    const [a, b, c] = dir.paths;
    const refusing = (file: { closeSync(): void; fd: number | null }) => ({
      unlock() {
        throw systemError("EIO", 5);
      },
      close: () => file.closeSync(),
    });
    await withPatchedFiles(refusing, async () => {
      const quiet = await lockAll([a, b]);
      await quiet[close]();
      const loud = await lockAll([b, a, b, c], { throwOnReleaseError: true });
      await assert.rejects(
        async () => await loud[close](),
        (error: AggregateError) => {
          assert.ok(error instanceof AggregateError);
          assert.match(error.message, /^Cannot release/);
          const { errors } = error;
          assert.deepEqual(
            errors.map(({ code }) => code),
            Array(3).fill("EIO"),
          );
          assert.deepEqual(errors.map(({ path }) => path), [b, a, c]);
          return true;
        },
      );
      const held = lockOutsideLibrary(c);
      const waiting = (options: LockOptions) =>
        lockAll([a, b, c], { timeout: 0, ...options });
      await assert.rejects(waiting({}), AlreadyLocked);
      const failing = waiting({ throwOnReleaseError: true });
      await assert.rejects(failing, (thrown) => {
        const { name, error, suppressed } = thrown as SuppressedError;
        assert.equal(name, "SuppressedError");
        assert.ok(suppressed instanceof AlreadyLocked);
        const errors = (error as AggregateError).errors as LockException[];
        assert.deepEqual(errors.map(({ path }) => path), [a, b]);
        return true;
      });
      held.release();
    });
    assert.equal(dir.free(), "abc");
    assert.equal(dir.open(), 0);
  });
}

test("tasks that name the same files in opposite order do not deadlock", async () => {
  using dir = files("a", "b", "c");
  const [a, b, c] = dir.paths;
  let inside = 0;
  const task = async (paths: string[]) => {
    for (let i = 0; i < 100; i++) {
      await using _files = await lockAll(paths, LONG);
      assert.equal(++inside, 1);
      await delay(0);
      inside--;
    }
  };
  await Promise.all([task([a, b, c]), task([c, b, a]), task([b, a])]);
  assert.equal(dir.open(), 0);
});

test("lockAll() in another process excludes this process, until that process is killed", async () => {
  for (const runtime of runtimes) {
    using dir = files("a", "b");
    const [a, b] = dir.paths;
    await using child = LockProcess.start(runtime);
    await child.call("lockAll", [b, a]);
    assert.equal(dir.free(), "");
    await child.call("unlockAll");
    assert.equal(dir.free(), "ab");
    await child.call("lockAll", [a, b]);
    const waiting = lockAll([b, a], LONG);
    child.process.kill("SIGKILL");
    await (await waiting).close();
    assert.equal(dir.open(), 0);
  }
});

test("lockAll() locks the files of the working directory in which it was called", async () => {
  using dir = tempDir();
  using elsewhere = tempDir();
  const before = process.cwd();
  const held = new Lock(join(dir.path, "a.lock")).acquireSync();
  try {
    process.chdir(dir.path);
    const locking = lockAll(["a.lock", "b.lock"], { timeout: 60_000 });
    process.chdir(elsewhere.path);
    held.closeSync();
    await using files = await locking;
    assert.deepEqual([...files].map(({ path }) => path), ["a.lock", "b.lock"]);
    assert.equal(new Lock(join(dir.path, "b.lock")).tryAcquireSync(), null);
  } finally {
    process.chdir(before);
  }
  assert.deepEqual(fs.readdirSync(elsewhere.path), []);
});

test(
  "lockAll() takes .. after a symbolic link for the parent of the link's target",
  async () => {
    using dir = tempDir();
    fs.mkdirSync(join(dir.path, "x"));
    fs.mkdirSync(join(dir.path, "other", "directory"), { recursive: true });
    fs.symlinkSync(
      join(dir.path, "other", "directory"),
      join(dir.path, "x", "link"),
    );
    const paths = [`${dir.path}/x/link/../f`, `${dir.path}/x/f`];
    await using files = await lockAll(paths);
    assert.notEqual(files.at(0), files.at(1));
    for (
      const path of [join(dir.path, "other", "f"), join(dir.path, "x", "f")]
    ) {
      assert.equal(await new Lock(path).tryAcquire(), null);
    }
  },
  "symbolic links",
  // Deno normalizes the paths of its own files.
  "file descriptors",
);
