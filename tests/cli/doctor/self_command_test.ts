import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { after } from "node:test";
import { commandOf } from "../../../ffi/runtime/self_command.ts";
import { runtimes, testEnv } from "../../support/env.ts";
import { runScript } from "../../support/processes.ts";
import { tempDir } from "../../support/temp_dir.ts";
import { test } from "../../support/test.ts";

const program = (name: string): string =>
  runtimes.find((runtime) => runtime.name === name)?.command[0] ?? "";

/** Builds the doctor with Bun, and returns the path. */
function build(directory: string, ...options: string[]): string {
  const path = join(directory, "doctor.cjs");
  const source = join(testEnv.root, "tests", "fixtures", "doctor.ts");
  execFileSync(
    program("bun"),
    ["build", ...options, `--outfile=${path}`, source],
    { stdio: "ignore" },
  );
  return path;
}

/** Checks that a command diagnoses a directory, in a directory without sources. */
async function assertDiagnoses(...command: string[]): Promise<void> {
  using dir = tempDir();
  const { code, stdout, stderr } = await runScript(
    [...command, "--quick", dir.path],
    { cwd: dir.path },
  );
  assert.equal(code, 0, stdout + stderr);
  assert.equal(JSON.parse(stdout).diagnosis.verdict, "works");
  assert.deepEqual(fs.readdirSync(dir.path), []);
}

const bundle = tempDir();
let bundled: string | undefined;

after(() => bundle[Symbol.dispose]());

/** Returns the path of the bundle, which is built once. */
function buildBundle(): string {
  return bundled ??= build(bundle.path, "--target=node", "--format=cjs");
}

test("doctor: a bundle for Node starts itself", async () => {
  await assertDiagnoses(program("node26"), buildBundle());
  await assertDiagnoses(program("node24"), buildBundle());
}, "Deno, Bun and Node");

test("doctor: an executable of bun build --compile starts itself", async () => {
  using dir = tempDir();
  await assertDiagnoses(build(dir.path, "--compile"));
}, "Deno, Bun and Node");

test("doctor: a single executable of Node starts itself", async () => {
  using dir = tempDir();
  const main = buildBundle();
  const output = join(dir.path, "executable");
  const config = join(dir.path, "sea.json");
  const disableExperimentalSEAWarning = true;
  fs.writeFileSync(
    config,
    JSON.stringify({ main, output, disableExperimentalSEAWarning }),
  );
  execFileSync(program("node26"), ["--build-sea", config]);
  await assertDiagnoses(output);
}, "Deno, Bun and Node");

test("the command of this program begins with its runtime, and names a file", () => {
  const [runtime, ...rest] = commandOf(false);
  assert.equal(runtime, process.execPath);
  assert.ok(rest.length > 0);
  assert.ok(!rest.some((option) => option.startsWith("--inspect")));
});
