import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { diagnose, PROBE_ARGUMENT } from "../../../src/cli/doctor/mod.ts";
import type {
  CannotTest,
  DiagnoseOptions,
} from "../../../src/cli/doctor/mod.ts";
import { Probe } from "../../../src/cli/doctor/probe_process.ts";
import { formatName } from "../../../src/options/validate.ts";
import { denoWith, fixtureCommand } from "../../support/env.ts";
import { runScript } from "../../support/processes.ts";
import { tempDir } from "../../support/temp_dir.ts";
import { test } from "../../support/test.ts";
import {
  doctorCommand,
  failed,
  failedBy,
  leftOvers,
  probeCommand,
} from "./support.ts";

/** Starts a program of root without the privileges of root. */
const WITHOUT_CAPABILITIES = process.getuid?.() === 0
  ? ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
  : [];

/** {@linkcode failed} without the privileges of root. */
function failedAsUser(path: string): Promise<CannotTest> {
  return failedBy([...WITHOUT_CAPABILITIES, ...probeCommand()], path);
}

test("doctor: a path that does not exist is named, with what to do", async () => {
  using dir = tempDir();
  const path = join(dir.path, "missing");
  const { name, status, code, message } = await failed(path);
  assert.equal(name, "CannotTest");
  assert.equal(status, 66);
  assert.equal(code, "ENOENT");
  assert.equal(
    message,
    `Cannot test ${
      formatName(path)
    }: it does not exist; create it, or pass a path that ` +
      "exists (ENOENT)",
  );
});

test("doctor: a second path that does not exist leaves nothing in the first", async () => {
  using dir = tempDir();
  const path = join(dir.path, "missing");
  assert.equal((await failed(dir.path, path)).code, "ENOENT");
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

test("doctor: two directories that are not the same are refused", async () => {
  using one = tempDir();
  using other = tempDir();
  const { code, message } = await failed(one.path, other.path);
  assert.equal(code, "EINVAL");
  assert.match(message, /it is not the same directory as .*; pass two paths/);
  assert.deepEqual(leftOvers(one.path), []);
  assert.deepEqual(leftOvers(other.path), []);
});

test(
  "doctor: a directory without write permission is named, with what to do",
  async () => {
    using dir = tempDir();
    fs.chmodSync(dir.path, 0o555);
    try {
      const { status, code, message } = await failedAsUser(dir.path);
      assert.deepEqual([status, code], [73, "EACCES"]);
      assert.match(
        message,
        /this user may not create files in .*; pass a directory that this user may write to/,
      );
      // Without the permission to search it, its files cannot be examined.
      fs.chmodSync(dir.path, 0o444);
      const hidden = await failedAsUser(join(dir.path, "a"));
      assert.deepEqual([hidden.status, hidden.code], [66, "EACCES"]);
      assert.match(hidden.message, /this user may not search its directory/);
    } finally {
      fs.chmodSync(dir.path, 0o755);
    }
  },
  "permission bits",
  "setpriv(1)",
);

/** What cannot be written, and what is said about it. */
const UNWRITABLE: readonly {
  name: string;
  mount: string;
  code: string;
  says: RegExp;
}[] = [
  {
    name: "doctor: a file system that is mounted read-only is named",
    mount: "ro",
    code: "EROFS",
    says: /mounted read-only; mount it for writing/,
  },
  {
    name: "doctor: a full file system is named, and nothing is left",
    mount: "nr_inodes=4",
    code: "ENOSPC",
    says: /is full; remove some files/,
  },
];

for (const { name, mount, code, says } of UNWRITABLE) {
  test(name, async () => {
    using dir = tempDir();
    execFileSync("mount", ["-t", "tmpfs", "-o", mount, "none", dir.path]);
    try {
      const error = await failed(dir.path);
      assert.deepEqual([error.status, error.code], [73, code]);
      assert.match(error.message, says);
      assert.deepEqual(leftOvers(dir.path), []);
    } finally {
      execFileSync("umount", ["--lazy", dir.path]);
    }
  }, "root that can mount");
}

test(
  "doctor: a file that is mounted by itself is refused, with what to do",
  async () => {
    using dir = tempDir();
    const [source, path] = ["source", "a.json"].map((name) =>
      join(dir.path, name)
    ) as [string, string];
    for (const name of [source, path]) fs.writeFileSync(name, "");
    execFileSync("mount", ["--bind", source, path]);
    try {
      const { code, message } = await failed(path);
      assert.equal(code, "EBUSY");
      assert.match(message, /mounted by itself.*; pass the directory/);
    } finally {
      execFileSync("umount", [path]);
    }
  },
  "root that can mount",
  "file descriptors",
);

test("doctor: a device is refused", async () => {
  const { code, message } = await failed("/dev/null");
  assert.equal(code, "EINVAL");
  assert.match(message, /neither a directory nor a file/);
}, "lockable devices");

test(
  "doctor: a file that its directory protects can only be overwritten",
  async () => {
    using dir = tempDir();
    execFileSync("mount", ["-t", "tmpfs", "none", dir.path]);
    try {
      const path = join(dir.path, "a.json");
      fs.writeFileSync(path, "");
      fs.chmodSync(path, 0o666);
      fs.chmodSync(dir.path, 0o1777);
      await using root = await startProbe();
      await using user = await startProbe(WITHOUT_CAPABILITIES);
      const updates = async ({ probe }: typeof root) =>
        (await probe.call("facts", path)).file?.updates;
      assert.equal(await updates(root), "replace");
      // In a sticky directory, only the owners may replace a file.
      for (const name of [path, dir.path]) fs.chownSync(name, 1234, 1234);
      assert.equal(await updates(root), "replace");
      assert.equal(await updates(user), "in place");
      fs.chmodSync(path, 0o644);
      assert.equal(await updates(user), null);
    } finally {
      execFileSync("umount", ["--lazy", dir.path]);
    }
  },
  "root that can mount",
  "setpriv(1)",
  "file descriptors",
);

/** Starts a process of the tests. */
async function startProbe(
  prefix: readonly string[] = [],
): Promise<{ probe: Probe } & AsyncDisposable> {
  const probe = Probe.spawn([...prefix, ...probeCommand()]);
  await probe.start();
  return { probe, [Symbol.asyncDispose]: () => probe.end() };
}

test("doctor: wrong arguments are refused before anything is started", async () => {
  const fail = (paths: unknown, options?: unknown) =>
    diagnose(paths as string[], options as DiagnoseOptions);
  await assert.rejects(fail("."), TypeError);
  await assert.rejects(fail([]), /one path or two, not 0/);
  await assert.rejects(fail(["a", "b", "c"]), /one path or two, not 3/);
  await assert.rejects(fail([""]), /path must not be empty/);
  await assert.rejects(fail(["."], { json: true }), /unknown option "json"/);
  await assert.rejects(fail(["."], { locker: "fcntl" }), /locker must be/);
});

test(
  "doctor: a program that cannot be started, or is not a probe, is named",
  async () => {
    const commands: [RegExp, ...string[]][] = [
      [/cannot be started: .*nonexistent/, "/nonexistent/program"],
      [/ended with 0: not a probe/, "sh", "-c", "echo not a probe >&2"],
    ];
    for (const [says, ...command] of commands) {
      const { status, message } = await failedBy(command, ".");
      assert.equal(status, 69);
      assert.match(message, says);
    }
  },
  "sh(1)",
);

test(
  "doctor: Deno without the permission to start processes is refused",
  async () => {
    using dir = tempDir();
    const deno = denoWith(
      "--allow-read",
      "--allow-write",
      "--allow-ffi",
      "--allow-env",
    );
    const { stdout } = await runScript([
      ...fixtureCommand(deno, "doctor"),
      dir.path,
    ]);
    const { status, message } = JSON.parse(stdout);
    assert.equal(status, 69);
    assert.match(message, /Deno may not start processes; pass --allow-run/);
  },
  "Deno",
);

test("doctor: a program that does not call runProbe does not start itself forever", async () => {
  using dir = tempDir();
  const { stdout } = await runScript([
    ...doctorCommand(dir.path),
    PROBE_ARGUMENT,
  ]);
  assert.match(JSON.parse(stdout).message, /does not call runProbe/);
});
