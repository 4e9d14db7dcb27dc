import assert from "node:assert/strict";
import { join } from "node:path";
import process from "node:process";
import { runtimes, type TestRuntime } from "../support/env.ts";
import { runScript } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

/**
 * Runs `fixtures/wait_for_lock` on a runtime, through another command if one is
 * given.
 */
async function run(
  runtime: TestRuntime,
  mode: string,
  options: { env?: NodeJS.ProcessEnv; through?: string[] } = {},
) {
  using dir = tempDir();
  const script = join(runtime.directory, "tests", "fixtures", "wait_for_lock");
  const { through = [], env } = options;
  return await runScript([
    ...through,
    ...runtime.command,
    script + runtime.extension,
    mode,
    join(dir.path, "a.lock"),
  ], { env: { ...process.env, ...env } });
}

/**
 * Checks on every runtime that a mode of the fixture succeeds and the process
 * then exits.
 */
async function checkMode(
  mode: string,
  options: { env?: NodeJS.ProcessEnv; through?: string[] } = {},
) {
  for (const runtime of runtimes) {
    const { code, stdout, stderr } = await run(runtime, mode, options);
    assert.equal(stdout, "done\n", `${runtime.name}: ${code} ${stderr}`);
    assert.equal(code, 0, runtime.name);
  }
}

test("a process exits by itself after its last wait", () => checkMode("end"));

test("a process exits by itself while it uses the signal of a held lock", () =>
  checkMode("signal"));

test("process.exit() ends a process that waits", async () => {
  for (const runtime of runtimes) {
    assert.equal((await run(runtime, "exit")).code, 7, runtime.name);
  }
});

test("64 waiters do not use the thread pool, even if it has one thread", () =>
  checkMode("many waiters", { env: { UV_THREADPOOL_SIZE: "1" } }));

test("waiting workers do not use the thread pool and can be terminated", () =>
  checkMode("threads"));

test("waiters poll when their inotify descriptor was closed", () =>
  checkMode("closed descriptor"));

for (const what of ["instances", "watches"]) {
  test(
    `waiters poll when the limit of inotify ${what} is reached`,
    () =>
      checkMode("one waiter", {
        through: [
          "unshare",
          "--user",
          "--map-root-user",
          "sh",
          "-c",
          `echo 0 > /proc/sys/user/max_inotify_${what} && exec "$@"`,
          "sh",
        ],
      }),
    "user namespaces",
  );
}

test(
  "Deno's test sanitizers find no leak in a test that waits",
  async () => {
    const { command, directory } = runtimes.find(({ name }) =>
      name === "deno"
    )!;
    const script = join(directory, "tests", "fixtures", "deno_sanitizers.ts");
    const options = ["--no-check", "--sanitize-ops", "--sanitize-resources"];
    const test = [at(command, 0), "test", "-A", ...options, script];
    const { code, stdout } = await runScript(test);
    assert.equal(code, 0, stdout);
    assert.match(stdout, /2 passed/);
  },
  "Deno, Bun and Node",
  "/proc",
);
