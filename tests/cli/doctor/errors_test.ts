import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { diagnose, PROBE_ARGUMENT } from "../../../src/cli/doctor/mod.ts";
import type {
  DiagnoseOptions,
  Diagnosis,
} from "../../../src/cli/doctor/mod.ts";
import { formatName } from "../../../src/options/validate.ts";
import { denoWith, fixtureCommand } from "../../support/env.ts";
import { runScript } from "../../support/processes.ts";
import { tempDir } from "../../support/temp_dir.ts";
import { test } from "../../support/test.ts";
import { doctorCommand, failed, leftOvers } from "./support.ts";

/** Starts a program of root without the privileges of root. */
const WITHOUT_CAPABILITIES = [
  "setpriv",
  "--bounding-set=-all",
  "--inh-caps=-all",
];

test("doctor: a path that does not exist is named, with what to do", async () => {
  using dir = tempDir();
  const path = join(dir.path, "missing");
  const { name, code, message } = await failed(path);
  assert.equal(name, "LockException");
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
      const drop = process.getuid?.() === 0
        ? ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
        : [];
      const { stdout } = await runScript([...drop, ...doctorCommand(dir.path)]);
      const { code, message } = JSON.parse(stdout);
      assert.equal(code, "EACCES");
      assert.match(
        message,
        /this user may not create files in .*; pass a directory that this user may write to/,
      );
    } finally {
      fs.chmodSync(dir.path, 0o755);
    }
  },
  "permission bits",
  "setpriv(1)",
);

test("doctor: a file system that is mounted read-only is named", async () => {
  using dir = tempDir();
  execFileSync("mount", ["-t", "tmpfs", "-o", "ro", "none", dir.path]);
  try {
    const { code, message } = await failed(dir.path);
    assert.equal(code, "EROFS");
    assert.match(message, /mounted read-only; mount it for writing/);
  } finally {
    execFileSync("umount", [dir.path]);
  }
}, "root that can mount");

test("doctor: a full file system is named, and nothing is left", async () => {
  using dir = tempDir();
  const options = "nr_inodes=4";
  execFileSync("mount", ["-t", "tmpfs", "-o", options, "none", dir.path]);
  try {
    const { code, message } = await failed(dir.path);
    assert.equal(code, "ENOSPC");
    assert.match(message, /is full; remove some files/);
    assert.deepEqual(leftOvers(dir.path), []);
  } finally {
    execFileSync("umount", ["--lazy", dir.path]);
  }
}, "root that can mount");

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
      assert.equal((await updatesOf(path)).updates, "replace");
      // In a sticky directory, only the owners may replace a file.
      for (const name of [path, dir.path]) fs.chownSync(name, 1234, 1234);
      assert.equal((await updatesOf(path)).updates, "replace");
      const { updates, notes } = await updatesOf(path, WITHOUT_CAPABILITIES);
      assert.equal(updates, "in place");
      assert.match(notes, /updateFile needs inPlace: true/);
      fs.chmodSync(path, 0o644);
      const denied = await updatesOf(path, WITHOUT_CAPABILITIES);
      assert.equal(denied.updates, null);
      assert.match(denied.notes, /can be neither replaced nor written/);
    } finally {
      execFileSync("umount", ["--lazy", dir.path]);
    }
  },
  "root that can mount",
  "setpriv(1)",
  "file descriptors",
);

/** Returns how `updateFile` changes a file, according to the doctor. */
async function updatesOf(
  path: string,
  prefix: readonly string[] = [],
): Promise<{ updates: string | null | undefined; notes: string }> {
  const { stdout } = await runScript([...prefix, ...doctorCommand(path)]);
  const { diagnosis }: { diagnosis: Diagnosis } = JSON.parse(stdout);
  const { paths: [report], notes } = diagnosis;
  return { updates: report?.file?.updates, notes: notes.join("\n") };
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
    using dir = tempDir();
    const missing = ["/nonexistent/program"];
    await assert.rejects(
      diagnose([dir.path], { command: missing }),
      /nonexistent/,
    );
    const other = ["sh", "-c", "echo not a probe >&2"];
    await assert.rejects(
      diagnose([dir.path], { command: other }),
      /ended with 0: not a probe/,
    );
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
    assert.match(JSON.parse(stdout).message, /--allow-run/);
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
