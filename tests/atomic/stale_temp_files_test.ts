import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import { platform } from "../../ffi/mod.ts";
import type { OpenMode, Platform, PlatformFile } from "../../ffi/types.ts";
import { Lock, openAtomic, writeAtomic, writeAtomicSync } from "../../mod.ts";
import { isWhole } from "../fixtures/checksummed_content.ts";
import { leftovers, staleName, WAYS } from "../fixtures/atomic_writes.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { currentRuntime, runtimes } from "../support/env.ts";
import { bindMount } from "../support/fuse.ts";
import {
  systemError,
  withPatchedFiles,
  withPatchedPlatform,
} from "../support/platform.ts";
import {
  currentFixtureCommand,
  LockProcess,
  runScript,
} from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

const REPLACE = { replace: true } as const;
const ID = "an id of this machine";
const read = (path: string) => fs.readFileSync(path, "utf8");
const EXISTING = {
  read: true,
  write: true,
  append: false,
  create: false,
  exclusive: false,
};

for (const runtime of runtimes) {
  test(
    `cleaning removes the temporary file of a dead writer, not of a live one, on ${runtime.name}`,
    async () => {
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
    },
    ID,
  );
}

test(
  "cleaning removes only temporary files of this package",
  async () => {
    using dir = tempDir();
    const at = (name: string) => join(dir.path, name);
    const stale = await staleName(dir.path);
    const ours = stale.slice(0, -"01234567.tmp".length);
    const names = [
      `${ours}abcdef01.kept`,
      `${ours}ABCDEF01.tmp`,
      `${ours}abcdef01.tmp~`,
      `${ours}abcdef0.tmp`,
      `${ours.slice(1)}abcdef01.tmp`,
      ".portalock.0123456789abcdef.tmp",
    ];
    for (const name of names) fs.writeFileSync(at(name), "");
    const odd = (digit: number) => `${ours}${`${digit}`.repeat(8)}.tmp`;
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
  ID,
);

test(
  "cleaning removes the second link that a crash left on a published file",
  async () => {
    using dir = tempDir();
    const stale = await staleName(dir.path);
    const path = join(dir.path, "a");
    const other = join(dir.path, "b");
    fs.writeFileSync(path, "published");
    fs.linkSync(path, join(dir.path, stale));
    {
      using _file = new Lock(path, { mode: "r+" }).acquireSync();
      await writeAtomic(other, "", REPLACE);
      assert.deepEqual(leftovers(dir.path), [stale], "the file is locked");
    }
    await writeAtomic(other, "", REPLACE);
    assert.deepEqual(leftovers(dir.path), []);
    assert.equal(read(path), "published");
  },
  ID,
);

/** Runs an action before the first attempt to lock a file. */
function beforeLock(action: (path: string) => void, dir: string) {
  let done = false;
  return (file: PlatformFile): Partial<PlatformFile> => ({
    tryLock(exclusive) {
      if (!done) {
        done = true;
        action(join(dir, at(leftovers(dir), 0)));
      }
      return file.tryLock(exclusive);
    },
  });
}

for (const [way, write] of WAYS) {
  test(
    `${way}: a writer creates another file if its file is removed before it is locked`,
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
    ID,
  );

  test(`${way}: a writer creates another file if a cleaner has locked its file`, async () => {
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
    // The cleaner has locked the file, but not removed it yet.
    assert.equal(read(path), "whole");
    assert.equal(
      cleaner!.statSync().size,
      0,
      "the locked file is not the published one",
    );
    cleaner!.closeSync();
    assert.deepEqual(leftovers(dir.path), []);
  });
}

test(
  "a cleaner does not remove a file that replaced the one it has locked",
  async () => {
    using dir = tempDir();
    const stale = await staleName(dir.path);
    const path = join(dir.path, stale);
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
  ID,
);

/** Runs a body with a patched function that opens existing files. */
function withPatchedOpen(
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
  "a cleaner never opens the target of a symbolic link",
  async () => {
    using dir = tempDir();
    const stale = await staleName(dir.path);
    const path = join(dir.path, stale);
    for (const [way, write] of WAYS) {
      fs.writeFileSync(path, "stale");
      let code = "";
      await withPatchedOpen((open) => {
        fs.rmSync(path);
        fs.symlinkSync("a", path);
        try {
          return open();
        } catch (error) {
          code = (error as { code: string }).code;
          throw error;
        }
      }, () => write(join(dir.path, "a"), "", REPLACE));
      assert.equal(code, "ELOOP", way);
      assert.ok(fs.lstatSync(path).isSymbolicLink());
      fs.rmSync(path);
    }
  },
  "file descriptors",
  "symbolic links",
);

test(
  "a cleaner does not remove the file of a living writer that it sees through another mount",
  async () => {
    using source = tempDir();
    using first = bindMount(source.path);
    using second = bindMount(source.path);
    const mounts = [first.path, second.path, source.path];
    for (const mount of mounts) {
      await using file = await openAtomic(join(mount, "a"), REPLACE);
      await file.writeText(mount);
      for (const other of mounts) {
        for (const [, write] of WAYS) {
          await write(join(other, "b"), "", REPLACE);
        }
      }
      await file.commit();
      assert.equal(read(join(source.path, "a")), mount);
    }
    assert.deepEqual(leftovers(source.path), []);
  },
  "bindfs(1) and FUSE",
);

for (const id of ["another machine", null]) {
  const which = id ?? "a machine without an id";
  test(
    `a cleaner on ${which} leaves our files, and we leave its files`,
    async () => {
      using dir = tempDir();
      const written = join(dir.path, "a");
      const ours = await staleName(dir.path);
      fs.writeFileSync(join(dir.path, ours), "");
      const other = { machineId: () => id };
      await withPatchedPlatform(() => other, async () => {
        const theirs = await staleName(dir.path);
        fs.writeFileSync(join(dir.path, theirs), "");
        const left = () => leftovers(dir.path).length;
        for (const [, write] of WAYS) await write(written, "", REPLACE);
        assert.equal(left(), id === null ? 2 : 1, "it removes its own");
        fs.writeFileSync(join(dir.path, theirs), "");
      });
      assert.ok(leftovers(dir.path).includes(ours));
      await writeAtomic(written, "", REPLACE);
      assert.equal(leftovers(dir.path).length, 1);
      assert.ok(!leftovers(dir.path).includes(ours));
    },
    ID,
  );
}

test("a cleaner does not remove a file whose writer could not lock it for a moment", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  const fail = () => {
    throw systemError("ENOLCK", 37);
  };
  const file = await withPatchedFiles(
    () => ({ tryLock: fail }),
    () => openAtomic(path),
  );
  await file.writeText("whole");
  for (const [, write] of WAYS) await write(join(dir.path, "b"), "", REPLACE);
  await file.commit();
  assert.equal(read(path), "whole");
  assert.deepEqual(leftovers(dir.path), []);
});

test(
  "a cleaner in another container removes the file of a dead writer, not of a living one",
  async () => {
    using dir = tempDir();
    const container = [
      "unshare",
      "--user",
      "--map-root-user",
      "--mount",
      "--pid",
    ];
    const command = currentFixtureCommand("atomic_writer");
    const clean = async () => {
      const { code, stderr } = await runScript([
        ...container,
        "--fork",
        ...command,
        ...["once", join(dir.path, "b"), JSON.stringify(REPLACE)],
      ]);
      assert.equal(code, 0, stderr);
    };
    const stale = await staleName(dir.path);
    fs.writeFileSync(join(dir.path, stale), "");
    await using file = await openAtomic(join(dir.path, "a"));
    await file.writeText("whole");
    assert.equal(leftovers(dir.path).length, 1);
    fs.writeFileSync(join(dir.path, stale), "");
    await clean();
    assert.equal(leftovers(dir.path).length, 1);
    assert.ok(!fs.existsSync(join(dir.path, stale)));
    await file.commit();
  },
  "user namespaces",
  ID,
);

test("a cleaner removes a file that it may read but not write", async () => {
  using dir = tempDir();
  const stale = await staleName(dir.path);
  const path = join(dir.path, stale);
  for (const [way, write] of WAYS) {
    fs.writeFileSync(path, "stale");
    await withPatchedOpen((open, mode) => {
      if (mode.write) throw systemError("EACCES", 13);
      return open();
    }, () => write(join(dir.path, "a"), "", REPLACE));
    assert.deepEqual(leftovers(dir.path), [], way);
  }
}, ID);

test(
  "a cleaner keeps the lock until the file is removed",
  async () => {
    using dir = tempDir();
    const stale = await staleName(dir.path);
    const path = join(dir.path, stale);
    fs.writeFileSync(path, "stale");
    const existed: boolean[] = [];
    await withPatchedFiles((file) => ({
      unlock() {
        existed.push(fs.existsSync(path));
        file.unlock();
      },
    }), () => writeAtomic(join(dir.path, "a"), ""));
    assert.deepEqual(
      existed,
      [false, false],
      "for the cleaner and for the writer",
    );
  },
  "unlinking open files",
  ID,
);

test("a writer locks its temporary file until it is removed", async () => {
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

test("atomic writing works and cleans nothing if the file system does not support locks", async () => {
  using dir = tempDir();
  const stale = await staleName(dir.path);
  const path = join(dir.path, "a");
  fs.writeFileSync(join(dir.path, stale), "stale");
  for (const code of ["ENOSYS", "EOPNOTSUPP", "ENOTSUP", "ENOLCK"]) {
    const fail = () => {
      throw systemError(code, 95);
    };
    await withPatchedFiles(
      () => ({ tryLock: fail, unlock: fail }),
      async () => {
        for (const [way, write] of WAYS) {
          await write(path, way, REPLACE);
          assert.equal(read(path), way);
          assert.deepEqual(leftovers(dir.path), [stale]);
        }
        await (await openAtomic(path, REPLACE)).discard();
      },
    );
    assert.equal(openDescriptors(dir.path), 0);
  }
});

test("atomic writing throws any other lock error and leaves nothing", async () => {
  using dir = tempDir();
  const fail = () => {
    throw systemError("EIO", 5);
  };
  await withPatchedFiles(() => ({ tryLock: fail }), async () => {
    for (const [, write] of WAYS) {
      await assert.rejects(write(join(dir.path, "a"), ""), { code: "EIO" });
    }
  });
  assert.deepEqual(fs.readdirSync(dir.path), []);
  assert.equal(openDescriptors(dir.path), 0);
});

test("atomic writing rejects if another process locks every new file", async () => {
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
 * How many processes to kill. Processes of Node start more slowly. The next
 * process starts while one is being killed.
 */
const KILLS = { deno: 120, bun: 140, node: 60 }[currentRuntime.name]!;

/** When to stop killing on a machine that is too busy for all, in milliseconds. */
const MAX_KILLING_MS = 60_000;

test(
  "a process that is killed while it writes or updates leaves the whole old or new file",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const end = performance.now() + MAX_KILLING_MS;
    let next: ReturnType<typeof startWriter> | undefined = startWriter(path);
    for (let kill = 1; next !== undefined; kill++) {
      const victim = next;
      await victim.writing;
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 15));
      const isLast = kill >= KILLS || performance.now() > end;
      next = isLast ? undefined : startWriter(path);
      victim.child.kill("SIGKILL");
      await victim.closed;
      for (const name of fs.readdirSync(dir.path)) {
        if (name.startsWith(".")) continue;
        // The next process creates and removes files of its own.
        const ofVictim = name.includes(`.${victim.child.pid}.`);
        if (ofVictim || name === "a" || name === "a.updated") {
          assert.ok(isWhole(read(join(dir.path, name))), name);
        }
      }
    }
    await writeAtomic(join(dir.path, "survivor"), "");
    assert.deepEqual(leftovers(dir.path), []);
  },
  ID,
);

/** Starts a process that writes until it is killed. */
function startWriter(path: string) {
  const command = currentFixtureCommand("atomic_writer");
  const args = [...command.slice(1), "endless", path];
  const child = spawn(at(command, 0), args);
  return {
    child,
    writing: once(child.stdout, "data"),
    closed: once(child, "close"),
  };
}
