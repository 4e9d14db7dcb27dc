import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { root, type Runtime, runtimes } from "../../scripts/setup/mod.ts";
import { type JobResult, runJob } from "../../scripts/test/jobs.ts";
import { problemsOf } from "../../scripts/test/report.ts";
import { type Runner, runnersFor } from "../../scripts/test/runners.ts";

const FIXTURE = "tests/scripts/fixtures/hanging.ts";

/** Enough for the fixture to start, also on a busy machine. */
const TIMEOUT_MS = 12_000;

const runners = runnersFor(runtimes())
  .filter(({ extension }) => extension === ".ts");

/** Whether FUSE file systems can be mounted here. */
const hasFuse = process.getuid?.() === 0 && existsSync("/dev/fuse") &&
  spawnSync("bindfs", ["--version"]).status === 0;

/** A folder for the reports, and the environment of the fixture. */
function fixture() {
  const folder = mkdtempSync(join(tmpdir(), "portalock scripts-"));
  const log = join(folder, "log");
  const env = {
    ...process.env,
    HANGING_LOG: log,
    HANGING_FUSE: hasFuse ? "1" : "0",
  };
  return {
    folder,
    log,
    env,
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  };
}

/** Asserts that what the fixture started is gone. */
function assertNothingIsLeft(log: string): void {
  const lines = readFileSync(log, "utf8").trim().split("\n");
  const expected = ["stopped", "orphan"];
  if (hasFuse) expected.push("server", "client", "mount");
  assert.deepEqual(lines.map((line) => line.split(" ")[0]), expected);
  const mounts = process.platform === "linux"
    ? readFileSync("/proc/self/mountinfo", "utf8")
    : "";
  for (const line of lines) {
    const [name, value = ""] = line.split(" ");
    if (name === "mount") assert(!mounts.includes(value), line);
    else assert(!isRunning(Number(value)), `${line} is running`);
  }
}

/** Whether a process exists that is not a zombie. */
function isRunning(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", `${pid}`], {
    encoding: "utf8",
    timeout: 10_000,
  });
  return stdout.trim() !== "" && !stdout.trim().startsWith("Z");
}

function runFolders(): string[] {
  return readdirSync(tmpdir()).filter((name) => /^portalock-run-/.test(name));
}

async function runHanging(runner: Runner): Promise<JobResult> {
  using dir = fixture();
  const result = await runJob({ runner, file: FIXTURE }, {
    results: dir.folder,
    env: dir.env,
    pattern: null,
    timeoutMs: TIMEOUT_MS,
  });
  assert(existsSync(`${dir.log}.ready`), result.output);
  assertNothingIsLeft(dir.log);
  return result;
}

/** Starts the fixture on all runtimes at the same time. */
function hangEverywhere(): Map<Runner, Promise<JobResult>> {
  const all = new Map(runners.map((runner) => [runner, runHanging(runner)]));
  // A rejection fails the test that awaits it.
  for (const result of all.values()) result.catch(() => {});
  return all;
}

let hanging: Map<Runner, Promise<JobResult>> | undefined;

for (const runner of runners) {
  test(`a test file that hangs is killed with all that it started and reported in one line, on ${runner.name}`, async () => {
    hanging ??= hangEverywhere();
    const result = await hanging.get(runner);
    assert(result !== undefined);
    assert.equal(result.complete, false);

    // Another runtime ran both tests: they are not reported as missing.
    const [other] = runners.filter((each) => each !== runner);
    assert(other !== undefined);
    const names = ["a test that passes", "a test that blocks its thread"];
    const complete: JobResult = {
      ...result,
      runner: other,
      complete: true,
      problems: [],
      tests: names.map((name) => ({
        name,
        outcome: "passed",
        seconds: 0,
        reason: "",
      })),
    };
    assert.deepEqual(problemsOf([result, complete]), [
      `${runner.name}: ${FIXTURE} was killed at its time limit of ` +
      `${TIMEOUT_MS / 1000} s, in the test: a test that blocks its thread`,
    ]);
  });
}

test("no temporary folder of a test file stays", async () => {
  await Promise.allSettled(hanging?.values() ?? []);
  assert.deepEqual(runFolders(), []);
});

test("a run that is interrupted kills all that it started", async () => {
  // The runtime that runs the scripts, if it exists for this platform.
  const runner = runners.find(({ name }) => name === "node26") ?? runners[0];
  assert(runner !== undefined);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    using dir = fixture();
    const script = join(root, "tests", "scripts", "fixtures", "run_job.ts");
    const runtime: Runtime | undefined = runtimes().find(({ name }) =>
      name === runner.name
    );
    assert(runtime !== undefined);
    const [program, ...args] = runtime.command;
    const child: ChildProcess = spawn(program, [
      ...args,
      script,
      runner.name,
      dir.folder,
    ], {
      env: dir.env,
      stdio: "ignore",
    });
    const ended = new Promise((resolve) => child.on("exit", resolve));
    while (!existsSync(`${dir.log}.ready`)) {
      assert.equal(child.exitCode, null);
      await delay(20);
    }
    // A terminal and the process that started it both send the signal.
    child.kill(signal);
    child.kill(signal);
    const status = await ended;
    // Deno reports a status of 128 + signal as a signal.
    if (status !== null) assert.equal(status, signal === "SIGINT" ? 130 : 143);
    assertNothingIsLeft(dir.log);
    assert.deepEqual(runFolders(), []);
  }
});
