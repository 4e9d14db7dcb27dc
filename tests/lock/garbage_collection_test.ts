import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { Lock, PidFileLock, TemporaryFileLock } from "../../mod.ts";
import { hasCapability } from "../support/capabilities.ts";
import { openDescriptors } from "../support/descriptors.ts";
import {
  allRuntimes,
  fixtureCommand,
  type TestRuntime,
} from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

/** Starts a script of `tests/fixtures` with access to the garbage collector. */
function startCollecting(
  runtime: TestRuntime,
  fixture: string,
  ...args: string[]
): LockProcess {
  const command = fixtureCommand(runtime, fixture);
  const flag = runtime.name.startsWith("deno")
    ? "--v8-flags=--expose-gc"
    : runtime.name.startsWith("node")
    ? "--expose-gc"
    : "--smol";
  const script = at(command, -1);
  return new LockProcess([...command.slice(0, -1), flag, script, ...args]);
}

/** Starts a process that acquires two locks and loses them. */
const startLosing = (runtime: TestRuntime, ...args: string[]): LockProcess =>
  startCollecting(runtime, "garbage_collection", ...args);

const WARNING =
  /^PortalockWarning The lock on .* was garbage-collected while held; it stays held until this process or worker ends\. Release it, or keep/;

/**
 * Returns whether a process has that many files open. Returns `true` without
 * `/proc`.
 */
const hasOpen = (below: string, { process }: LockProcess, files: number) =>
  !hasCapability("/proc") || openDescriptors(below, process.pid) === files;

const KINDS: [kind: string, left: string[]][] = [
  ["Lock", ["a", "b"]],
  ["RLock", ["a", "b"]],
  ["TemporaryFileLock", []],
];

for (const [kind, left] of KINDS) {
  test(
    `a collected, unreleased lock: ${kind} stays held, with one warning`,
    async () => {
      for (const runtime of allRuntimes) {
        using dir = tempDir();
        const [a, b] = [join(dir.path, "a"), join(dir.path, "b")];
        await using child = startLosing(runtime, kind, a, b);
        assert.equal(await child.readLine(), "held held");
        child.writeLine("collect");
        const warnings = JSON.parse(await child.readLine());
        assert.equal(warnings.length, 1, `${runtime.name}: ${warnings}`);
        assert.match(warnings[0], WARNING);
        assert.ok(hasOpen(dir.path, child, 2));
        assert.deepEqual(sortedNames(dir.path), ["a", "b"]);
        for (const path of [a, b]) {
          assert.equal(await contender(kind, path), null, runtime.name);
        }
        child.process.stdin.end();
        assert.equal((await child.ended).code, 0);
        assert.deepEqual(sortedNames(dir.path), left, runtime.name);
        for (const path of [a, b]) {
          await new Lock(path, { timeout: 0 }).run(() => {});
        }
      }
    },
  );
}

test("a lock that a program takes once and relies on is never collected", async () => {
  await Promise.all(allRuntimes.map(async (runtime) => {
    using dir = tempDir();
    await using child = startCollecting(runtime, "lock_once", dir.path);
    const shapes: [shape: string, path: string][] = JSON.parse(
      await child.readLine(),
    );
    // Deno without FFI does not lock descriptors by their number.
    assert.ok(shapes.length >= 12, `${shapes.length} on ${runtime.name}`);
    child.writeLine("collect");
    // The warning proves that objects were collected.
    const warnings = JSON.parse(await child.readLine());
    assert.equal(warnings.length, 1, `${runtime.name}: ${warnings}`);
    assert.match(warnings[0], WARNING);
    const closedFiles = Number(await child.readLine());
    assert.ok(closedFiles < 200, `${closedFiles} of 500 closed files are kept`);
    for (const [shape, path] of shapes) {
      const file = await new Lock(path).tryAcquire();
      assert.equal(file, null, `${shape}, on ${runtime.name}`);
    }
    child.process.stdin.end();
    assert.equal((await child.ended).code, 0);
    for (const [, path] of shapes) {
      await new Lock(path, { timeout: 0 }).run(() => {});
    }
  }));
});

test("a collected PidFileLock stays held until the process exits", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const [a, b] = [join(dir.path, "a"), join(dir.path, "b")];
    await using child = startLosing(runtime, "PidFileLock", a, b);
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
    await using child = startLosing(runtime, "Released", a, b);
    assert.equal(await child.readLine(), "held held");
    child.writeLine("collect");
    assert.deepEqual(JSON.parse(await child.readLine()), [], runtime.name);
  }
});

test(
  "a collected, unreleased lock does not unlink the file of another holder",
  async () => {
    for (const runtime of allRuntimes) {
      using dir = tempDir();
      const [a, b] = [join(dir.path, "a"), join(dir.path, "b")];
      await using child = startLosing(runtime, "TemporaryFileLock", a, b);
      assert.equal(await child.readLine(), "held held");
      fs.rmSync(a);
      fs.rmSync(b);
      await using _file = await new TemporaryFileLock(a).acquire();
      fs.writeFileSync(b, "another's");
      child.writeLine("collect");
      assert.equal(JSON.parse(await child.readLine()).length, 1);
      child.process.stdin.end();
      assert.equal((await child.ended).code, 0);
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
      await using loser = startLosing(runtime, kind, path, path);
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
  const Kind = { Lock, RLock: Lock, TemporaryFileLock, PidFileLock }[kind]!;
  return new Kind(path).tryAcquire();
}
