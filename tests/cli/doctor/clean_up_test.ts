import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { diagnose } from "../../../src/cli/doctor/mod.ts";
import { Lock } from "../../../mod.ts";
import { tempDir } from "../../support/temp_dir.ts";
import { test } from "../../support/test.ts";
import {
  diagnosed,
  doctorCommand,
  leftOvers,
  probeCommand,
} from "./support.ts";

/** Starts the doctor, and waits until it has created a file. */
async function startDoctor(path: string): Promise<ChildProcess> {
  const [program = "", ...args] = doctorCommand("--quick", path);
  // A group of its own, as a shell with job control starts it.
  const child = spawn(program, args, { stdio: "ignore", detached: true });
  for (;;) {
    const [name] = leftOvers(path);
    if (name && fs.readdirSync(join(path, name)).length > 0) return child;
    assert.equal(child.exitCode, null);
    await delay(5);
  }
}

/** Waits until a directory is empty. */
async function untilEmpty(path: string): Promise<void> {
  while (leftOvers(path).length > 0) await delay(10);
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const) {
  test(
    `doctor: ${signal} ends it by that signal, and nothing is left`,
    async () => {
      using dir = tempDir();
      const child = await startDoctor(dir.path);
      const ended = once(child, "exit");
      process.kill(child.pid!, signal);
      assert.deepEqual(await ended, [null, signal]);
      assert.deepEqual(fs.readdirSync(dir.path), []);
    },
    "signals",
  );
}

/** Ctrl-C, Ctrl-\\, and the end of the terminal. */
for (const signal of ["SIGINT", "SIGQUIT", "SIGHUP"] as const) {
  test(
    `doctor: a ${signal} of the terminal ends all of its processes, and nothing is left`,
    async () => {
      using dir = tempDir();
      const child = await startDoctor(dir.path);
      const ended = once(child, "exit");
      process.kill(-child.pid!, signal);
      assert.deepEqual(await ended, [null, signal]);
      assert.deepEqual(fs.readdirSync(dir.path), []);
    },
    "signals",
  );
}

test("doctor: nothing is left if its process is killed", async () => {
  using dir = tempDir();
  const child = await startDoctor(dir.path);
  process.kill(child.pid!, "SIGKILL");
  await untilEmpty(dir.path);
}, "signals");

test("doctor: a signal of the caller ends it with its reason, and nothing is left", async () => {
  using dir = tempDir();
  const controller = new AbortController();
  const command = probeCommand();
  const reason = new Error("enough");
  const { signal } = controller;
  const diagnosing = diagnose([dir.path], { command, signal });
  diagnosing.catch(() => {});
  while (leftOvers(dir.path).length === 0) await delay(5);
  controller.abort(reason);
  await assert.rejects(diagnosing, reason);
  assert.deepEqual(fs.readdirSync(dir.path), []);
  assert.equal(process.listenerCount("SIGINT"), 0);
});

test("doctor: an aborted signal starts no process", async () => {
  const reason = new Error("never");
  const command = ["/nonexistent/program"];
  const signal = AbortSignal.abort(reason);
  await assert.rejects(diagnose(["."], { command, signal }), reason);
});

test("doctor: a file stays as it is, and is not locked", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.json");
  fs.writeFileSync(path, "content");
  const before = fs.statSync(path);
  // If the doctor locked the file, it would fail or wait.
  await using _held = await new Lock(path, { mode: "r" }).acquire();
  const diagnosis = await diagnosed([path]);
  assert.deepEqual(diagnosis.problems, []);
  assert.equal(diagnosis.paths[0]?.type, "file");
  assert.equal(diagnosis.paths[0].file?.updates, "replace");
  const { ino, mtimeMs, ctimeMs } = fs.statSync(path);
  assert.deepEqual(
    { ino, mtimeMs, ctimeMs },
    { ino: before.ino, mtimeMs: before.mtimeMs, ctimeMs: before.ctimeMs },
  );
  assert.deepEqual(fs.readdirSync(dir.path), ["a.json"]);
});
