import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { Lock } from "../../mod.ts";
import type { FileMode } from "../../mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { SIZES } from "../support/contents.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { systemError, withPatchedFiles } from "../support/platform.ts";
import { currentFixtureCommand, LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const MODES = ["w+", "r+", "a", "a+"] as const;

/**
 * How many processes are killed, and how many of them run at once. Under Wine,
 * a process takes seconds to start.
 */
const KILLS = process.platform === "win32" ? 6 : 44;
const AT_ONCE = 2;

/** A process may be killed at any moment of this many milliseconds. */
const MAX_DELAY_MS = 20;

for (const form of ["", "Sync"]) {
  const replace = async (
    path: string,
    mode: FileMode,
    content: string,
  ) => {
    await using file = await new Lock(path, { mode }).acquire();
    if (form) file.replaceContentsSync(content);
    else await file.replaceContents(content);
  };

  test(`LockedFile.replaceContents${form}() never makes the file shorter than both contents`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.txt");
    for (const mode of MODES) {
      for (const [before, after] of [[9, 3], [3, 9], [5, 5], [0, 4], [4, 0]]) {
        const sizes: number[] = [];
        const record = () => void sizes.push(fs.statSync(path).size);
        await withPatchedFiles(
          (real) => recording(real, record),
          async () => {
            await using file = await new Lock(path, { mode }).acquire();
            file.truncateSync(0);
            file.writeTextSync("o".repeat(before!));
            sizes.length = 0;
            if (form) file.replaceContentsSync("n".repeat(after!));
            else await file.replaceContents("n".repeat(after!));
          },
        );
        const what = `${mode}, ${before} to ${after}`;
        assert.equal(fs.readFileSync(path, "utf8"), "n".repeat(after!), what);
        const shortest = Math.min(before!, after!);
        assert.deepEqual(sizes.filter((size) => size < shortest), [], what);
      }
    }
  });

  test(`LockedFile.replaceContents${form}() keeps the old content when the disk is full`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.txt");
    for (const mode of ["r+", "a", "a+"] as const) {
      fs.writeFileSync(path, "old");
      let written = 0;
      const write = (real: PlatformFile, data: Uint8Array) => {
        if (written === 2) throw systemError("ENOSPC", 28);
        written++;
        return real.writeSync(data.subarray(0, 1));
      };
      const change = (real: PlatformFile) => ({
        write: (data: Uint8Array) =>
          Promise.resolve().then(() => write(real, data)),
        writeSync: (data: Uint8Array) => write(real, data),
      });
      await withPatchedFiles(
        change,
        () =>
          assert.rejects(replace(path, mode, "longer than old"), {
            code: "ENOSPC",
          }),
      );
      assert.equal(written, 2);
      assert.equal(fs.readFileSync(path, "utf8"), "old", mode);
    }
  });

  test(`LockedFile.replaceContents${form}() moves the position to the end, and the next write appends`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.txt");
    for (const mode of MODES) {
      await using file = await new Lock(path, { mode }).acquire();
      for (const content of ["first", "longer than it", "short", ""]) {
        if (form) file.replaceContentsSync(content);
        else await file.replaceContents(content);
        assert.equal(await file.seek(0, 1), content.length, mode);
        if (mode.startsWith("a")) await file.seek(0);
        await file.writeText("+");
        assert.equal(fs.readFileSync(path, "utf8"), `${content}+`, mode);
      }
    }
  });

  test(`LockedFile.replaceContents${form}() appends again after it failed`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.txt");
    fs.writeFileSync(path, "old");
    let failing = true;
    const fail = () => {
      throw systemError("EIO", 5);
    };
    await withPatchedFiles(
      (real) => ({
        write: (data) => failing ? fail() : real.write(data),
        writeSync: (data) => failing ? fail() : real.writeSync(data),
      }),
      async () => {
        await using file = await new Lock(path, { mode: "a" }).acquire();
        const replacing = form
          ? async () => {
            await null;
            file.replaceContentsSync("new");
          }
          : () => file.replaceContents("new");
        await assert.rejects(replacing, { code: "EIO" });
        failing = false;
        await file.seek(0);
        await file.writeText("+");
      },
    );
    assert.equal(fs.readFileSync(path, "utf8"), "old+");
    assert.equal(openDescriptors(path), 0);
  });
}

/** Calls `record` after each call that changes the file. */
function recording(
  real: PlatformFile,
  record: () => void,
): Partial<PlatformFile> {
  const after = <T>(result: T): T => {
    record();
    return result;
  };
  return {
    write: (data) => real.write(data).then(after),
    writeSync: (data) => after(real.writeSync(data)),
    truncate: async (length) => after(await real.truncate(length)),
    truncateSync: (length) => after(real.truncateSync(length)),
  };
}

test(
  "replaceContents() in append mode refuses a path that names another file, and changes neither",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.txt");
    fs.writeFileSync(path, "old");
    await using file = await new Lock(path, { mode: "a" }).acquire();
    fs.renameSync(path, `${path}.1`);
    fs.writeFileSync(path, "other");
    try {
      await file.replaceContents("new content");
      assert.notEqual(file.fd, null);
      assert.equal(fs.readFileSync(`${path}.1`, "utf8"), "new content");
    } catch (error) {
      // Only Deno without FFI needs the path.
      assert.equal(file.fd, null);
      assert.equal((error as { code?: string }).code, "ESTALE");
      assert.equal(fs.readFileSync(`${path}.1`, "utf8"), "old");
      await file.writeText("+");
      assert.equal(fs.readFileSync(`${path}.1`, "utf8"), "old+");
    }
    assert.equal(fs.readFileSync(path, "utf8"), "other");
  },
  "replacing open files",
);

test("a process that is killed while it replaces a content in place never leaves an empty file", async () => {
  using dir = tempDir();
  const left: number[] = [];
  let started = 0;
  const killOne = async (i: number) => {
    const path = join(dir.path, `${i}.txt`);
    const mode = i % 2 ? "a+" : i % 4 ? "r+" : "a";
    fs.writeFileSync(path, "x".repeat(SIZES[0]!));
    await using victim = new LockProcess([
      ...currentFixtureCommand("replace_contents"),
      path,
      mode,
    ]);
    await victim.readLine();
    await delay(Math.random() * MAX_DELAY_MS);
    await victim.kill();
    left.push(fs.statSync(path).size);
  };
  const killer = async () => {
    while (started < KILLS) await killOne(started++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, killer));
  assert.equal(left.length, KILLS);
  const shortest = Math.min(...SIZES);
  assert.deepEqual(left.filter((size) => size < shortest), []);
});

test(
  "replaceContents() on a full file system keeps the old content",
  async () => {
    using dir = tempDir();
    const mount = ["-t", "tmpfs", "-o", "size=64k", "none", dir.path];
    assert.equal(spawnSync("mount", mount).status, 0);
    try {
      const path = join(dir.path, "a.txt");
      for (const mode of ["r+", "a"] as const) {
        fs.writeFileSync(path, "o".repeat(9000));
        await using file = await new Lock(path, { mode }).acquire();
        const long = "n".repeat(100_000);
        await assert.rejects(file.replaceContents(long), { code: "ENOSPC" });
        assert.throws(() => file.replaceContentsSync(long), { code: "ENOSPC" });
        assert.equal(fs.readFileSync(path, "utf8"), "o".repeat(9000));
        await file.replaceContents("short");
        assert.equal(fs.readFileSync(path, "utf8"), "short");
      }
    } finally {
      spawnSync("umount", [dir.path]);
    }
  },
  "root that can mount",
);
