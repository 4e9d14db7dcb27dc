/** `npm run check`: format, lint, types, documentation and prose. */

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative } from "node:path";
import process from "node:process";
import { compareAddon, hasCompiler, staleAddon } from "./addon/compile.ts";
import { findBannedPhrases } from "./prose/check.ts";
import { defaultRedis, installCompiler } from "./setup/debian.ts";
import { filesBelow, root, runtimes, systemNode } from "./setup/mod.ts";
import { prepareInParallel } from "./setup/prepare.ts";
import { runAll } from "./test/jobs.ts";
import { countsLine } from "./test/report.ts";
import { staleVerified } from "./verified.ts";

/** A check, which returns what is wrong, or `""`. */
interface Check {
  name: string;
  run(): Promise<string> | string;
}

const MODULES = ["mod.ts", "src/redis/mod.ts", "src/cli/main.ts"];
const TYPESCRIPT = join(root, "node_modules", "typescript", "bin", "tsc");

await prepareInParallel();
const deno = denoProgram();
// Examples may leave files here.
const elsewhere = mkdtempSync(join(tmpdir(), "portalock examples-"));
const redis = await defaultRedis();
if (redis === null) {
  console.log("SKIPPED examples with Redis: needs redis-server");
}

const canCompile = installCompiler() && hasCompiler();
if (!canCompile) {
  console.log("SKIPPED compiling the addon: needs clang 14 of Debian 12");
}

const CHECKS: readonly Check[] = [
  // First, because it takes longest.
  { name: "examples in documentation", run: runExamples },
  program("format", [deno, "fmt", "--check"]),
  program("lint", [deno, "lint"]),
  program("types in Deno", [deno, "check", ...MODULES, "tests"]),
  types("types of the package", "tsconfig.npm.json"),
  types("types of the tests", "tsconfig.tests.json"),
  types("types of scripts, bench and examples", "tsconfig.scripts.json"),
  program("documentation of everything public", [
    ...[deno, "doc", "--lint"] as const,
    ...MODULES,
  ]),
  {
    name: "tests of each promise in the documentation",
    run: () => staleVerified().join("\n"),
  },
  { name: "prose", run: checkProse },
  {
    name: "addon in binaries.ts",
    run: () => staleAddon() || (canCompile ? compareAddon() : ""),
  },
];

let failed = 0;
const tasks = CHECKS.map(({ name, run }) => async () => {
  const wrong = await run();
  console.log(`${wrong === "" ? "ok" : "FAILED"} ${name}`);
  if (wrong === "") return;
  failed++;
  console.log(wrong);
});
await runAll(tasks, availableParallelism(), new AbortController().signal);
redis?.kill();
rmSync(elsewhere, { recursive: true });
const passed = CHECKS.length - failed;
const skipped = [redis !== null, canCompile].filter((has) => !has).length;
console.log(`\n${countsLine({ passed, failed, skipped })}`);
process.exitCode = failed > 0 ? 1 : 0;

function denoProgram(): string {
  const runtime = runtimes().find(({ name }) => name === "deno");
  if (runtime === undefined) {
    throw new Error("Cannot check: npm did not install Deno");
  }
  return runtime.command[0];
}

function types(name: string, config: string): Check {
  return program(name, [systemNode(), TYPESCRIPT, "-p", config, "--noEmit"]);
}

/** A check that is a program, which reports by its exit status. */
function program(
  name: string,
  command: readonly [string, ...string[]],
  cwd = root,
): Check {
  return { name, run: () => outputIfFailed(command, cwd) };
}

async function outputIfFailed(
  [program, ...args]: readonly [string, ...string[]],
  cwd: string,
): Promise<string> {
  const env = { ...process.env, NO_COLOR: "1" };
  const child = spawn(program, args, { cwd, env });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data) => output += data);
  }
  const status = await new Promise<number | null>((resolve, reject) =>
    child.on("error", reject).on("close", resolve)
  );
  return status === 0 ? "" : output || `ended with status ${status}`;
}

function runExamples(): Promise<string> {
  const command = join(root, "src", "cli", "main.ts");
  const files = [
    join(root, "mod.ts"),
    // The command runs when it is imported.
    ...filesBelow(join(root, "src"), (path) => path !== command),
    ...filesBelow(root, (path) => path.endsWith(".md")),
  ];
  const usesRedis = (path: string) =>
    readFileSync(path, "utf8").includes("portalock/redis");
  return outputIfFailed([
    deno,
    "test",
    "-A",
    "--doc",
    `--config=${join(root, "deno.json")}`,
    `--import-map=${join(root, "tests", "documentation.import_map.json")}`,
    ...files.filter((path) => redis !== null || !usesRedis(path)),
  ], elsewhere);
}

function checkProse(): string {
  return findBannedPhrases([root]).map(({ path, line, phrase, better }) =>
    `${relative(root, path)}:${line}: ${phrase} -> ${better}`
  ).join("\n");
}
