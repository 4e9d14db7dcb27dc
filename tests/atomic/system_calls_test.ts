import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join, relative } from "node:path";
import { writeAtomic } from "../../mod.ts";
import { platform } from "../../ffi/mod.ts";
import type { AtomicOptions } from "../../mod.ts";
import { leftovers, staleName, WAYS } from "../fixtures/atomic_writes.ts";
import { runAtomicWriter as runWriter } from "../support/atomic_writer.ts";
import { injecting, tracing } from "../support/strace.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

const REPLACE = { replace: true } as const;
const WRITTEN = WAYS.map(() => "written");
const read = (path: string) => fs.readFileSync(path, "utf8");

for (const what of ["once", "onceSync"]) {
  for (const durable of [true, false]) {
    for (const replace of [true, false]) {
      const name = `${what === "once" ? "writeAtomic" : "writeAtomicSync"}() ${
        replace ? "replaces" : "creates"
      } a file ${
        durable ? "that survives a system crash" : "without fsync(2)"
      }`;

      test(name, async () => {
        using dir = tempDir();
        const path = join(dir.path, "a");
        if (replace) fs.writeFileSync(path, "old");
        const publish = replace ? "rename" : "link";
        assert.deepEqual(
          await tracedCalls(what, dir.path, path, { durable, replace }),
          durable ? ["fsync *.tmp", publish, "fsync ."] : [publish],
        );
      }, "strace(1)");
    }
  }

  test(
    `created directories survive a system crash, ${what}`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "x", "y", "a");
      assert.deepEqual(
        await tracedCalls(what, dir.path, path, {}),
        ["fsync .", "fsync x", "fsync *.tmp", "link", "fsync x/y"],
      );
    },
    "strace(1)",
  );
}

test("content that is kept aside survives a system crash", async () => {
  using dir = tempDir();
  assert.deepEqual(
    await tracedCalls("appears", dir.path, join(dir.path, "a"), {}),
    ["fsync *.tmp", "link", "rename", "fsync ."],
  );
}, "strace(1)");

test("permission bits and owner are changed by file descriptor", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  const log = join(dir.path, "log");
  fs.writeFileSync(path, "old");
  fs.chownSync(path, 1234, 2345);
  fs.chmodSync(path, 0o640);
  const strace = tracing(log, "/^(f|l)?ch(mod|own)(at2?)?$");
  assert.deepEqual(await runWriter("ways", path, REPLACE, strace), WRITTEN);
  const calls = [...read(log).matchAll(/\w+(?=\()/g)].map(([call]) => call);
  assert.deepEqual([...new Set(calls)].sort(), ["fchmod", "fchown"]);
}, ...["root", "strace(1)", "file descriptors"] as const);

/** Returns the traced system calls below a directory, with the synced names. */
async function tracedCalls(
  what: string,
  directory: string,
  path: string,
  options: AtomicOptions,
): Promise<string[]> {
  const log = join(directory, "log");
  const calls = "fsync,fdatasync,link,linkat,rename,renameat,renameat2";
  const under = [...tracing(log, calls), "-y"];
  const outcome = await runWriter(what, path, options, under);
  assert.equal(outcome, what === "appears" ? "EEXIST" : "written");
  return read(log).split("\n").flatMap((line) => {
    const [, call, rest] = /(fsync|link|rename)\w*\((.*)/.exec(line) ?? [];
    if (!call || !rest?.includes(directory)) return [];
    if (call !== "fsync") return [call];
    const [, synced = ""] = /<(.*?)>/.exec(rest) ?? [];
    const name = relative(directory, synced);
    return [`fsync ${name.replace(/.*(?=\.tmp$)/, "*") || "."}`];
  });
}

test(
  "fsync(2) of a directory may be unsupported, but any other failure is thrown",
  async () => {
    using dir = tempDir();
    for (const what of ["once", "onceSync"]) {
      for (const code of ["EINVAL", "EPERM", "EACCES", "EBADF", "EISDIR"]) {
        const path = join(dir.path, `${what} ${code}`);
        const under = [...injecting(`fsync:error=${code}`), "-P", dir.path];
        assert.equal(await runWriter(what, path, {}, under), "written", code);
        assert.equal(read(path), "new");
      }
      for (const code of ["EIO", "ENOSPC"]) {
        const path = join(dir.path, `${what} ${code}`);
        const under = [...injecting(`fsync:error=${code}`), "-P", dir.path];
        assert.equal(await runWriter(what, path, {}, under), code);
        assert.equal(read(path), "new", "the file is published");
      }
    }
    assert.deepEqual(leftovers(dir.path), []);
  },
  "strace(1)",
);

test(
  "atomic writing checks the path and renames if hard links are not supported",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    for (const code of ["EPERM", "EOPNOTSUPP", "ENOSYS", "EMLINK"]) {
      const under = injecting(`link,linkat:error=${code}`);
      assert.deepEqual(await runWriter("ways", path, {}, under), WRITTEN, code);
      assert.deepEqual(leftovers(dir.path), []);
      assert.equal(await runWriter("appears", path, {}, under), "EEXIST");
      assert.equal(read(path), "theirs");
      const kept = at(leftovers(dir.path), 0);
      assert.equal(read(join(dir.path, kept)), "mine");
      fs.rmSync(path);
      fs.rmSync(join(dir.path, kept));
    }
  },
  "strace(1)",
);

test(
  "a failed link(2) or rename(2) leaves the old file and nothing else",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const link = injecting("link,linkat:error=EIO");
    assert.deepEqual(
      await runWriter("ways", path, {}, link),
      WAYS.map(() => "EIO"),
    );
    assert.deepEqual(fs.readdirSync(dir.path), []);
    fs.writeFileSync(path, "old");
    const rename = injecting("rename,renameat,renameat2:error=EBUSY");
    assert.deepEqual(
      await runWriter("ways", path, REPLACE, rename),
      WAYS.map(() => "EBUSY"),
    );
    assert.deepEqual(fs.readdirSync(dir.path), ["a"]);
    assert.equal(read(path), "old");
  },
  "strace(1)",
);

test(
  "a process that may not change the owner clears the permissions of other owners",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const cases: [groups: string, gid: number, mode: number, after: number][] =
      [
        ["--clear-groups", 2345, 0o744, 0],
        ["--clear-groups", 0, 0o754, 0],
        ["--groups=2345", 2345, 0o754, 2345],
      ];
    for (const what of ["once", "onceSync"]) {
      for (const [groups, gid, mode, gidAfter] of cases) {
        fs.writeFileSync(path, "old");
        fs.chownSync(path, 1234, gid);
        fs.chmodSync(path, 0o6754);
        const under = ["setpriv", "--bounding-set=-chown", groups];
        assert.equal(await runWriter(what, path, REPLACE, under), "written");
        const after = fs.statSync(path);
        // Without FFI, the group keeps only what others may do.
        const expected = platform().hidesAccessLists ? 0o744 : mode;
        assert.equal(after.mode & 0o7777, expected, `${groups} ${gid}`);
        assert.deepEqual([after.uid, after.gid], [0, gidAfter]);
        fs.rmSync(path);
      }
    }
  },
  "root",
  "setpriv(1)",
  "permission bits",
);

test(
  "a new file has the permission bits of creationMode less the umask, which stays unchanged",
  async () => {
    using dir = tempDir();
    const under = (umask: string, ...command: string[]) => [
      ...["sh", "-c", `umask ${umask}; exec "$@"`, "sh"],
      ...command,
    ];
    const cases: [umask: string, options: AtomicOptions, mode: number][] = [
      ["022", {}, 0o644],
      ["027", { replace: true }, 0o640],
      ["007", { creationMode: 0o777 }, 0o770],
      ["077", { creationMode: 0o444 }, 0o400],
    ];
    for (const what of ["once", "onceSync"]) {
      for (const [umask, options, mode] of cases) {
        const path = join(dir.path, what + umask);
        assert.equal(
          await runWriter(what, path, options, under(umask)),
          "written",
        );
        assert.equal(fs.statSync(path).mode & 0o7777, mode, umask);
      }
    }
    const log = join(dir.path, "log");
    const traced = join(dir.path, "traced");
    await runWriter("ways", traced, {}, tracing(log, "umask"));
    assert.doesNotMatch(read(log), /umask\(/);
  },
  "strace(1)",
  "permission bits",
  "sh(1)",
);

test(
  "writeAtomic() leaves the event loop free while the disk works",
  async () => {
    using dir = tempDir();
    const slow = injecting("fsync:delay_enter=500000");
    const ticks = await runWriter("ticks", join(dir.path, "a"), {}, slow);
    // Two calls of 500 ms leave time for 100 ticks.
    assert.ok(ticks as number > 20, `${ticks} ticks`);
  },
  "strace(1)",
);

test(
  "a failed cleaning does not prevent a write",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const stale = await staleName(dir.path);
    fs.writeFileSync(join(dir.path, stale), "stale");
    const faults = [
      [...injecting("getdents64:error=EACCES"), "-P", dir.path],
      [...injecting("openat:error=EACCES"), "-P", join(dir.path, stale)],
      [
        ...injecting("unlink,unlinkat:error=EPERM"),
        "-P",
        join(dir.path, stale),
      ],
      injecting("flock:error=EOPNOTSUPP"),
    ];
    for (const under of faults) {
      assert.deepEqual(
        await runWriter("ways", path, REPLACE, under),
        WRITTEN,
        under.join(" "),
      );
      assert.deepEqual(leftovers(dir.path), [stale], under.join(" "));
    }
    await writeAtomic(path, "", REPLACE);
    assert.deepEqual(leftovers(dir.path), []);
  },
  "strace(1)",
  "an id of this machine",
);

test(
  "atomic writing rejects with EMFILE and leaves nothing",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const limit = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"];
    type Outcome = [string, boolean];
    const outcomes = await runWriter(
      "descriptors",
      path,
      {},
      limit,
    ) as Outcome[];
    for (const [outcome, published] of outcomes) {
      assert.equal(outcome, published ? "written" : "EMFILE");
    }
    const written = outcomes.filter(([outcome]) => outcome === "written");
    assert.equal(written.length, WAYS.length);
    assert.ok(outcomes.length > written.length);
    assert.deepEqual(fs.readdirSync(dir.path), []);
  },
  "sh(1)",
);

/** Mounts a tmpfs of its own. */
function mountTmpfs(options: string): { path: string } & Disposable {
  const dir = tempDir();
  execFileSync("mount", ["-t", "tmpfs", "-o", options, "none", dir.path]);
  return {
    path: dir.path,
    [Symbol.dispose]() {
      execFileSync("umount", [dir.path]);
      dir[Symbol.dispose]();
    },
  };
}

test("a full file system leaves the old file and nothing else", async () => {
  using disk = mountTmpfs("size=64k");
  const path = join(disk.path, "a");
  fs.writeFileSync(path, "old");
  const data = new Uint8Array(1 << 20);
  for (const [way, write] of WAYS) {
    await assert.rejects(write(path, data, REPLACE), { code: "ENOSPC" }, way);
    assert.deepEqual(fs.readdirSync(disk.path), ["a"]);
    assert.equal(read(path), "old");
    await write(path, "old", REPLACE);
  }
}, "root that can mount");

test("atomic writing rejects with EROFS on a read-only disk", async () => {
  using disk = mountTmpfs("size=64k");
  const path = join(disk.path, "a");
  fs.writeFileSync(path, "old");
  fs.writeFileSync(join(disk.path, await staleName(disk.path)), "stale");
  execFileSync("mount", ["-o", "remount,ro", disk.path]);
  for (const [, write] of WAYS) {
    await assert.rejects(write(path, "new", REPLACE), { code: "EROFS" });
    await assert.rejects(write(path, "new"), { code: "EEXIST" });
    await assert.rejects(write(join(disk.path, "b", "c"), ""), {
      code: "EROFS",
    });
  }
  assert.equal(read(path), "old");
}, "root that can mount");
