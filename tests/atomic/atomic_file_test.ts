import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join, parse } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import {
  AlreadyExists,
  LockException,
  openAtomic,
  SeekMode,
  writeAtomic,
  writeAtomicSync,
} from "../../mod.ts";
import type { AtomicFile, AtomicOptions } from "../../mod.ts";
import { platform } from "../../ffi/mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { makeDirectories } from "../../src/atomic/destination.ts";
import { runAsync, runSync } from "../../src/core/gensync.ts";
import { leftovers, WAYS, WHOLE } from "../fixtures/atomic_writes.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { systemError, withPatchedFiles } from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const REPLACE = { replace: true } as const;
const read = (path: string) => fs.readFileSync(path, "utf8");
const permissions = (path: string) => fs.statSync(path).mode & 0o7777;

/** The permission bits of a replaced file. Without FFI, a list may be hidden. */
const kept = (mode: number) =>
  platform().hidesAccessLists
    ? mode & ~0o070 | mode & (mode & 0o007) << 3
    : mode;

test("every way of atomic writing creates a file with the whole content", async () => {
  using dir = tempDir();
  for (const [way, write] of WAYS) {
    const path = join(dir.path, way);
    await write(path, "grün");
    assert.equal(read(path), "grün", way);
    await write(pathToFileURL(path), new Uint8Array([97, 98]), REPLACE);
    assert.equal(read(path), "ab", way);
    await write(path, "", REPLACE);
    assert.equal(read(path), "", way);
  }
  assert.deepEqual(leftovers(dir.path), []);
  assert.equal(openDescriptors(dir.path), 0);
});

test(
  "atomic writing rejects an existing path, before it creates anything",
  async () => {
    using dir = tempDir();
    const at = (name: string) => join(dir.path, name);
    fs.writeFileSync(at("file"), "old");
    fs.mkdirSync(at("directory"));
    fs.symlinkSync("nowhere", at("dangling"));
    const before = fs.statSync(dir.path).mtimeMs;
    for (const [way, write] of WAYS) {
      for (const name of ["file", "directory", "dangling"]) {
        await assert.rejects(write(at(name), "new"), (error) => {
          assert.ok(error instanceof AlreadyExists, way);
          assert.equal(error.code, "EEXIST");
          assert.equal(error.path, at(name));
          assert.equal(error.preservedPath, null);
          assert.match(error.message, /^Cannot write .*: already exists; pass/);
          return true;
        });
      }
    }
    assert.equal(read(at("file")), "old");
    assert.equal(fs.statSync(dir.path).mtimeMs, before);
  },
  "symbolic links",
);

test(
  "commit() keeps the new content and reports its path if the path is created meanwhile",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const taken = (file: AtomicFile) => {
      file.writeTextSync("mine");
      fs.writeFileSync(path, "theirs");
    };
    const ways: (() => Promise<void>)[] = [
      () => openAtomic(path, {}, taken),
      async () => {
        await using file = await openAtomic(path);
        taken(file);
        await file.commit();
      },
      async () => {
        using file = await openAtomic(path);
        taken(file);
        file.commitSync();
      },
    ];
    for (const way of ways) {
      const error = await way().then(() => null, (error) => error);
      assert.ok(error instanceof AlreadyExists);
      const { preservedPath } = error;
      assert.match(preservedPath!, /[/\\]\.portalock\.[0-9a-f]{16}\.kept$/);
      assert.ok(error.message.includes(preservedPath!.replace(dir.path, "")));
      assert.equal(read(path), "theirs");
      await writeAtomic(path, "again", REPLACE);
      assert.equal(
        read(preservedPath!),
        "mine",
        "the next writer does not remove it",
      );
      fs.rmSync(path);
      fs.rmSync(preservedPath!);
    }
    assert.deepEqual(leftovers(dir.path), []);
    assert.equal(openDescriptors(dir.path), 0);
  },
);

test(
  "writeAtomic() keeps nothing if the path is created meanwhile",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const appear = () => fs.writeFileSync(path, "theirs");
    const appears = {
      syncSync: appear,
      // deno-lint-ignore require-await -- like the real one
      sync: async () => appear(),
    };
    for (const [way, write] of WHOLE) {
      const error = await withPatchedFiles(
        () => appears,
        () => write(path, "mine").then(() => null, (error) => error),
      );
      assert.ok(error instanceof AlreadyExists, way);
      assert.equal(error.preservedPath, null);
      assert.deepEqual(fs.readdirSync(dir.path), ["a"]);
      assert.equal(read(path), "theirs");
      fs.rmSync(path);
    }
  },
);

test(
  "replacing keeps the permission bits, and other users cannot read unfinished content",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "secret");
    for (const [way, write] of WAYS) {
      for (const mode of [0o600, 0o644, 0o640, 0o400, 0o4755, 0o1666]) {
        fs.writeFileSync(path, "old");
        fs.chmodSync(path, mode);
        await write(path, "new", { ...REPLACE, creationMode: 0o777 });
        assert.equal(permissions(path), kept(mode), `${way} ${mode}`);
        assert.equal(read(path), "new");
        fs.rmSync(path);
      }
    }
    fs.writeFileSync(path, "old", { mode: 0o600 });
    await withPatchedFiles((file) => ({
      tryLock(exclusive) {
        assert.equal(file.statSync().mode! & 0o077, 0);
        return file.tryLock(exclusive);
      },
    }), () => writeAtomic(path, "new", REPLACE));
  },
  "permission bits",
);

test(
  "replacing keeps the owner and the group",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "theirs");
    for (const [way, write] of WAYS) {
      fs.writeFileSync(path, "old");
      fs.chownSync(path, 1234, 2345);
      fs.chmodSync(path, 0o6750);
      await write(path, "new", REPLACE);
      const { uid, gid } = fs.statSync(path);
      assert.deepEqual([uid, gid], [1234, 2345], way);
      assert.equal(permissions(path), kept(0o6750));
      fs.rmSync(path);
    }
  },
  "root",
  "permission bits",
);

test("replacing follows symbolic links, even dangling ones", async () => {
  using dir = tempDir();
  const at = (...names: string[]) => join(dir.path, ...names);
  fs.mkdirSync(at("far", "away"), { recursive: true });
  fs.mkdirSync(at("links"));
  fs.symlinkSync("../far/away/../target", at("links", "one"));
  fs.symlinkSync(at("links", "one"), at("links", "two"));
  fs.symlinkSync("../made/here/new", at("links", "dangling"));
  fs.symlinkSync("circle", at("links", "circle"));
  for (const [way, write] of WAYS) {
    fs.writeFileSync(at("far", "target"), "old");
    fs.rmSync(at("made"), { recursive: true, force: true });
    await write(at("links", "two"), way, REPLACE);
    assert.equal(read(at("far", "target")), way);
    await write(at("links", "dangling"), way, REPLACE);
    assert.equal(read(at("made", "here", "new")), way);
    await assert.rejects(write(at("links", "circle"), way, REPLACE), {
      code: "ELOOP",
    });
    assert.ok(fs.lstatSync(at("links", "two")).isSymbolicLink());
    assert.ok(fs.lstatSync(at("links", "dangling")).isSymbolicLink());
  }
  await using _file = await openAtomic(at("links", "two"), REPLACE);
  assert.equal(leftovers(at("far")).length, 1, "beside the target");
}, "symbolic links");

test(
  "replacing rejects a path that is not a regular file, before it creates anything",
  async () => {
    using dir = tempDir();
    const at = (name: string) => join(dir.path, name);
    fs.mkdirSync(at("directory"));
    fs.symlinkSync("directory", at("link"));
    fs.symlinkSync("missing/", at("slash"));
    // A FIFO, not a device, because root would replace it without the check.
    execFileSync("mkfifo", [at("fifo")]);
    for (const [way, write] of WAYS) {
      const rejects = (path: string, code: string) =>
        assert.rejects(write(path, "new", REPLACE), (error) => {
          assert.ok(error instanceof LockException, way);
          assert.equal(error.code, code, path);
          assert.equal(error.path, path);
          return true;
        });
      await rejects(at("directory"), "EISDIR");
      await rejects(at("link"), "EISDIR");
      await rejects(at("slash"), "EISDIR");
      await rejects(`${dir.path}/missing/`, "EISDIR");
      await rejects(`${dir.path}/missing/.`, "EISDIR");
      await rejects(`${dir.path}/missing/..`, "EISDIR");
      await rejects(at("fifo"), "EINVAL");
      await assert.rejects(write(`${dir.path}/missing/`, "new"), {
        code: "EISDIR",
      });
    }
    assert.deepEqual(fs.readdirSync(dir.path).sort(), [
      "directory",
      "fifo",
      "link",
      "slash",
    ]);
  },
  "symbolic links",
  "POSIX error codes",
  "mkfifo(1)",
);

test("atomic writing accepts the longest file names", async () => {
  using dir = tempDir();
  const path = join(dir.path, "n".repeat(255));
  for (const [, write] of WAYS) {
    await write(path, "new");
    await write(path, "newer", REPLACE);
    fs.rmSync(path);
  }
  await assert.rejects(writeAtomic(`${path}n`, ""), { code: "ENAMETOOLONG" });
  assert.deepEqual(leftovers(dir.path), []);
}, "POSIX error codes");

test("atomic writing creates missing directories", async () => {
  using dir = tempDir();
  for (const [way, write] of WAYS) {
    for (const durable of [true, false]) {
      const path = join(dir.path, way, `${durable}`, "a", "b", "file");
      await write(path, "new", { durable });
      assert.equal(read(path), "new");
    }
  }
  fs.writeFileSync(join(dir.path, "file"), "");
  for (const [way, write] of WAYS) {
    const path = join(dir.path, "file", "below", way);
    await assert.rejects(write(path, "new"), { code: "ENOTDIR" });
  }
}, "POSIX error codes");

test("simultaneous writers that create the same directories all succeed", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a", "b");
  const names = Array.from({ length: 20 }, (_, i) => `${i}`);
  await Promise.all(names.map((name) => writeAtomic(join(path, name), name)));
  assert.deepEqual(fs.readdirSync(path).sort(), names.sort());
});

test("a relative path is resolved in the working directory at the start", async () => {
  using dir = tempDir();
  using elsewhere = tempDir();
  const before = process.cwd();
  process.chdir(dir.path);
  try {
    await using file = await openAtomic("a");
    await using replaced = await openAtomic("b/c", REPLACE);
    process.chdir(elsewhere.path);
    await file.commit();
    await replaced.commit();
  } finally {
    process.chdir(before);
  }
  assert.deepEqual(fs.readdirSync(dir.path).sort(), ["a", "b"]);
  assert.deepEqual(fs.readdirSync(join(dir.path, "b")), ["c"]);
});

test("openAtomic() leaves the old file and nothing else if the body throws", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  fs.writeFileSync(path, "old");
  const mistake = new Error("mistake");
  for (const async of [false, true]) {
    const body = (file: AtomicFile) => {
      file.writeTextSync("new");
      if (!async) throw mistake;
      return file.writeText("newer").then(() => Promise.reject(mistake));
    };
    const error = await openAtomic(path, REPLACE, body)
      .then(() => null, (error) => error);
    assert.equal(error, mistake);
    assert.equal(read(path), "old");
    assert.deepEqual(fs.readdirSync(dir.path), ["a"]);
    assert.equal(openDescriptors(dir.path), 0);
  }
});

test("openAtomic() returns the result of the body, which may commit or discard by itself", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  assert.equal(await openAtomic(path, undefined, () => 42), 42);
  const text = async (what: "commit" | "discardSync") => {
    await openAtomic(path, REPLACE, (file) => {
      file.writeTextSync(what);
      // Not awaited, because openAtomic() waits for it.
      file[what]();
    });
    return read(path);
  };
  assert.equal(await text("commit"), "commit");
  assert.equal(await text("discardSync"), "commit");
  assert.deepEqual(leftovers(dir.path), []);
});

test("disposing an AtomicFile without a commit leaves nothing", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  {
    await using file = await openAtomic(path);
    await file.writeText("new");
    assert.equal(leftovers(dir.path).length, 1);
  }
  {
    using file = await openAtomic(path);
    file.writeTextSync("new");
  }
  await (await openAtomic(path)).discard();
  (await openAtomic(path)).discardSync();
  assert.deepEqual(fs.readdirSync(dir.path), []);
  assert.equal(openDescriptors(dir.path), 0);
});

test("an AtomicFile can be read and written like any open file", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  await using file = await openAtomic(path);
  assert.equal(file.path, path);
  await new Blob(["0123456789"]).stream().pipeTo(file.writable);
  await file.seek(-3, SeekMode.End);
  assert.equal(await new Response(file.readable).text(), "789");
  await file.truncate(4);
  assert.equal(await file.readText(), "0123");
  assert.equal((await file.stat()).size, 4);
  await file.commit();
  assert.equal(read(path), "0123");
});

test("an AtomicFile can be committed once, and discard() then does nothing", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  const closed = (by: string) => ({
    name: "LockException",
    code: "EBADF",
    message: new RegExp(`^Cannot \\w+ .*: already closed by ${by}\\(\\)$`),
  });
  for (const name of ["commit", "commitSync", "discard"] as const) {
    const file = await openAtomic(path, REPLACE);
    await file[name]();
    const expected = closed(name.replace("Sync", ""));
    await assert.rejects(file.commit(), expected);
    assert.throws(() => file.commitSync(), expected);
    await assert.rejects(file.writeText("late"), expected);
    assert.throws(() => file.statSync(), expected);
    await file.discard();
    file.discardSync();
    assert.equal(fs.existsSync(path), true);
  }
});

test("AtomicFile.commit() and discard() wait for pending operations", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  let resume = () => {};
  const slow = (file: PlatformFile): Partial<PlatformFile> => ({
    async write(data) {
      await new Promise<void>((resolve) => resume = resolve);
      return await file.write(data);
    },
  });
  await withPatchedFiles(slow, async () => {
    const file = await openAtomic(path);
    const writing = file.writeText("whole");
    assert.throws(() => file.commitSync(), { code: "EBUSY" });
    const committing = file.commit();
    await assert.rejects(file.writeText("late"), { code: "EBADF" });
    resume();
    await committing;
    await writing;
    assert.equal(read(path), "whole");
    for (const discard of ["discard", "discardSync"] as const) {
      const other = await openAtomic(path, REPLACE);
      const again = other.writeText("gone");
      other[discard]();
      assert.equal(leftovers(dir.path).length, 1, "still in use");
      resume();
      await again;
      await other.discard();
      assert.deepEqual(fs.readdirSync(dir.path), ["a"]);
    }
  });
  assert.equal(openDescriptors(dir.path), 0);
});

test("a commit that fails closes and removes the file, and throws the error", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  fs.writeFileSync(path, "old");
  const broken = () => {
    throw systemError("EIO", 5);
  };
  await withPatchedFiles(
    () => ({ sync: broken, syncSync: broken }),
    async () => {
      for (const [way, write] of WAYS) {
        await assert.rejects(write(path, "new", REPLACE), { code: "EIO" }, way);
        assert.deepEqual(fs.readdirSync(dir.path), ["a"]);
        await write(path, "new", { ...REPLACE, durable: false });
      }
      const file = await openAtomic(path, REPLACE);
      await assert.rejects(file.commit(), { code: "EIO" });
      await assert.rejects(file.commit(), { code: "EBADF" });
      await file.discard();
    },
  );
  assert.equal(openDescriptors(dir.path), 0);
});

test("atomic writing continues after short writes", async () => {
  using dir = tempDir();
  await withPatchedFiles((file) => ({
    write: (data) => file.write(data.subarray(0, 3)),
    writeSync: (data) => file.writeSync(data.subarray(0, 3)),
  }), async () => {
    for (const [way, write] of WAYS) {
      await write(join(dir.path, way), "0123456789");
      assert.equal(read(join(dir.path, way)), "0123456789", way);
    }
  });
});

test("ENOSPC during the write leaves the old file and nothing else", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  fs.writeFileSync(path, "old");
  const full = () => {
    throw systemError("ENOSPC", 28);
  };
  await withPatchedFiles(() => ({ write: full, writeSync: full }), async () => {
    for (const [way, write] of WAYS) {
      await assert.rejects(write(path, "new", REPLACE), { code: "ENOSPC" });
      assert.equal(read(path), "old", way);
      assert.deepEqual(fs.readdirSync(dir.path), ["a"], way);
    }
  });
  assert.equal(openDescriptors(dir.path), 0);
});

test("atomic writing rejects invalid arguments before it creates anything", async () => {
  using dir = tempDir();
  const path = join(dir.path, "missing", "a");
  const typeError = (message: RegExp) => ({ name: "TypeError", message });
  const rangeError = (message: RegExp) => ({ name: "RangeError", message });
  const options: [unknown, object][] = [
    [{ overwrite: true }, typeError(/unknown option "overwrite"/)],
    [{ replace: 1 }, typeError(/replace must be a boolean/)],
    [{ durable: "no" }, typeError(/durable must be a boolean/)],
    [{ creationMode: 0o10000 }, rangeError(/creationMode/)],
    [{ creationMode: -1 }, rangeError(/creationMode/)],
    [null, typeError(/options must be an object/)],
    [() => {}, typeError(/options must be an object/)],
  ];
  for (const [, write] of WAYS) {
    for (const [bad, expected] of options) {
      await assert.rejects(write(path, "", bad as AtomicOptions), expected);
    }
    await assert.rejects(write("", "x"), rangeError(/path must not be empty/));
    await assert.rejects(write("a\0b", "x"), rangeError(/NUL/));
    await assert.rejects(write(1 as never, "x"), typeError(/path must be/));
  }
  for (const [, write] of WHOLE) {
    await assert.rejects(write(path, 1 as never), typeError(/data must be/));
  }
  await assert.rejects(
    openAtomic(path, {}, "body" as never),
    typeError(/body must be a function/),
  );
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

test(
  "writeAtomic() and open_atomic() of Python reject the files of each other",
  async () => {
    using dir = tempDir();
    await using python = LockProcess.startPython();
    const ours = join(dir.path, "ours");
    const theirs = join(dir.path, "theirs");
    await writeAtomic(ours, "ours");
    await assert.rejects(
      python.call("writeAtomic", ours, "x") as Promise<void>,
      { name: "AssertionError" },
    );
    await python.call("writeAtomic", theirs, "theirs");
    await assert.rejects(writeAtomic(theirs, "x"), { code: "EEXIST" });
    assert.throws(() => writeAtomicSync(theirs, "x"), { code: "EEXIST" });
    await writeAtomic(theirs, "replaced", REPLACE);
    assert.equal(read(ours), "ours");
    assert.equal(read(theirs), "replaced");
  },
  "Python's portalocker",
);

test("atomic writing rejects a text with a lone surrogate and leaves nothing", async () => {
  using dir = tempDir();
  for (const [way, write] of WAYS) {
    const path = join(dir.path, "missing", "a");
    await assert.rejects(write(path, "ab\ud83d"), {
      name: "RangeError",
      message: /lone surrogate \(index 2\)/,
    }, way);
    const before = way.startsWith("writeAtomic") ? [] : ["missing"];
    assert.deepEqual(fs.readdirSync(dir.path), before);
    assert.deepEqual(
      before.flatMap((n) => fs.readdirSync(join(dir.path, n))),
      [],
    );
  }
});

test("makeDirectories() accepts the root directory", async () => {
  const { root } = parse(process.cwd());
  for (const durable of [false, true]) {
    await runAsync(makeDirectories(root, durable));
    runSync(makeDirectories(root, durable));
  }
});
