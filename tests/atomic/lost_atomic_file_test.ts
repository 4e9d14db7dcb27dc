import assert from "node:assert/strict";
import { join } from "node:path";
import { writeAtomic } from "../../mod.ts";
import { leftovers } from "../fixtures/atomic_writes.ts";
import { hasCapability } from "../support/capabilities.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { allRuntimes, fixtureCommand } from "../support/env.ts";
import type { TestRuntime } from "../support/env.ts";
import { LockProcess, runScript } from "../support/processes.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

const WARNING =
  /^PortalockWarning The atomic file for .*lost \d"? was garbage-collected before commit\(\) or discard\(\); it stays open/;

/** Starts a process that loses files, with access to the collector. */
function startLosing(
  runtime: TestRuntime,
  how: string,
  directory: string,
): LockProcess {
  const command = fixtureCommand(runtime, "lost_atomic_files");
  const flag = runtime.name.startsWith("deno")
    ? "--v8-flags=--expose-gc"
    : runtime.name.startsWith("node")
    ? "--expose-gc"
    : "--smol";
  const script = [at(command, -1), how, directory];
  return new LockProcess([...command.slice(0, -1), flag, ...script]);
}

const ENDS: [how: string, code: number][] = [
  ["end", 0],
  ["exit", 7],
  ["throw", 1],
];

for (const [how, expected] of ENDS) {
  test(`a lost AtomicFile is reported once, and removed when the process ends: ${how}`, async () => {
    for (const runtime of allRuntimes) {
      using dir = tempDir();
      await using child = startLosing(runtime, how, dir.path);
      assert.equal(await child.readLine(), "[]", "files that have ended");
      const warnings = JSON.parse(await child.readLine());
      assert.equal(warnings.length, 1, `${runtime.name}: ${warnings}`);
      assert.match(warnings[0], WARNING);
      assert.equal(leftovers(dir.path).length, 2, runtime.name);
      if (hasCapability("/proc")) {
        assert.equal(openDescriptors(dir.path, child.process.pid), 2);
      }
      // Its descriptor is open and locked, so no cleaner removes the file.
      await writeAtomic(join(dir.path, "commit"), "", { replace: true });
      assert.equal(leftovers(dir.path).length, 2, runtime.name);
      child.process.stdin.end();
      assert.equal((await child.ended).code, expected, runtime.name);
      const committed = ["commit", "commitSync"];
      assert.deepEqual(sortedNames(dir.path), committed, runtime.name);
    }
  });
}

test("a lost AtomicFile of a worker is removed when the worker ends", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const { code, stdout, stderr } = await runScript([
      ...fixtureCommand(runtime, "lost_atomic_files"),
      ...["thread ends", dir.path],
    ]);
    assert.equal(stdout, "lost\n", `${runtime.name}: ${stderr}`);
    assert.equal(code, 0);
    assert.deepEqual(sortedNames(dir.path), ["commit"], runtime.name);
  }
});

test("a process that exits during a write leaves no temporary file", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const { code, stdout, stderr } = await runScript([
      ...fixtureCommand(runtime, "lost_atomic_files"),
      ...["exit during a write", dir.path],
    ]);
    assert.equal(stdout, "writing\n", `${runtime.name}: ${stderr}`);
    assert.equal(code, 7);
    assert.deepEqual(leftovers(dir.path), [], runtime.name);
  }
});
