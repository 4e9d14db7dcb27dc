import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { Lock, PidFileLock, TemporaryFileLock } from "../../mod.ts";
import {
  can,
  everyRuntime,
  folder,
  listing,
  openDescriptors,
  scriptOn,
} from "../support/harness.ts";
import { runtimes, test, Worker } from "../support/harness.ts";
import type { TestRuntime } from "../support/harness.ts";

/** Starts `tests/fixtures/collecting` where it may collect when it likes. */
function collecting(runtime: TestRuntime, ...args: string[]): Worker {
  const script = scriptOn(runtime, "collecting");
  const at = script.length - 1;
  const flag = runtime.name.startsWith("deno")
    ? "--v8-flags=--expose-gc"
    : runtime.name.startsWith("node")
    ? "--expose-gc"
    : "--smol";
  return new Worker([...script.slice(0, at), flag, script[at], ...args]);
}

/** Whether a process has so many files open, if anybody tells. */
const hasOpen = (below: string, { process }: Worker, files: number) =>
  !can("/proc") || openDescriptors(below, process.pid) === files;

const KINDS: [kind: string, files: string[], left: string[]][] = [
  ["Lock", ["a", "b"], ["a", "b"]],
  ["RLock", ["a", "b"], ["a", "b"]],
  ["TemporaryFileLock", ["a", "b"], []],
];

for (const [kind, files, left] of KINDS) {
  test(
    `a collected, unreleased lock: ${kind} is released, with one warning`,
    async () => {
      for (const runtime of everyRuntime) {
        using dir = folder();
        const [a, b] = ["a", "b"].map((name) => join(dir.path, name));
        await using worker = collecting(runtime, kind, a, b);
        assert.equal(await worker.line(), "held held");
        assert.deepEqual(listing(dir.path), files);
        assert.ok(hasOpen(dir.path, worker, 2));
        worker.write("collect");
        const warnings = JSON.parse(await worker.line());
        assert.equal(warnings.length, 1, `${runtime.name}: ${warnings}`);
        assert.match(
          warnings[0],
          /^PortalockWarning The lock on .* was garbage-collected while held; release/,
        );
        assert.ok(hasOpen(dir.path, worker, 0));
        assert.deepEqual(listing(dir.path), left, runtime.name);
        for (const path of [a, b]) {
          await new Lock(path, { timeout: 0 }).run(() => {});
        }
      }
    },
  );
}

test("a collected PidFileLock is held until the process exits", async () => {
  for (const runtime of everyRuntime) {
    using dir = folder();
    const [a, b] = ["a", "b"].map((name) => join(dir.path, name));
    await using worker = collecting(runtime, "PidFileLock", a, b);
    assert.equal(await worker.line(), "held held");
    worker.write("collect");
    assert.deepEqual(JSON.parse(await worker.line()), []);
    assert.equal(fs.readdirSync(dir.path).length, 4);
    assert.equal(new PidFileLock(a).tryAcquireSync(), null);
    worker.process.stdin.end();
    assert.equal((await worker.ended).code, 0);
    assert.deepEqual(fs.readdirSync(dir.path), []);
  }
});

test("a lock that was released is collected without a word", async () => {
  for (const runtime of everyRuntime) {
    using dir = folder();
    const [a, b] = ["a", "b"].map((name) => join(dir.path, name));
    await using worker = collecting(runtime, "Released", a, b);
    assert.equal(await worker.line(), "held held");
    worker.write("collect");
    assert.deepEqual(JSON.parse(await worker.line()), [], runtime.name);
  }
});

test(
  "a collected, unreleased lock whose release fails harms nobody",
  async () => {
    for (const runtime of runtimes) {
      using dir = folder();
      const [a, b] = ["a", "b"].map((name) => join(dir.path, name));
      await using worker = collecting(runtime, "Broken", a, b);
      assert.equal(await worker.line(), "held held");
      worker.write("collect");
      assert.equal(JSON.parse(await worker.line()).length, 1, runtime.name);
      worker.process.stdin.end();
      assert.equal((await worker.ended).code, 0, runtime.name);
    }
  },
  "descriptors",
);

test("a collected, unreleased lock unlinks nobody else's file", async () => {
  for (const runtime of everyRuntime) {
    using dir = folder();
    const [a, b] = ["a", "b"].map((name) => join(dir.path, name));
    await using worker = collecting(runtime, "TemporaryFileLock", a, b);
    assert.equal(await worker.line(), "held held");
    fs.rmSync(a);
    fs.rmSync(b);
    await using _file = await new TemporaryFileLock(a).acquire();
    fs.writeFileSync(b, "another's");
    worker.write("collect");
    assert.equal(JSON.parse(await worker.line()).length, 1);
    assert.ok(hasOpen(dir.path, worker, 0));
    assert.deepEqual(listing(dir.path), ["a", "b"]);
    assert.equal(await new TemporaryFileLock(a).tryAcquire(), null);
  }
}, "unlinking what is open");

test("the loser's clean-up removes the winner's file", async () => {
  for (const runtime of everyRuntime) {
    for (const kind of ["TemporaryFileLock", "PidFileLock"]) {
      using dir = folder();
      const path = join(dir.path, "a");
      await using winner = Worker.on(runtime);
      await winner.ask("hold", kind, path);
      const before = listing(dir.path);
      await using loser = collecting(runtime, kind, path, path);
      assert.equal(await loser.line(), "refused refused");
      loser.write("collect");
      assert.deepEqual(JSON.parse(await loser.line()), []);
      assert.deepEqual(listing(dir.path), before);
      loser.process.stdin.end();
      assert.equal((await loser.ended).code, 0);
      assert.deepEqual(listing(dir.path), before);
      assert.equal(await contender(kind, path), null);
      await winner.ask("drop");
      assert.deepEqual(listing(dir.path), []);
    }
  }
});

function contender(kind: string, path: string) {
  const Kind = kind === "PidFileLock" ? PidFileLock : TemporaryFileLock;
  return new Kind(path).tryAcquire();
}
