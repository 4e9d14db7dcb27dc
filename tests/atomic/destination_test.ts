import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import { lockAll, updateFile, writeAtomicSync } from "../../mod.ts";
import { WAYS } from "../fixtures/atomic_writes.ts";
import type { Write } from "../fixtures/atomic_writes.ts";
import { withProtectedSymlinks } from "../support/sysctl.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const REPLACE = { replace: true } as const;
const STRANGER = 65534;
const read = (path: string) => fs.readFileSync(path, "utf8");

const REPLACEMENTS: [string, Write][] = [
  ...WAYS,
  ["updateFile", (path, data) => updateFile(path, () => data as string)],
];

/** A sticky directory that all users may write to, and a private one. */
function openSticky() {
  const dir = tempDir();
  const at = (...names: string[]) => join(dir.path, ...names);
  fs.chmodSync(dir.path, 0o755);
  fs.mkdirSync(at("private"), { mode: 0o700 });
  fs.mkdirSync(at("sticky"));
  fs.chmodSync(at("sticky"), 0o1777);
  const link = (name: string, target: string, owner: number) => {
    fs.symlinkSync(target, at("sticky", name));
    fs.lchownSync(at("sticky", name), owner, owner);
    return at("sticky", name);
  };
  return { at, link, [Symbol.dispose]: () => dir[Symbol.dispose]() };
}

test(
  "replacing does not follow a link that another user planted in a sticky directory",
  async () => {
    using dir = openSticky();
    const victim = dir.at("private", "victim");
    fs.writeFileSync(victim, "secret");
    const planted = dir.link("planted", victim, STRANGER);
    const chain = dir.link("chain", "planted", 0);
    await withProtectedSymlinks(async () => {
      for (const path of [planted, chain]) {
        for (const [way, write] of REPLACEMENTS) {
          await assert.rejects(
            write(path, "new", REPLACE),
            { code: "EACCES" },
            way,
          );
        }
        await assert.rejects(lockAll([victim, path]), { code: "EACCES" });
      }
    });
    assert.equal(read(victim), "secret");
    assert.deepEqual(fs.readdirSync(dir.at("private")), ["victim"]);
  },
  "protected_symlinks that can be changed",
  "root",
);

test(
  "replacing does not create the target of a dangling link that another user planted in a sticky directory",
  async () => {
    using dir = openSticky();
    const missing = dir.at("private", "made", "missing");
    const planted = dir.link("planted", missing, STRANGER);
    const chain = dir.link("chain", "planted", 0);
    for (const path of [planted, chain]) {
      for (const [way, write] of REPLACEMENTS) {
        await assert.rejects(write(path, "new", REPLACE), {
          code: "EACCES",
          path,
        }, way);
      }
    }
    assert.deepEqual(fs.readdirSync(dir.at("private")), []);
  },
  "root",
  "symbolic links",
);

test(
  "replacing follows what the kernel follows: own links, and those of the owner of a sticky directory",
  async () => {
    using dir = openSticky();
    await withProtectedSymlinks(async () => {
      for (const [way, write] of REPLACEMENTS) {
        const target = dir.at("private", way);
        for (const content of ["dangling", "existing"]) {
          const path = dir.link(`${way} ${content}`, target, 0);
          await write(path, content, REPLACE);
          assert.equal(read(target), content);
        }
        fs.rmSync(target);
        fs.chownSync(dir.at("sticky"), STRANGER, STRANGER);
        for (const content of ["dangling", "existing"]) {
          const path = dir.link(`their ${way} ${content}`, target, STRANGER);
          await write(path, content, REPLACE);
          assert.equal(read(target), content);
        }
        fs.chownSync(dir.at("sticky"), 0, 0);
      }
    });
  },
  "protected_symlinks that can be changed",
  "root",
);

/** Alternates between a file of its own and a link, as fast as it can. */
const ATTACKER = `
import os, sys
path, target = sys.argv[1:]
os.setgid(65534)
os.setuid(65534)
# A file of root could not be replaced.
os.symlink(target, path)
print(flush=True)
while True:
    open(path + ".mine", "w").close()
    os.rename(path + ".mine", path)
    os.symlink(target, path + ".link")
    os.rename(path + ".link", path)
`;

test(
  "replacing does not follow a planted link that another user swaps with a file of its own",
  async () => {
    using dir = openSticky();
    const victim = dir.at("private", "victim");
    fs.writeFileSync(victim, "secret");
    await withProtectedSymlinks(async () => {
      const attacker = spawn("python3", [
        "-c",
        ATTACKER,
        dir.at("sticky", "a"),
        victim,
      ], { stdio: ["ignore", "pipe", "inherit"] });
      try {
        await once(attacker.stdout, "data");
        const end = performance.now() + 3000;
        while (performance.now() < end) {
          try {
            const options = { replace: true, durable: false };
            writeAtomicSync(dir.at("sticky", "a"), "new", options);
          } catch {
            // The kernel refused the link.
          }
          assert.equal(read(victim), "secret");
        }
        assert.equal(attacker.exitCode, null);
      } finally {
        attacker.kill("SIGKILL");
        await once(attacker, "exit");
      }
    });
  },
  "protected_symlinks that can be changed",
  "root",
  "python3(1)",
);
