import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import {
  AlreadyLocked,
  DEFAULT_TIMEOUT,
  Lock,
  LockException,
  openAtomic,
  SeekMode,
  updateFile,
  writeAtomic,
  writeAtomicSync,
} from "../../mod.ts";
import type { AtomicOptions } from "../../mod.ts";
import { leftovers, WAYS } from "../fixtures/atomic_writes.ts";
import type { Write } from "../fixtures/atomic_writes.ts";
import { runAtomicWriter } from "../support/atomic_writer.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { currentRuntime, fixtureCommand, runtimes } from "../support/env.ts";
import {
  lockOutsideLibrary,
  systemError,
  withPatchedFiles,
} from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { observeWaits } from "../support/waits.ts";

const REPLACE = { replace: true } as const;
const IN_PLACE = { replace: true, inPlace: true } as const;
const read = (path: string) => fs.readFileSync(path, "utf8");

/** `updateFile` always replaces. */
const update: Write = (path, data, { replace: _, ...options } = {}) =>
  updateFile(path, () => data as string, options);

const REPLACEMENTS: [string, Write][] = [...WAYS, ["updateFile", update]];

/** Mounts a file over another one, as a container does. */
function mountFile(): { path: string; source: string } & Disposable {
  const dir = tempDir();
  const [path, source] = [join(dir.path, "a"), join(dir.path, "source")];
  fs.mkdirSync(source);
  const file = join(source, "a");
  fs.writeFileSync(file, "old content");
  fs.writeFileSync(path, "");
  execFileSync("mount", ["--bind", file, path]);
  return {
    path,
    source: file,
    [Symbol.dispose]() {
      execFileSync("umount", [path]);
      dir[Symbol.dispose]();
    },
  };
}

test(
  "a mounted file is overwritten with inPlace, and otherwise the error names the option",
  async () => {
    using mounted = mountFile();
    const { path, source } = mounted;
    const directory = join(path, "..");
    const { ino } = fs.statSync(source);
    for (const [way, write] of REPLACEMENTS) {
      fs.writeFileSync(source, "old content");
      await assert.rejects(write(path, "new", REPLACE), (error) => {
        assert.ok(error instanceof LockException, way);
        assert.equal(error.code, "EBUSY");
        assert.equal(error.path, path);
        assert.match(
          error.message,
          /^Cannot write .*mount point.*\(EBUSY\); pass inPlace: true/,
        );
        return true;
      });
      assert.equal(read(source), "old content");
      for (const durable of [true, false]) {
        await write(path, `${way} ${durable}`, { ...IN_PLACE, durable });
        assert.equal(read(source), `${way} ${durable}`);
        await write(path, "", { ...IN_PLACE, durable });
        assert.equal(read(source), "");
      }
      assert.deepEqual(leftovers(directory), [], way);
    }
    assert.equal(fs.statSync(source).ino, ino);
    assert.equal(openDescriptors(directory), 0);
  },
  "root that can mount",
);

/** A directory that is not writable, with a file that is. */
function openUnwritable() {
  const dir = tempDir();
  const path = join(dir.path, "a");
  fs.writeFileSync(path, "old content");
  fs.chmodSync(dir.path, 0o555);
  return {
    path,
    directory: dir.path,
    [Symbol.dispose]() {
      fs.chmodSync(dir.path, 0o755);
      dir[Symbol.dispose]();
    },
  };
}

/** Runs a command as a root that permission bits apply to. */
const RESTRICTED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];

test(
  "a file in a directory that is not writable is overwritten with inPlace, and otherwise the error names the option",
  async () => {
    using dir = openUnwritable();
    const { path, directory } = dir;
    const { ino } = fs.statSync(path);
    const run = (what: string, options: AtomicOptions) =>
      runAtomicWriter(what, path, options, RESTRICTED);
    const all = (code: string) => WAYS.map(() => code);
    assert.deepEqual(await run("ways", REPLACE), all("EACCES"));
    assert.equal(await run("update", {}), "EACCES");
    const message = await run("message", {}) as string;
    assert.match(message, /^Cannot write .*\(EACCES\); pass inPlace: true/);
    assert.equal(read(path), "old content");
    assert.deepEqual(await run("ways", IN_PLACE), all("written"));
    assert.equal(read(path), "new");
    fs.writeFileSync(path, "old content");
    assert.equal(await run("update", { inPlace: true }), "written");
    assert.equal(read(path), "new");
    assert.equal(fs.statSync(path).ino, ino);
    assert.deepEqual(fs.readdirSync(directory), ["a"]);
    // If the file is not writable either, the option would not help.
    fs.chmodSync(path, 0o444);
    assert.doesNotMatch(await run("message", {}) as string, /inPlace/);
    assert.deepEqual(await run("ways", IN_PLACE), all("EACCES"));
    assert.equal(read(path), "new");
  },
  "root",
  "setpriv(1)",
);

test(
  "updateFile() with inPlace loses no update of processes that replace the file and processes that overwrite it",
  async () => {
    using dir = openUnwritable();
    const { path } = dir;
    fs.writeFileSync(path, "0");
    const increment = (under: string[]) =>
      runAtomicWriter("increments", path, {
        inPlace: true,
        durable: false,
      }, under);
    await Promise.all([
      increment([]),
      increment(RESTRICTED),
      increment([]),
      increment(RESTRICTED),
    ]);
    assert.equal(read(path), "400");
  },
  "root",
  "setpriv(1)",
);

test(
  "a process that overwrites a file in place waits for one that replaces it, and then reads the new file",
  async () => {
    using dir = openUnwritable();
    const { path } = dir;
    for (const runtime of runtimes) {
      fs.writeFileSync(path, "old");
      const { ino } = fs.statSync(path);
      const command = fixtureCommand(runtime, "lock_process");
      await using other = new LockProcess([...RESTRICTED, ...command]);
      let appending: Promise<unknown> | undefined;
      await updateFile(path, async (text) => {
        appending = other.call("append", path, " overwritten");
        await other.untilWaiting();
        return `${text} replaced`;
      }, { inPlace: true });
      await appending;
      assert.equal(read(path), "old replaced overwritten", runtime.name);
      assert.notEqual(fs.statSync(path).ino, ino);
    }
  },
  "root",
  "setpriv(1)",
);

test(
  "updateFile() with inPlace reads the new file if the file is replaced before it is locked",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    fs.writeFileSync(path, "old");
    let replaced = false;
    await withPatchedFiles((file) => ({
      tryLock(exclusive) {
        if (!replaced && file.isStillAt(path)) {
          replaced = true;
          fs.writeFileSync(`${path}.new`, "theirs");
          fs.renameSync(`${path}.new`, path);
        }
        return file.tryLock(exclusive);
      },
    }), () => updateFile(path, (text) => `${text} mine`, { inPlace: true }));
    assert.ok(replaced);
    assert.equal(read(path), "theirs mine");
  },
  "replacing open files",
);

test(
  "a file is locked while it is overwritten in place",
  async () => {
    using mounted = mountFile();
    const { path } = mounted;
    await using other = LockProcess.start(currentRuntime);
    await other.call("acquire", path);
    await assert.rejects(
      updateFile(path, () => "new", { inPlace: true, timeout: 0 }),
      AlreadyLocked,
    );
    const writing = writeAtomic(path, "new", IN_PLACE);
    assert.equal(read(path), "old content");
    await other.call("release");
    await writing;
    assert.equal(read(path), "new");
  },
  "root that can mount",
);

test(
  "a file that is replaced is locked by updateFile() with inPlace, and not by others",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    fs.writeFileSync(path, "old");
    await using _held = await new Lock(path).acquire();
    await writeAtomic(path, "new", IN_PLACE);
    assert.equal(read(path), "new");
    await using _again = await new Lock(path).acquire();
    await updateFile(path, () => "newer");
    assert.equal(read(path), "newer");
    await using _third = await new Lock(path).acquire();
    await assert.rejects(
      updateFile(path, () => "newest", { inPlace: true, timeout: 0 }),
      AlreadyLocked,
    );
    assert.equal(read(path), "newer");
  },
  "replacing open files",
);

/** Mounts a directory read-only, and a writable file in it. */
function mountReadOnly(): { path: string; source: string } & Disposable {
  const [writable, dir] = [tempDir(), tempDir()];
  const [path, source] = [join(dir.path, "a"), join(writable.path, "a")];
  fs.writeFileSync(source, "old content");
  fs.writeFileSync(path, "");
  execFileSync("mount", ["--bind", dir.path, dir.path]);
  execFileSync("mount", ["-o", "remount,bind,ro", dir.path]);
  execFileSync("mount", ["--bind", source, path]);
  return {
    path,
    source,
    [Symbol.dispose]() {
      execFileSync("umount", [path]);
      execFileSync("umount", [dir.path]);
      dir[Symbol.dispose]();
      writable[Symbol.dispose]();
    },
  };
}

test(
  "a writable file on a read-only file system is overwritten with inPlace",
  async () => {
    using mounted = mountReadOnly();
    const { path, source } = mounted;
    for (const [way, write] of REPLACEMENTS) {
      fs.writeFileSync(source, "old content");
      await assert.rejects(write(path, "new", REPLACE), {
        code: "EROFS",
        message: /pass inPlace: true/,
      }, way);
      assert.equal(read(source), "old content");
      await write(path, way, IN_PLACE);
      assert.equal(read(source), way);
    }
  },
  "root that can mount",
);

test(
  "an AtomicFile in memory can be read and written like any open file",
  async () => {
    using mounted = mountReadOnly();
    const { path, source } = mounted;
    {
      await using file = await openAtomic(path, IN_PLACE);
      assert.equal(file.path, path);
      await new Blob(["0123456789"]).stream().pipeTo(file.writable);
      await file.seek(-3, SeekMode.End);
      assert.equal(await new Response(file.readable).text(), "789");
      await file.truncate(4);
      await file.truncate(6);
      assert.equal(await file.readText(), "0123\0\0");
      file.seekSync(8, SeekMode.Start);
      file.writeSync(new Uint8Array(5000).fill(97));
      assert.equal(file.statSync().size, 5008);
      assert.equal(read(source), "old content");
      file.truncateSync(4);
      await file.commit();
    }
    assert.equal(read(source), "0123");
    await (await openAtomic(path, IN_PLACE)).discard();
    const mistake = new Error("mistake");
    const failing = openAtomic(path, IN_PLACE, async (file) => {
      await file.writeText("new");
      throw mistake;
    });
    await assert.rejects(failing, (error) => error === mistake);
    assert.equal(read(source), "0123");
  },
  "root that can mount",
);

test(
  "an update in place does not wait for a write that waits for its lock, and the last call wins",
  async () => {
    using mounted = mountFile();
    const { path, source } = mounted;
    let writing: Promise<void> | undefined;
    const start = performance.now();
    await updateFile(path, async () => {
      using waits = observeWaits();
      writing = writeAtomic(path, "earlier", IN_PLACE);
      await waits.begun();
      return "later";
    }, { inPlace: true });
    await writing;
    assert.equal(read(source), "later");
    // Without the rule, the write fails after the default timeout.
    assert.ok(performance.now() - start < DEFAULT_TIMEOUT);
    await writeAtomic(path, "last", IN_PLACE);
    assert.equal(read(source), "last");
  },
  "root that can mount",
);

test("updateFile() with inPlace rejects with any error of onWait, and changes nothing", async () => {
  for (const code of ["EACCES", "EBUSY", "EPERM", "EROFS"]) {
    using dir = tempDir();
    const path = join(dir.path, "a");
    fs.writeFileSync(path, "old content");
    const holder = lockOutsideLibrary(`${path}.lock`);
    const reason = systemError(code, 1);
    const onWait = () => {
      throw reason;
    };
    await assert.rejects(
      updateFile(path, () => "new", { inPlace: true, onWait }),
      (error) => error === reason,
    );
    assert.equal(read(path), "old content");
    holder.release();
  }
});

test("inPlace requires replace, and a boolean, before anything is created", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  for (const [, write] of WAYS) {
    for (const replace of [false, undefined]) {
      await assert.rejects(write(path, "new", { replace, inPlace: true }), {
        name: "RangeError",
        message: "inPlace: true requires replace: true",
      });
    }
    await assert.rejects(
      write(path, "new", { replace: true, inPlace: 1 as never }),
      { name: "TypeError", message: /inPlace must be a boolean/ },
    );
  }
  await assert.rejects(
    updateFile(path, () => "", { inPlace: "yes" as never }),
    { name: "TypeError", message: /inPlace must be a boolean/ },
  );
  assert.throws(
    () => writeAtomicSync(path, "", { inPlace: true }),
    { name: "RangeError" },
  );
  assert.deepEqual(fs.readdirSync(dir.path), []);
});
