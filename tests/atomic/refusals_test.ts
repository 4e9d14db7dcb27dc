import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { platform } from "../../ffi/mod.ts";
import { leftovers, WAYS } from "../fixtures/atomic_writes.ts";
import { runAtomicWriter } from "../support/atomic_writer.ts";
import { injecting } from "../support/strace.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const REPLACE = { replace: true } as const;
const bits = (path: string) => fs.statSync(path).mode & 0o7777;
const read = (path: string) => fs.readFileSync(path, "utf8");

/** Runs a command with the umask 022, under strace(1) that injects faults. */
const inject = (fault: string) => [
  ...["sh", "-c", 'umask 022; exec "$@"', "sh"],
  ...injecting(fault),
];

/** Mounts a directory by FUSE, which treats some calls in another way. */
function mountBindfs(...options: string[]): { path: string } & Disposable {
  const dir = tempDir();
  const source = join(dir.path, "source");
  const path = join(dir.path, "mounted");
  fs.mkdirSync(source);
  fs.mkdirSync(path);
  execFileSync("bindfs", [...options, source, path]);
  return {
    path,
    [Symbol.dispose]() {
      execFileSync("umount", [path]);
      dir[Symbol.dispose]();
    },
  };
}

test(
  "a refused chmod(2) does not fail a write whose new file has the bits or fewer",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const cases: [before: number, after: number, hidden?: number][] = [
      [0o600, 0o600],
      [0o644, 0o644],
      [0o755, 0o755],
      [0o400, 0o400],
      [0o640, 0o640, 0o600],
      // The umask prevents it.
      [0o664, 0o644],
      [0o4755, 0o755],
    ];
    for (const code of ["EPERM", "ENOSYS"]) {
      const under = inject(`chmod,fchmod,fchmodat,?fchmodat2:error=${code}`);
      for (const [before, after, hidden = after] of cases) {
        fs.writeFileSync(path, "old");
        fs.chmodSync(path, before);
        assert.equal(
          await runAtomicWriter("once", path, REPLACE, under),
          "written",
          code,
        );
        assert.equal(read(path), "new");
        const expected = platform().hidesAccessLists ? hidden : after;
        assert.equal(bits(path), expected, before.toString(8));
        assert.deepEqual(leftovers(dir.path), []);
        fs.rmSync(path);
      }
    }
  },
  "strace(1)",
  "permission bits",
);

test(
  "atomic writing works where chmod(2), chown(2) and attributes are refused",
  async () => {
    const refusing = ["--chmod-deny", "--chown-deny", "--chgrp-deny"];
    using disk = mountBindfs(...refusing, "--xattr-none");
    for (const mode of [0o600, 0o644, 0o444]) {
      for (const [way, write] of WAYS) {
        const path = join(disk.path, way);
        const source = join(disk.path, "../source", way);
        fs.writeFileSync(source, "old", { mode });
        await write(path, "new", REPLACE);
        assert.equal(read(path), "new");
        assert.equal(bits(path), mode, way);
        fs.rmSync(path);
      }
    }
    assert.deepEqual(leftovers(disk.path), []);
  },
  "bindfs(1) and FUSE",
  "root",
);

test(
  "atomic writing rejects if the file system gives other users access that chmod(2) cannot remove",
  async () => {
    for (const option of ["--chmod-deny", "--chmod-ignore"]) {
      using disk = mountBindfs(option, "--create-with-perms=go+rw");
      const [path, other] = [join(disk.path, "a"), join(disk.path, "b")];
      fs.writeFileSync(other, "old");
      fs.writeFileSync(join(disk.path, "../source/a"), "old", { mode: 0o600 });
      for (const [way, write] of WAYS) {
        await assert.rejects(
          write(path, "new", REPLACE),
          { code: "EPERM" },
          way,
        );
        assert.equal(read(path), "old");
        assert.equal(bits(path), 0o600);
        await write(other, "new", REPLACE);
        assert.equal(bits(other), 0o666, "other users already have access");
      }
      assert.deepEqual(leftovers(disk.path), []);
    }
  },
  "bindfs(1) and FUSE",
  "root",
);

test(
  "a file system that ignores chown(2) does not give another group access",
  async () => {
    using disk = mountBindfs("--chown-ignore", "--chgrp-ignore");
    const source = join(disk.path, "../source/a");
    for (const [way, write] of WAYS) {
      fs.writeFileSync(source, "old");
      fs.chownSync(source, 1234, 2345);
      fs.chmodSync(source, 0o660);
      await write(join(disk.path, "a"), "new", REPLACE);
      assert.equal(read(source), "new");
      assert.equal(fs.statSync(source).gid, 0, "the call was ignored");
      assert.equal(bits(source), 0o600, way);
      fs.rmSync(source);
    }
  },
  "bindfs(1) and FUSE",
  "root",
);

test(
  "a failed fsync(2) of the content always matters",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    fs.writeFileSync(path, "old");
    for (const code of ["EIO", "EINVAL", "EPERM"]) {
      const under = inject(`fsync:error=${code}:when=1`);
      assert.equal(
        await runAtomicWriter("once", path, REPLACE, under),
        code,
      );
      assert.equal(read(path), "old");
    }
    assert.deepEqual(leftovers(dir.path), []);
  },
  "strace(1)",
  "sh(1)",
);
