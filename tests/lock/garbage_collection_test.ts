import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { Lock, PidFileLock, TemporaryFileLock } from "../../mod.ts";
import { hasCapability } from "../support/capabilities.ts";
import { openDescriptors } from "../support/descriptors.ts";
import {
  allRuntimes,
  fixtureCommand,
  runtimes,
  type TestRuntime,
} from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

/**
 * Starts `tests/fixtures/garbage_collection` with access to the garbage
 * collector.
 */
function startCollecting(runtime: TestRuntime, ...args: string[]): LockProcess {
  const command = fixtureCommand(runtime, "garbage_collection");
  const flag = runtime.name.startsWith("deno")
    ? "--v8-flags=--expose-gc"
    : runtime.name.startsWith("node")
    ? "--expose-gc"
    : "--smol";
  const script = at(command, -1);
  return new LockProcess([...command.slice(0, -1), flag, script, ...args]);
}

/**
 * Returns whether a process has that many files open. Returns `true` without
 * `/proc`.
 */
const hasOpen = (below: string, { process }: LockProcess, files: number) =>
  !hasCapability("/proc") || openDescriptors(below, process.pid) === files;

const KINDS: [kind: string, files: string[], left: string[]][] = [
  ["Lock", ["a", "b"], ["a", "b"]],
  ["RLock", ["a", "b"], ["a", "b"]],
  ["TemporaryFileLock", ["a", "b"], []],
];

for (const [kind, files, left] of KINDS) {
  test(
    `a collected, unreleased lock: ${kind} is released with one warning`,
    async () => {
      for (const runtime of allRuntimes) {
        using dir = tempDir();
        const [a, b] = [join(dir.path, "a"), join(dir.path, "b")];
        await using child = startCollecting(runtime, kind, a, b);
        assert.equal(await child.readLine(), "held held");
        assert.deepEqual(sortedNames(dir.path), files);
        assert.ok(hasOpen(dir.path, child, 2));
        child.writeLine("collect");
        const warnings = JSON.parse(await child.readLine());
        assert.equal(warnings.length, 1, `${runtime.name}: ${warnings}`);
        assert.match(
          warnings[0],
          /^PortalockWarning The lock on .* was garbage-collected while held; release/,
        );
        assert.ok(hasOpen(dir.path, child, 0));
        assert.deepEqual(sortedNames(dir.path), left, runtime.name);
        for (const path of [a, b]) {
          await new Lock(path, { timeout: 0 }).run(() => {});
        }
      }
    },
  );
}

test("a collected PidFileLock stays held until the process exits", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const [a, b] = [join(dir.path, "a"), join(dir.path, "b")];
    await using child = startCollecting(runtime, "PidFileLock", a, b);
    assert.equal(await child.readLine(), "held held");
    child.writeLine("collect");
    assert.deepEqual(JSON.parse(await child.readLine()), []);
    assert.equal(fs.readdirSync(dir.path).length, 4);
    assert.equal(new PidFileLock(a).tryAcquireSync(), null);
    child.process.stdin.end();
    assert.equal((await child.ended).code, 0);
    assert.deepEqual(fs.readdirSync(dir.path), []);
  }
});

test("a released lock is collected without a warning", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const [a, b] = [join(dir.path, "a"), join(dir.path, "b")];
    await using child = startCollecting(runtime, "Released", a, b);
    assert.equal(await child.readLine(), "held held");
    child.writeLine("collect");
    assert.deepEqual(JSON.parse(await child.readLine()), [], runtime.name);
  }
});

test(
  "a collected, unreleased lock whose release fails does not end the process",
  async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      const [a, b] = [join(dir.path, "a"), join(dir.path, "b")];
      await using child = startCollecting(runtime, "Broken", a, b);
      assert.equal(await child.readLine(), "held held");
      child.writeLine("collect");
      assert.equal(JSON.parse(await child.readLine()).length, 1, runtime.name);
      child.process.stdin.end();
      assert.equal((await child.ended).code, 0, runtime.name);
    }
  },
  "file descriptors",
);

test(
  "a collected, unreleased lock does not unlink the file of another holder",
  async () => {
    for (const runtime of allRuntimes) {
      using dir = tempDir();
      const [a, b] = [join(dir.path, "a"), join(dir.path, "b")];
      await using child = startCollecting(runtime, "TemporaryFileLock", a, b);
      assert.equal(await child.readLine(), "held held");
      fs.rmSync(a);
      fs.rmSync(b);
      await using _file = await new TemporaryFileLock(a).acquire();
      fs.writeFileSync(b, "another's");
      child.writeLine("collect");
      assert.equal(JSON.parse(await child.readLine()).length, 1);
      assert.ok(hasOpen(dir.path, child, 0));
      assert.deepEqual(sortedNames(dir.path), ["a", "b"]);
      assert.equal(await new TemporaryFileLock(a).tryAcquire(), null);
    }
  },
  "unlinking open files",
);

test("the cleanup of a process without the lock keeps the holder's file", async () => {
  for (const runtime of allRuntimes) {
    for (const kind of ["TemporaryFileLock", "PidFileLock"]) {
      using dir = tempDir();
      const path = join(dir.path, "a");
      await using winner = LockProcess.start(runtime);
      await winner.call("hold", kind, path);
      const before = sortedNames(dir.path);
      await using loser = startCollecting(runtime, kind, path, path);
      assert.equal(await loser.readLine(), "refused refused");
      loser.writeLine("collect");
      assert.deepEqual(JSON.parse(await loser.readLine()), []);
      assert.deepEqual(sortedNames(dir.path), before);
      loser.process.stdin.end();
      assert.equal((await loser.ended).code, 0);
      assert.deepEqual(sortedNames(dir.path), before);
      assert.equal(await contender(kind, path), null);
      await winner.call("drop");
      assert.deepEqual(sortedNames(dir.path), []);
    }
  }
});

function contender(kind: string, path: string) {
  const Kind = kind === "PidFileLock" ? PidFileLock : TemporaryFileLock;
  return new Kind(path).tryAcquire();
}
