import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { AlreadyLocked, Lock, LockException, updateFile } from "../../mod.ts";
import { platform } from "../../ffi/mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { findDestination } from "../../src/atomic/destination.ts";
import {
  createLockFile,
  lockFileOf,
  lockRights,
} from "../../src/atomic/lock_file.ts";
import { runSync } from "../../src/core/gensync.ts";
import { leftovers } from "../fixtures/atomic_writes.ts";
import { setAccessList } from "../support/access_lists.ts";
import { openDescriptors } from "../support/descriptors.ts";
import {
  systemError,
  withPatchedFiles,
  withPatchedPlatform,
} from "../support/platform.ts";
import { currentFixtureCommand, runScript } from "../support/processes.ts";
import { injecting } from "../support/strace.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const OWNER = 1234;
const GROUP = 2345;
const NOBODY = 65534;
const NAMED = 3456;
const read = (path: string) => fs.readFileSync(path, "utf8");
const increment = (text: string) => String(Number(text) + 1);

/** Returns the owner, the group and the permission bits of a file. */
function rightsOf(path: string): [uid: number, gid: number, mode: string] {
  const { uid, gid, mode } = fs.lstatSync(path);
  return [uid, gid, (mode & 0o7777).toString(8)];
}

/** Returns whether another user can lock a file, as flock(1) finds. */
function canLock(path: string, uid: number, gid: number = uid): boolean {
  const user = [`--reuid=${uid}`, `--regid=${gid}`, "--clear-groups"];
  const flock = ["flock", "--nonblock", path, "true"];
  return spawnSync("setpriv", [...user, ...flock]).status === 0;
}

/** Runs a body with the effective user id of another user. */
async function asUser(uid: number, body: () => Promise<void>): Promise<void> {
  process.seteuid!(uid);
  try {
    await body();
  } finally {
    process.seteuid!(0);
  }
}

/** Creates a directory and a file in it that have these rights. */
function create(
  parent: string,
  directory: [uid: number, gid: number, mode: number],
  file: [uid: number, gid: number, mode: number] | null,
): string {
  fs.chmodSync(parent, 0o755);
  const path = join(parent, "directory");
  fs.mkdirSync(path);
  setRights(path, directory);
  if (file === null) return join(path, "a");
  fs.writeFileSync(join(path, "a"), "1");
  setRights(join(path, "a"), file);
  return join(path, "a");
}

function setRights(
  path: string,
  [uid, gid, mode]: [uid: number, gid: number, mode: number],
): void {
  fs.chownSync(path, uid, gid);
  fs.chmodSync(path, mode);
}

test(
  "the lock file of a name of up to 250 bytes is named PATH.lock, and that of a longer one is shortened",
  async () => {
    using dir = tempDir();
    const names = [
      "n".repeat(250),
      "n".repeat(251),
      "n".repeat(255),
      "é".repeat(125),
      "é".repeat(126),
      "🔒".repeat(63),
      `${"n".repeat(232)}${"é".repeat(11)}`,
      `É${"N".repeat(252)}`,
    ];
    for (const name of names) {
      const path = join(dir.path, name);
      await updateFile(path, increment);
      await updateFile(path, increment);
      assert.equal(read(path), "2");
      const [lock = "", ...rest] = fs.readdirSync(dir.path)
        .filter((one) => one !== name);
      assert.deepEqual(rest, []);
      assert.equal(lock, basename(lockFileOf(path)));
      if (Buffer.byteLength(name) <= 250) assert.equal(lock, `${name}.lock`);
      else {
        const folded = name.toLowerCase().normalize("NFC");
        const hash = createHash("sha256").update(folded).digest("hex");
        const end = `.${hash.slice(0, 16)}.lock`;
        assert.ok(lock.endsWith(end), lock);
        const start = lock.slice(0, -end.length);
        assert.ok(folded.startsWith(start), lock);
        assert.doesNotMatch(start, /\p{Surrogate}/u);
        const length = Buffer.byteLength(lock);
        assert.ok(length > 251 && length <= 255, `${length}`);
      }
      fs.rmSync(join(dir.path, name));
      fs.rmSync(join(dir.path, lock));
    }
  },
  "POSIX error codes",
);

test("the name of a shortened lock file is the same in every version", () => {
  assert.equal(
    lockFileOf(`/d/${"N".repeat(251)}`),
    `/d/${"n".repeat(233)}.64091ef053a17b18.lock`,
  );
  const spellings = ["\u00e9", "e\u0301", "\u00c9", "E\u0301"];
  const locks = spellings.map((text) => lockFileOf(`/d/${text.repeat(130)}`));
  assert.equal(new Set(locks).size, 1);
});

test("users may lock a file if they may write it, or read and replace it", () => {
  type Rights = [uid: number, gid: number, mode: number];
  const table: [file: Rights, directory: Rights, lock: Rights][] = [
    // Only the owner may change the file.
    [[1, 2, 0o644], [1, 2, 0o755], [1, 2, 0o600]],
    [[1, 2, 0o600], [1, 2, 0o777], [1, 2, 0o600]],
    [[1, 2, 0o444], [1, 2, 0o755], [1, 2, 0o600]],
    [[1, 2, 0o4755], [1, 2, 0o2755], [1, 2, 0o600]],
    // Others may write it.
    [[1, 2, 0o664], [1, 2, 0o755], [1, 2, 0o660]],
    [[1, 2, 0o620], [1, 3, 0o775], [1, 2, 0o660]],
    [[1, 2, 0o666], [0, 0, 0o1777], [1, 2, 0o666]],
    // Others may replace it.
    [[1, 2, 0o644], [1, 2, 0o775], [1, 2, 0o660]],
    [[1, 2, 0o644], [1, 3, 0o2775], [1, 3, 0o660]],
    [[1, 2, 0o644], [1, 3, 0o777], [1, 3, 0o666]],
    // They may not read it, or not replace it in a sticky directory.
    [[1, 2, 0o640], [1, 3, 0o777], [1, 2, 0o600]],
    [[1, 2, 0o640], [1, 2, 0o770], [1, 2, 0o660]],
    [[1, 2, 0o604], [1, 2, 0o770], [1, 2, 0o600]],
    [[1, 2, 0o644], [0, 0, 0o1777], [1, 2, 0o600]],
    // Root needs no permission.
    [[0, 0, 0o644], [1, 2, 0o755], [1, 0, 0o600]],
    [[0, 0, 0o600], [1, 2, 0o755], [0, 0, 0o600]],
  ];
  const named = ([uid, gid, mode]: Rights) => ({ uid, gid, mode });
  for (const [file, directory, lock] of table) {
    assert.deepEqual(
      lockRights(named(file), named(directory)),
      named(lock),
      `${file} in ${directory}`,
    );
  }
});

test(
  "updateFile() by root leaves a lock file that its owner can lock, and other users cannot",
  async () => {
    using dir = tempDir();
    const rights = [OWNER, GROUP, 0o644] as [number, number, number];
    const path = create(dir.path, [OWNER, GROUP, 0o755], rights);
    const lock = `${path}.lock`;
    await updateFile(path, increment);
    assert.deepEqual(rightsOf(lock), [OWNER, GROUP, "600"]);
    assert.ok(canLock(lock, OWNER));
    assert.ok(!canLock(lock, NOBODY), "another user");
    assert.ok(!canLock(lock, NOBODY, GROUP), "the group may only read");
    await asUser(OWNER, () => updateFile(path, increment));
    assert.equal(read(path), "3");
    assert.deepEqual(fs.readdirSync(join(path, "..")).sort(), ["a", "a.lock"]);
  },
  "root",
  "setpriv(1)",
  "flock(1)",
  "permission bits",
);

test(
  "updateFile() by root of a new file leaves a lock file for the owner of the directory",
  async () => {
    using dir = tempDir();
    const path = create(dir.path, [OWNER, GROUP, 0o755], null);
    await updateFile(path, increment);
    assert.deepEqual(rightsOf(path), [
      0,
      0,
      (0o666 & ~process.umask()).toString(8),
    ]);
    await asUser(OWNER, () => updateFile(path, increment));
    assert.equal(read(path), "2");
  },
  "root",
  "permission bits",
);

test(
  "updateFile() with creationMode creates a lock file that only the writers of the file can lock",
  async () => {
    for (
      const options of [{ creationMode: 0o600 }, { creationMode: 0o644 }, {}]
    ) {
      using dir = tempDir();
      const path = create(dir.path, [OWNER, GROUP, 0o755], null);
      await asUser(OWNER, () => updateFile(path, increment, options));
      const { gid } = fs.statSync(path);
      assert.ok(canLock(`${path}.lock`, OWNER));
      assert.ok(!canLock(`${path}.lock`, NOBODY, gid), "the group");
      assert.ok(!canLock(`${path}.lock`, NOBODY));
    }
    using dir = tempDir();
    const rights = [OWNER, GROUP, 0o660] as [number, number, number];
    const path = create(dir.path, [0, 0, 0o755], rights);
    await updateFile(path, increment);
    // Deno without FFI does not know whether the bits are a mask.
    const known = !platform().hidesAccessLists;
    assert.equal(canLock(`${path}.lock`, NOBODY, GROUP), known, "the group");
    assert.ok(!canLock(`${path}.lock`, NOBODY));
  },
  "root",
  "setpriv(1)",
  "flock(1)",
  "permission bits",
);

test(
  "updateFile() locks a lock file that it may only read, and waits for its holder",
  async () => {
    using dir = tempDir();
    const rights = [OWNER, GROUP, 0o644] as [number, number, number];
    const path = create(dir.path, [OWNER, GROUP, 0o755], rights);
    const lock = `${path}.lock`;
    fs.writeFileSync(lock, "", { mode: 0o644 });
    await asUser(OWNER, async () => {
      await Promise.all(
        Array.from({ length: 20 }, () => updateFile(path, increment)),
      );
    });
    assert.equal(read(path), "21");
    assert.deepEqual(rightsOf(lock), [0, 0, "644"], "the file is unchanged");
    {
      using _held = new Lock(lock).acquireSync();
      await asUser(OWNER, async () => {
        const ended = updateFile(path, increment, { timeout: 0 });
        await assert.rejects(ended, AlreadyLocked);
      });
    }
    fs.chmodSync(lock, 0o600);
    await asUser(OWNER, async () => {
      const ended = updateFile(path, increment);
      await assert.rejects(ended, {
        name: "LockException",
        code: "EACCES",
        message: /^Cannot lock .*a\.lock"?: .*user 0.*; change its owner/,
      });
    });
    assert.equal(read(path), "21");
    assert.equal(openDescriptors(dir.path), 0);
  },
  "root",
  "permission bits",
);

test("updateFile() says what is wrong if a lock file that it may only read cannot be locked, as on NFS", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  fs.writeFileSync(path, "1");
  fs.writeFileSync(`${path}.lock`, "");
  await withPatchedPlatform((real) => {
    const openSync: typeof real.openSync = (name, mode, ...how) => {
      const isLock = name.endsWith(".lock");
      if (isLock && mode.write) throw systemError("EACCES", 13);
      const file = real.openSync(name, mode, ...how);
      return isLock ? onNfs(file) : file;
    };
    return { openSync, open: openSync };
  }, async () => {
    await assert.rejects(updateFile(path, increment), (error) => {
      assert.ok(error instanceof LockException);
      assert.equal(error.code, "EBADF");
      assert.equal(error.path, `${path}.lock`);
      assert.match(error.message, /may only read it, but .* write permission/);
      return true;
    });
  });
  assert.equal(read(path), "1");
});

/** Refuses an exclusive lock of a file that is open for reading. */
function onNfs(file: PlatformFile): PlatformFile {
  return new Proxy(file, {
    get(target, name) {
      if (name === "tryLock") {
        return () => {
          throw systemError("EBADF", 9);
        };
      }
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

test(
  "updateFile() does not create or change the target of a symbolic link at the path of its lock file",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const victim = join(dir.path, "victim");
    fs.symlinkSync("victim", `${path}.lock`);
    await assert.rejects(updateFile(path, increment), { code: "ENOENT" });
    assert.deepEqual(fs.readdirSync(dir.path), ["a.lock"]);
    fs.writeFileSync(victim, "secret", { mode: 0o640 });
    const before = rightsOf(victim);
    await updateFile(path, increment);
    assert.deepEqual(rightsOf(victim), before);
    assert.equal(read(victim), "secret");
  },
  "symbolic links",
);

test(
  "updateFile() creates its lock file also without hard links and if the owner cannot be changed",
  async () => {
    const faults = [
      "link,linkat:error=EPERM",
      "link,linkat:error=EOPNOTSUPP",
      "chown,fchown,lchown,fchownat:error=EPERM",
      "chmod,fchmod,fchmodat,?fchmodat2:error=EPERM",
    ];
    for (const fault of faults) {
      using dir = tempDir();
      const path = join(dir.path, "a");
      const { stdout, stderr } = await runScript([
        ...injecting(fault),
        ...currentFixtureCommand("atomic_writer"),
        ...["update", path],
      ]);
      assert.equal(JSON.parse(stdout), "written", stderr);
      assert.deepEqual(fs.readdirSync(dir.path).sort(), ["a", "a.lock"]);
      assert.deepEqual(leftovers(dir.path), []);
    }
  },
  "strace(1)",
);

test("updateFile() with an aborted signal rejects with its reason, whatever that is", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  for (const reason of [{ code: "ENOENT" }, { code: "EACCES" }, null, 0]) {
    const signal = AbortSignal.abort(reason);
    const ended = updateFile(path, increment, { signal });
    await assert.rejects(ended, (error) => error === reason);
  }
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

test("a new lock file is not locked when other processes can see it", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  const existed: boolean[] = [];
  await withPatchedFiles((file) => ({
    unlock() {
      existed.push(fs.existsSync(`${path}.lock`));
      file.unlock();
    },
  }), () => {
    const destination = runSync(findDestination(path, true));
    runSync(createLockFile(lockFileOf(path), destination, 0o600));
  });
  assert.equal(existed[0], false);
  assert.deepEqual(fs.readdirSync(dir.path), ["a.lock"]);
});

test(
  "the lock file of a file with an access list can be locked by the users who may write the file",
  async () => {
    using dir = tempDir();
    fs.chmodSync(dir.path, 0o755);
    const path = join(dir.path, "a");
    fs.writeFileSync(path, "1");
    fs.chownSync(path, OWNER, GROUP);
    const list = { owner: 6, group: 0, mask: 6, others: 0 };
    setAccessList(path, { ...list, user: [NAMED, 6] });
    await updateFile(path, increment);
    const lockFile = lockFileOf(path);
    assert.ok(canLock(lockFile, OWNER, OWNER));
    assert.ok(canLock(lockFile, NAMED, NAMED));
    // The permission bits of the group are those of the mask.
    assert.ok(!canLock(lockFile, NOBODY, GROUP));
    assert.ok(!canLock(lockFile, NOBODY, NOBODY));
    const other = join(dir.path, "b");
    fs.writeFileSync(other, "1");
    setAccessList(other, { ...list, user: [NAMED, 4], mask: 4 });
    await updateFile(other, increment);
    assert.ok(!canLock(lockFileOf(other), NAMED, NAMED));
  },
  "visible access lists",
  "root",
  "setpriv(1)",
);

test(
  "a new lock file does not inherit an access list from its directory",
  async () => {
    using dir = tempDir();
    fs.chmodSync(dir.path, 0o755);
    const path = join(dir.path, "a");
    fs.writeFileSync(path, "1");
    fs.chmodSync(path, 0o660);
    fs.chownSync(path, OWNER, GROUP);
    const list = { owner: 7, group: 7, mask: 7, others: 0 };
    setAccessList(dir.path, { ...list, user: [NAMED, 6] }, "default");
    await updateFile(path, increment);
    assert.ok(canLock(lockFileOf(path), NOBODY, GROUP));
    assert.ok(!canLock(lockFileOf(path), NAMED, NAMED));
  },
  "visible access lists",
  "root",
  "setpriv(1)",
);

test(
  "the mask of a directory's access list gives no group the right to lock a file in it",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    fs.writeFileSync(path, "1");
    fs.chownSync(path, OWNER, GROUP);
    fs.chownSync(dir.path, OWNER, GROUP);
    const list = { owner: 7, group: 5, mask: 7, others: 5 };
    setAccessList(dir.path, { ...list, user: [NAMED, 7] });
    await updateFile(path, increment);
    assert.deepEqual(rightsOf(lockFileOf(path)), [OWNER, GROUP, "600"]);
  },
  "visible access lists",
  "root",
);
