/** `portalock doctor`. */

import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { portalock } from "../support/cli.ts";
import { runtimes } from "../support/env.ts";
import { bindMount } from "../support/fuse.ts";
import { runScript } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

test(
  "cli doctor: prints the verdict, and its status says whether locks work",
  async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      const command = [...portalock(runtime), "doctor", dir.path];
      const { code, stdout, stderr } = await runScript(command);
      assert.equal(code, 0, `${runtime.name} ${stdout}${stderr}`);
      assert.match(stdout, /^".*": locks work\.\n/, runtime.name);
      assert.equal(stderr, "", runtime.name);
      assert.deepEqual(fs.readdirSync(dir.path), [], runtime.name);
    }
  },
);

test(
  "cli doctor: two paths that do not see each other's locks have status 1",
  async () => {
    const [runtime] = runtimes;
    using dir = tempDir();
    using mount = bindMount(dir.path);
    const command = [...portalock(runtime!), "doctor", dir.path, mount.path];
    const { code, stdout } = await runScript(command);
    assert.equal(code, 1);
    // A line may break at each space.
    assert.match(stdout, /locks\sDO\sNOT\swork\.\n\nProblems\n/);
  },
  "bindfs(1) and FUSE",
);

test("cli doctor: --json prints all that was measured", async () => {
  const [runtime] = runtimes;
  using dir = tempDir();
  // Windows has one kind of locks.
  const isWindows = process.platform === "win32";
  const kind = isWindows ? [] : ["--fcntl"];
  const command = [...portalock(runtime!), "doctor", "--json", ...kind];
  const { code, stdout } = await runScript([...command, dir.path]);
  assert.equal(code, 0);
  const { verdict, locker, paths } = JSON.parse(stdout);
  assert.equal(verdict, "works");
  assert.equal(locker, isWindows ? "flock" : "ofd");
  assert.equal(paths[0].path, dir.path);
});

test("cli doctor: an error names the path, with a status of its own", async () => {
  const [runtime] = runtimes;
  using dir = tempDir();
  const run = (...args: string[]) =>
    runScript([...portalock(runtime!), "doctor", ...args]);
  const missing = await run(join(dir.path, "missing"));
  assert.equal(missing.code, 66);
  assert.match(missing.stderr, /^portalock: Cannot test .*missing.*ENOENT/);
  assert.equal((await run()).code, 64);
  assert.equal((await run("a", "b", "c")).code, 64);
  assert.equal((await run("")).code, 64);
  assert.equal((await run("--colour", "a")).code, 64);
  const help = await run("--help");
  assert.equal(help.code, 0);
  assert.match(help.stdout, /^Finds out whether a file system can lock/);
});
