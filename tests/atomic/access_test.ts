import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { openAtomic, updateFile, writeAtomic } from "../../mod.ts";
import { platform } from "../../ffi/mod.ts";
import { leftovers, WAYS } from "../fixtures/atomic_writes.ts";
import type { Write } from "../fixtures/atomic_writes.ts";
import {
  attributesOf,
  permitted,
  setAccessList,
  trySetAttribute,
} from "../support/access_lists.ts";
import { runAtomicWriter } from "../support/atomic_writer.ts";
import { hasCapability } from "../support/capabilities.ts";
import { withPatchedFiles } from "../support/platform.ts";
import { injecting } from "../support/strace.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

const REPLACE = { replace: true } as const;
const [OWNER, GROUP, NAMED, OTHER] = [2000, 3000, 1234, 5000];

/** A list that permits one user to write, and nothing to the group. */
const LIST = {
  owner: 6,
  user: [NAMED, 6] as [number, number],
  group: 0,
  mask: 6,
  others: 0,
};

/** The list in hexadecimal digits. */
const ENCODED =
  "0200000001000600ffffffff02000600d204000004000000ffffffff10000600ffffffff20000000ffffffff";

const REPLACEMENTS: [string, Write][] = [
  ...WAYS,
  ["updateFile", (path, data) => updateFile(path, () => data as string)],
];

/** A directory that other users may search. */
function openDir() {
  const dir = tempDir();
  fs.chmodSync(dir.path, 0o755);
  return dir;
}

/** Creates a file of another user. */
function createFile(path: string, mode: number): void {
  fs.writeFileSync(path, "old");
  fs.chownSync(path, OWNER, GROUP);
  fs.chmodSync(path, mode);
}

/** What the kernel permits to the owner, the group, the named user, others. */
const permissions = (path: string) => [
  permitted(path, OWNER, OTHER),
  permitted(path, OTHER, GROUP),
  permitted(path, NAMED, OTHER),
  permitted(path, OTHER, OTHER),
];

const bits = (path: string) => fs.statSync(path).mode & 0o7777;

test(
  "replacing a file with an access list gives no user access that it did not have",
  async () => {
    using dir = openDir();
    for (const [way, write] of REPLACEMENTS) {
      const path = join(dir.path, way);
      createFile(path, 0o600);
      setAccessList(path, LIST);
      assert.deepEqual(permissions(path), ["rw", "", "rw", ""]);
      await write(path, "new", REPLACE);
      assert.equal(fs.readFileSync(path, "utf8"), "new");
      // Deno without FFI cannot copy the list.
      const named = hasCapability("visible access lists") ? "rw" : "";
      assert.deepEqual(permissions(path), ["rw", "", named, ""], way);
    }
  },
  "access lists",
  "root",
  "setpriv(1)",
);

test(
  "replacing a file copies its access list",
  async () => {
    using dir = openDir();
    for (const [way, write] of REPLACEMENTS) {
      const path = join(dir.path, way);
      createFile(path, 0o600);
      setAccessList(path, LIST);
      await write(path, "new", REPLACE);
      assert.deepEqual(attributesOf(path), {
        "system.posix_acl_access": ENCODED,
      }, way);
      assert.equal(bits(path), 0o660);
    }
  },
  "visible access lists",
  "root",
);

test(
  "a file that replaces another does not inherit readers from its directory, at no moment",
  async () => {
    using dir = openDir();
    setAccessList(dir.path, { ...LIST, group: 6 }, "default");
    for (const [way, write] of REPLACEMENTS) {
      const path = join(dir.path, way);
      createFile(path, 0o640);
      // The file that the test creates has inherited the list, too.
      const list = { owner: 6, user: [NAMED, 0] as [number, number], group: 4 };
      setAccessList(path, { ...list, mask: 4, others: 0 });
      assert.deepEqual(permissions(path), ["rw", "r", "", ""]);
      await write(path, "new", REPLACE);
      const group = hasCapability("visible access lists") ? "r" : "";
      assert.deepEqual(permissions(path), ["rw", group, "", ""], way);
    }
    const path = join(dir.path, "private");
    createFile(path, 0o600);
    await openAtomic(path, REPLACE, async (file) => {
      await file.writeText("new");
      const temporary = join(dir.path, at(leftovers(dir.path), 0));
      assert.deepEqual(permissions(temporary), ["rw", "", "", ""]);
    });
    assert.deepEqual(permissions(path), ["rw", "", "", ""]);
  },
  "access lists",
  "root",
  "setpriv(1)",
);

test(
  "the temporary file is created with the bits that every user of the old file has",
  async () => {
    using dir = openDir();
    for (const [before, created] of [[0o640, 0o600], [0o664, 0o644]]) {
      for (const [way, write] of REPLACEMENTS) {
        const path = join(dir.path, way);
        createFile(path, before!);
        let limit: number | undefined = created!;
        await withPatchedFiles((file) => ({
          tryLock(exclusive) {
            // Only the first file that is locked is new and private.
            const { mode } = file.statSync();
            if (!path.endsWith("updateFile") && limit !== undefined) {
              assert.equal(mode! & 0o777 & ~limit, 0, way);
              limit = undefined;
            }
            return file.tryLock(exclusive);
          },
        }), () => write(path, "new", REPLACE));
        fs.rmSync(path);
      }
    }
  },
  "root",
  "permission bits",
);

test(
  "a list that the old file does not have is removed from the new file",
  async () => {
    using dir = openDir();
    const path = join(dir.path, "a");
    createFile(path, 0o660);
    setAccessList(dir.path, { ...LIST, group: 6 }, "default");
    assert.deepEqual(attributesOf(path), {});
    for (const [way, write] of REPLACEMENTS) {
      await write(path, "new", REPLACE);
      assert.deepEqual(attributesOf(path), {}, way);
      assert.equal(bits(path), 0o660);
    }
  },
  "visible access lists",
  "root",
);

test(
  "an access list that cannot be read, written or removed is replaced by less",
  async () => {
    const faults: [calls: string, list: boolean, group: string][] = [
      ["llistxattr:error=EPERM", true, ""],
      ["lgetxattr:error=EIO", true, ""],
      ["fsetxattr:error=ENOSPC", true, ""],
      ["fgetxattr:error=EPERM", false, "r"],
      ["fremovexattr:error=EPERM", false, "r"],
    ];
    for (const what of ["once", "onceSync"]) {
      for (const [fault, list, group] of faults) {
        using dir = openDir();
        const path = join(dir.path, "a");
        createFile(path, list ? 0o600 : 0o664);
        if (list) setAccessList(path, LIST);
        else setAccessList(dir.path, { ...LIST, group: 6 }, "default");
        assert.equal(
          await runAtomicWriter(what, path, REPLACE, injecting(fault)),
          "written",
          fault,
        );
        assert.equal(fs.readFileSync(path, "utf8"), "new");
        assert.deepEqual(
          permissions(path),
          ["rw", group, list ? "" : "r", list ? "" : "r"],
          fault,
        );
      }
    }
  },
  "visible access lists",
  "root",
  "setpriv(1)",
  "strace(1)",
);

test(
  "the new file gives no user more if the process may not keep its owner or group",
  async () => {
    using dir = openDir();
    const path = join(dir.path, "a");
    const noChown = ["setpriv", "--bounding-set=-chown", "--clear-groups"];
    // The members of the group could not read it, but others could.
    createFile(path, 0o604);
    assert.equal(
      await runAtomicWriter("once", path, REPLACE, noChown),
      "written",
    );
    assert.equal(permitted(path, OTHER, GROUP), "");
    fs.rmSync(path);
    createFile(path, 0o600);
    // Without FFI, a list that denies what others may do is lost.
    const others = hasCapability("visible access lists") ? 4 : 0;
    setAccessList(path, { ...LIST, others });
    assert.equal(
      await runAtomicWriter("once", path, REPLACE, noChown),
      "written",
    );
    assert.equal(permitted(path, OTHER, GROUP), "");
  },
  "access lists",
  "root",
  "setpriv(1)",
);

test(
  "the new file has the access that the old one has at the commit",
  async () => {
    using dir = openDir();
    const path = join(dir.path, "a");
    fs.writeFileSync(path, "old", { mode: 0o644 });
    await openAtomic(path, REPLACE, () => fs.chmodSync(path, 0o600));
    assert.equal(bits(path), 0o600);
    await openAtomic(path, REPLACE, () => {
      fs.rmSync(path);
      fs.writeFileSync(path, "theirs", { mode: 0o400 });
    });
    assert.equal(bits(path), 0o400);
    fs.rmSync(path);
    await openAtomic(path, REPLACE, () => {
      fs.writeFileSync(path, "theirs", { mode: 0o600 });
    });
    assert.equal(bits(path), 0o600);
  },
  "permission bits",
);

test(
  "user attributes of a replaced file are kept, and what they do not fit in is lost",
  async () => {
    using dir = openDir();
    for (const [way, write] of REPLACEMENTS) {
      const path = join(dir.path, way);
      fs.writeFileSync(path, "old");
      assert.ok(trySetAttribute(path, "user.a", new Uint8Array([97])));
      assert.ok(trySetAttribute(path, "user.empty", new Uint8Array()));
      await write(path, "new", REPLACE);
      assert.deepEqual(attributesOf(path), {
        "user.a": "61",
        "user.empty": "",
      });
      const refused = injecting("fsetxattr:error=ENOSPC");
      if (!hasCapability("strace(1)")) continue;
      assert.equal(
        await runAtomicWriter("once", path, REPLACE, refused),
        "written",
      );
      assert.deepEqual(attributesOf(path), {});
    }
  },
  "visible access lists",
);

test(
  "without FFI, the group of a replaced file keeps only what others may do",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const hidden = platform().hidesAccessLists;
    for (const [before, after] of [[0o640, 0o600], [0o664, 0o644], [0o4755]]) {
      fs.writeFileSync(path, "old");
      fs.chmodSync(path, before!);
      await writeAtomic(path, "new", REPLACE);
      assert.equal(bits(path), hidden && after || before);
    }
  },
  "permission bits",
);
