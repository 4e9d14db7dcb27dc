import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import { platform } from "../../ffi/mod.ts";
import type { OpenMode, Platform, PlatformFile } from "../../ffi/types.ts";
import { Lock, openAtomic, writeAtomic, writeAtomicSync } from "../../mod.ts";
import { isWhole } from "../fixtures/checksummed_content.ts";
import { leftovers, WAYS } from "../fixtures/atomic_writes.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { currentRuntime, runtimes } from "../support/env.ts";
import {
  systemError,
  withPatchedFiles,
  withPatchedPlatform,
} from "../support/platform.ts";
import { currentFixtureCommand, LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const REPLACE = { replace: true } as const;
const STALE = ".portalock.0123456789abcdef.tmp";
const read = (path: string) => fs.readFileSync(path, "utf8");
const EXISTING = {
  read: true,
  write: true,
  append: false,
  create: false,
  exclusive: false,
};

for (const runtime of runtimes) {
  test(`a living writer on ${runtime.name} keeps its temporary file, a dead one does not`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const other = join(dir.path, "b");
    {
      await using worker = LockProcess.start(runtime);
      await worker.call("openAtomic", path);
      for (const [, write] of WAYS) await write(other, "", REPLACE);
      assert.equal(leftovers(dir.path).length, 1);
      await worker.call("commit");
      assert.equal(read(path), "begun");
      await worker.call("openAtomic", path, REPLACE);
    }
    for (const [way, write] of WAYS) {
      const [left] = leftovers(dir.path);
      assert.ok(left, way);
      await write(other, "", REPLACE);
      assert.deepEqual(leftovers(dir.path), [], way);
      fs.writeFileSync(join(dir.path, left), "left again");
    }
    assert.equal(read(path), "begun");
  });
}

test(
  "cleaning leaves what is no temporary file of this package",
  async () => {
    using dir = tempDir();
    const at = (name: string) => join(dir.path, name);
    const names = [
      ".portalock.0123456789abcdef.kept",
      ".portalock.0123456789ABCDEF.tmp",
      ".portalock.0123456789abcdef.tmp~",
      ".portalock.0123456789abcde.tmp",
      "portalock.0123456789abcdef.tmp",
    ];
    for (const name of names) fs.writeFileSync(at(name), "");
    const odd = (digit: number) => `.portalock.${`${digit}`.repeat(16)}.tmp`;
    fs.writeFileSync(at("target"), "");
    fs.symlinkSync("target", at(odd(1)));
    fs.mkdirSync(at(odd(2)));
    execFileSync("mkfifo", [at(odd(3))]);
    fs.writeFileSync(at(odd(4)), "", { mode: 0o400 });
    const expected = [...names, "target", odd(1), odd(2), odd(3), "a"].sort();
    for (const [way, write] of WAYS) {
      await write(at("a"), "", REPLACE);
      assert.deepEqual(fs.readdirSync(dir.path).sort(), expected, way);
    }
    assert.equal(openDescriptors(dir.path), 0);
  },
  "symbolic links",
  "mkfifo(1)",
);

test("cleaning removes the second name that a crash leaves on a published file", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  const other = join(dir.path, "b");
  fs.writeFileSync(path, "published");
  fs.linkSync(path, join(dir.path, STALE));
  {
    using _file = new Lock(path, { mode: "r+" }).acquireSync();
    await writeAtomic(other, "", REPLACE);
    assert.deepEqual(leftovers(dir.path), [STALE], "its user's lock counts");
  }
  await writeAtomic(other, "", REPLACE);
  assert.deepEqual(leftovers(dir.path), []);
  assert.equal(read(path), "published");
});

/** Does something before the first attempt to lock of somebody's. */
function beforeLock(action: (path: string) => void, dir: string) {
  let done = false;
  return (file: PlatformFile): Partial<PlatformFile> => ({
    tryLock(exclusive) {
      if (!done) {
        done = true;
        action(join(dir, leftovers(dir)[0]));
      }
      return file.tryLock(exclusive);
    },
  });
}

for (const [way, write] of WAYS) {
  test(
    `${way}: a writer whose file is removed before it is locked takes another`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a");
      const clean = () => writeAtomicSync(join(dir.path, "b"), "", REPLACE);
      let seen = "";
      await withPatchedFiles(
        beforeLock((temporary) => {
          seen = temporary;
          clean();
          assert.equal(
            fs.existsSync(temporary),
            false,
            "the cleaner was first",
          );
        }, dir.path),
        () => write(path, "whole"),
      );
      assert.notEqual(seen, "");
      assert.equal(read(path), "whole");
      assert.deepEqual(leftovers(dir.path), []);
      assert.equal(openDescriptors(dir.path), 0);
    },
    "unlinking open files",
  );

  test(`${way}: a writer whose file a cleaner has locked takes another`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    let cleaner: PlatformFile | undefined;
    await withPatchedFiles(
      beforeLock((temporary) => {
        cleaner = platform().openSync(temporary, EXISTING, 0);
        assert.ok(cleaner.tryLock(true));
      }, dir.path),
      () => write(path, "whole"),
    );
    // Only now comes the cleaner to remove what it has locked.
    assert.equal(read(path), "whole");
    assert.equal(cleaner!.statSync().size, 0, "not what was published");
    cleaner!.closeSync();
    assert.deepEqual(leftovers(dir.path), []);
  });
}

test(
  "a cleaner leaves the file that took the name of the one it has locked",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, STALE);
    fs.writeFileSync(path, "stale");
    await withPatchedFiles(
      beforeLock(() => {
        fs.writeFileSync(join(dir.path, "new"), "new");
        fs.renameSync(join(dir.path, "new"), path);
      }, dir.path),
      () => writeAtomic(join(dir.path, "a"), ""),
    );
    assert.equal(read(path), "new");
    await writeAtomic(join(dir.path, "b"), "");
    assert.deepEqual(leftovers(dir.path), []);
  },
  "unlinking open files",
);

/** Runs a body in which cleaners open what they find in this way. */
function opening(
  change: (open: () => PlatformFile, mode: OpenMode) => PlatformFile,
  body: () => Promise<void>,
): Promise<void> {
  return withPatchedPlatform((real) => {
    const openSync: Platform["openSync"] = (path, mode, creationMode) => {
      const open = () => real.openSync(path, mode, creationMode);
      return mode.create ? open() : change(open, mode);
    };
    return { openSync, open: openSync };
  }, body);
}

test(
  "a cleaner never opens what a symbolic link names",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, STALE);
    for (const [way, write] of WAYS) {
      fs.writeFileSync(path, "stale");
      let refused = "";
      await opening((open) => {
        fs.rmSync(path);
        fs.symlinkSync("a", path);
        try {
          return open();
        } catch (error) {
          refused = (error as { code: string }).code;
          throw error;
        }
      }, () => write(join(dir.path, "a"), "", REPLACE));
      assert.equal(refused, "ELOOP", way);
      assert.ok(fs.lstatSync(path).isSymbolicLink());
      fs.rmSync(path);
    }
  },
  "file descriptors",
  "symbolic links",
);

test("a cleaner removes what it may read but not write", async () => {
  using dir = tempDir();
  const path = join(dir.path, STALE);
  for (const [way, write] of WAYS) {
    fs.writeFileSync(path, "stale");
    await opening((open, mode) => {
      if (mode.write) throw systemError("EACCES", 13);
      return open();
    }, () => write(join(dir.path, "a"), "", REPLACE));
    assert.deepEqual(leftovers(dir.path), [], way);
  }
});

test("a cleaner keeps the lock until the file is removed", async () => {
  using dir = tempDir();
  const path = join(dir.path, STALE);
  fs.writeFileSync(path, "stale");
  const there: boolean[] = [];
  await withPatchedFiles((file) => ({
    unlock() {
      there.push(fs.existsSync(path));
      file.unlock();
    },
  }), () => writeAtomic(join(dir.path, "a"), ""));
  assert.deepEqual(there, [false, false], "the cleaner's and the writer's");
}, "unlinking open files");

test("a writer keeps the lock until its temporary name is gone", async () => {
  using dir = tempDir();
  for (const [way, write] of WAYS) {
    for (const options of [{}, REPLACE]) {
      const left: number[] = [];
      await withPatchedFiles((file) => ({
        unlock() {
          left.push(leftovers(dir.path).length);
          file.unlock();
        },
      }), async () => {
        await write(join(dir.path, "a"), "x", options);
        await (await openAtomic(join(dir.path, "b"))).discard();
      });
      assert.deepEqual(left, [0, 0], way);
      fs.rmSync(join(dir.path, "a"));
    }
  }
}, "unlinking open files");

test("without locks atomic writing works and cleans nothing", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  fs.writeFileSync(join(dir.path, STALE), "stale");
  for (const code of ["ENOSYS", "EOPNOTSUPP", "ENOTSUP", "ENOLCK"]) {
    const refuse = () => {
      throw systemError(code, 95);
    };
    await withPatchedFiles(
      () => ({ tryLock: refuse, unlock: refuse }),
      async () => {
        for (const [way, write] of WAYS) {
          await write(path, way, REPLACE);
          assert.equal(read(path), way);
          assert.deepEqual(leftovers(dir.path), [STALE]);
        }
        await (await openAtomic(path, REPLACE)).discard();
      },
    );
    assert.equal(openDescriptors(dir.path), 0);
  }
});

test("a lock that fails for another reason is thrown and leaves nothing", async () => {
  using dir = tempDir();
  const refuse = () => {
    throw systemError("EIO", 5);
  };
  await withPatchedFiles(() => ({ tryLock: refuse }), async () => {
    for (const [, write] of WAYS) {
      await assert.rejects(write(join(dir.path, "a"), ""), { code: "EIO" });
    }
  });
  assert.deepEqual(fs.readdirSync(dir.path), []);
  assert.equal(openDescriptors(dir.path), 0);
});

test("somebody who locks every file that appears is reported, not waited for", async () => {
  using dir = tempDir();
  await withPatchedFiles(() => ({ tryLock: () => false }), async () => {
    for (const [, write] of WAYS) {
      await assert.rejects(write(join(dir.path, "a"), ""), {
        name: "LockException",
        code: "EWOULDBLOCK",
      });
    }
  });
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

/**
 * Each suite kills processes of its own runtime, 500 in all: two of Deno, one
 * of Bun and two of Node, whose processes start more slowly. While one of them
 * is being killed the next one starts.
 */
const KILLS = { deno: 120, bun: 140, node: 60 }[currentRuntime.name]!;

test("a process that is killed while it writes or updates leaves the file whole, old or new", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  let next = writer(path);
  for (let kill = 0; kill < KILLS; kill++) {
    const victim = next;
    await victim.writing;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 15));
    if (kill + 1 < KILLS) next = writer(path);
    victim.child.kill("SIGKILL");
    await victim.closed;
    for (const name of fs.readdirSync(dir.path)) {
      if (name.startsWith(".")) continue;
      // Those of the next one come and go.
      const its = name.includes(`.${victim.child.pid}.`);
      if (its || name === "a" || name === "a.updated") {
        assert.ok(isWhole(read(join(dir.path, name))), name);
      }
    }
  }
  await writeAtomic(join(dir.path, "survivor"), "");
  assert.deepEqual(leftovers(dir.path), []);
});

/** A process that writes without end. */
function writer(path: string) {
  const [program, ...args] = currentFixtureCommand("atomic_writer");
  const child = spawn(program, [...args, "endless", path]);
  return {
    child,
    writing: once(child.stdout, "data"),
    closed: once(child, "close"),
  };
}
