/** What is left of locks that are held when a process or a thread ends. */

import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { TemporaryFileLock } from "../../mod.ts";
import { allRuntimes, fixtureCommand, runtimes } from "../support/env.ts";
import type { TestRuntime } from "../support/env.ts";
import { runScript } from "../support/processes.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { entry } from "../support/values.ts";

/** How a process ends, its exit code, and what that needs. */
const ENDS: [how: string, code: number, ...needs: "Deno"[]][] = [
  ["end", 0],
  ["exit", 7],
  ["thread ends", 0],
  ["thread exits", 0],
  ["thread throws", 0],
  ["throw", 1],
  ["throw later", 1],
  ["reject", 1],
  ["Deno.exit", 7, "Deno"],
];

/** How the main thread of a worker ends, and its exit code. */
const MAIN_THREAD_ENDS = [
  ["main thread exits", 7],
  ["main thread throws", 1],
] as const;

for (const kind of ["TemporaryFileLock", "PidFileLock"]) {
  for (const [how, expected, ...needs] of ENDS) {
    test(
      `a ${kind} that is still held is released when its process or thread ends: ${how}`,
      async () => {
        for (const runtime of allRuntimes) {
          if (needs.length > 0 && !runtime.name.startsWith("deno")) continue;
          using dir = tempDir();
          const command = fixtureCommand(runtime, "end_with_lock");
          const { code, stdout, stderr } = await runScript(
            [...command, how, kind, join(dir.path, "a")],
          );
          assert.equal(stdout, "held\n", `${runtime.name}: ${stderr}`);
          assert.equal(code, expected, `${runtime.name}: ${stderr}`);
          assert.deepEqual(sortedNames(dir.path), [], runtime.name);
        }
      },
      ...needs,
    );
  }

  for (const [how, expected] of MAIN_THREAD_ENDS) {
    test(
      `workers: a ${kind} that a thread of Node holds is released when the ${how}`,
      async () => {
        for (const runtime of runtimes) {
          if (!runtime.name.startsWith("node")) continue;
          using dir = tempDir();
          const command = fixtureCommand(runtime, "end_with_lock");
          const { code, stderr } = await runScript(
            [...command, how, kind, join(dir.path, "a")],
          );
          assert.equal(code, expected, `${runtime.name}: ${stderr}`);
          assert.deepEqual(sortedNames(dir.path), [], runtime.name);
        }
      },
      "inotify(7)",
    );
  }

  test(`workers: a thread that has released a ${kind} does not remove the file of the next holder`, async () => {
    for (const runtime of allRuntimes) {
      using dir = tempDir();
      const { code, stdout, stderr } = await runScript([
        ...fixtureCommand(runtime, "end_with_lock"),
        ...["thread has released its file", kind, join(dir.path, "a")],
      ]);
      assert.equal(stdout, "still there\n", `${runtime.name}: ${stderr}`);
      assert.equal(code, 0, `${runtime.name}: ${stderr}`);
      assert.deepEqual(sortedNames(dir.path), [], runtime.name);
    }
  });

  test(
    `workers: a ${kind} of a thread that is terminated leaves no file behind`,
    async () => {
      for (const runtime of runtimes) {
        using dir = tempDir();
        const { code, stderr } = await runScript([
          ...fixtureCommand(runtime, "end_with_lock"),
          ...["thread leaves a file", kind, join(dir.path, "a")],
        ]);
        assert.equal(code, 0, `${runtime.name}: ${stderr}`);
        assert.deepEqual(sortedNames(dir.path), [], runtime.name);
      }
    },
    "inotify(7)",
  );

  test(`a ${kind} of another process survives the exit of a process that failed to acquire`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const library = await import("../../mod.ts") as unknown as Record<
      string,
      typeof TemporaryFileLock
    >;
    const Kind = entry(library, kind);
    await using _file = await new Kind(path).acquire();
    const before = sortedNames(dir.path);
    for (const runtime of allRuntimes) {
      for (const how of ["end", "exit", "thread ends", "thread exits"]) {
        const command = fixtureCommand(runtime, "end_with_lock");
        const { stdout } = await runScript([...command, how, kind, path]);
        assert.equal(stdout, "refused\n");
        assert.deepEqual(sortedNames(dir.path), before, runtime.name);
        assert.equal(await new Kind(path).tryAcquire(), null);
      }
    }
  });
}

for (const what of ["error", "rejection"]) {
  test(`a TemporaryFileLock stays held if the program handles the ${what}`, async () => {
    for (const runtime of allRuntimes) {
      using dir = tempDir();
      const { code, stdout, stderr } = await runScript([
        ...fixtureCommand(runtime, "end_with_lock"),
        ...[`${what} is handled`, "TemporaryFileLock", join(dir.path, "a")],
      ]);
      const ways = runtime.name.startsWith("deno") ? 3 : 1;
      assert.equal(stdout, "held\n" + "kept\n".repeat(ways), stderr);
      assert.equal(code, 0, `${runtime.name}: ${stderr}`);
      assert.deepEqual(sortedNames(dir.path), [], runtime.name);
    }
  });
}

/** Returns the command that runs a file of tests. */
function testRunner({ name, command }: TestRuntime): string[] {
  const [program = "", ...args] = command;
  if (name.startsWith("deno")) return [program, "test", ...args.slice(1)];
  return [program, name.startsWith("bun") ? "test" : "--test"];
}

test("locks that tests leave held are released when the test runner ends", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const path = join(dir.path, "held");
    fs.mkdirSync(path);
    const command = fixtureCommand(
      { ...runtime, command: testRunner(runtime) },
      "held_in_test_runner",
    );
    const env: NodeJS.ProcessEnv = { ...process.env, HELD_IN: path };
    // A runner of tests that this runner starts would report to this one.
    delete env.NODE_TEST_CONTEXT;
    const { code, stdout, stderr } = await runScript(command, { env });
    assert.equal(code, 1, runtime.name);
    assert.match(stdout + stderr, /fails on purpose/, runtime.name);
    assert.deepEqual(sortedNames(path), [], runtime.name);
  }
});

test("a lock that was released at exit can be closed again, which closes no other file", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const { code, stdout, stderr } = await runScript([
      ...fixtureCommand(runtime, "end_with_lock"),
      "closes at exit",
      "TemporaryFileLock",
      join(dir.path, "a"),
    ]);
    assert.equal(code, 0, stderr);
    assert.equal(stdout, "held\nstill open\n", runtime.name);
    assert.deepEqual(sortedNames(dir.path), ["other"]);
  }
});
