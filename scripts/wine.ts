/**
 * `npm run wine`: runs the tests on the Windows builds of Node and Bun, under
 * Wine. Installs what it needs from npm and Debian.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { installWine } from "./setup/debian.ts";
import { root, type Runtime } from "./setup/mod.ts";
import { prepareInParallel } from "./setup/prepare.ts";
import {
  build,
  makeWindows,
  windowsPath,
  windowsRuntimes,
  wineEnvironment,
} from "./setup/wine.ts";
import { openHost } from "./setup/wine_host.ts";
import { command } from "./shared/command.ts";
import { selectFiles, testFiles } from "./test/files.ts";
import { runAll } from "./test/jobs.ts";
import { readReport } from "./test/junit.ts";
import { parseOptions as parseTestOptions } from "./test/options.ts";
import {
  count,
  countsLine,
  failuresOf,
  type FileResult,
  printProblems,
  suitesOf,
} from "./test/report.ts";
import { jobsFor } from "./test/table.ts";

/** One test file keeps about 0.3 processors busy, because Wine mostly waits. */
const JOBS = 2 * availableParallelism();

/** The time limit of one test file. */
const TIMEOUT_MS = 10 * 60_000;

const USAGE = `\
Runs the tests on the Windows builds of Node and Bun, under Wine.

node scripts/wine.mjs [--only=node|bun] [--jobs=N] [FILE]...

FILE is the name of a test file, as for scripts/test.mjs. N files run at the
same time.
`;

/** A test file with its output. */
interface WineResult extends FileResult {
  output: string;
  /** Whether a test began. */
  started: boolean;
}

const running = new Set<ChildProcess>();

/** How each runtime runs one test file and writes a report as JUnit does. */
const ARGUMENTS: Record<string, (file: string, report: string) => string[]> = {
  node: (file, report) => [
    "--test-reporter=spec",
    "--test-reporter-destination=stdout",
    "--test-reporter=junit",
    `--test-reporter-destination=${report}`,
    file,
  ],
  bun: (file, report) => [
    "test",
    "--timeout=120000",
    "--reporter=junit",
    `--reporter-outfile=${report}`,
    `./${file}`,
  ],
};

await command(
  "wine",
  { USAGE, parseOptions: (args) => parseTestOptions(args, JOBS) },
  async ({ files: names, only, jobs }) => {
    // The tests of the scripts do not run on Windows.
    const files = selectFiles(testFiles(), names)
      .filter((file) => !file.startsWith("tests/scripts/"));
    await prepareInParallel();
    const reason = whyNoWindows();
    if (reason !== null) {
      console.log(`SKIPPED everything under Wine: ${reason}`);
      console.log(`\n${countsLine({ passed: 0, failed: 0, skipped: 1 })}`);
      return true;
    }
    killOnSignal();
    return await run(files, only, jobs);
  },
);

/** Returns why Windows programs cannot run here, or `null` if they can. */
function whyNoWindows(): string | null {
  if (!installWine()) return "Wine cannot be installed here";
  try {
    makeWindows();
    return null;
  } catch (error) {
    return `Wine does not start here: ${error}`;
  }
}

async function run(
  files: string[],
  only: string[] | null,
  jobs: number,
): Promise<boolean> {
  const all = windowsRuntimes();
  const host = await openHost();
  const environment = {
    root: windowsPath(root),
    runtimes: all.map((runtime) => ({
      ...runtime,
      directory: windowsPath(runtime.directory),
    })),
    python: null,
    newerPortalocker: null,
    oldest: [],
    peer: windowsPath(join(build, "peer.exe")),
    host: host.address,
  };
  try {
    const chosen = all.filter(({ name }) => only?.includes(name) ?? true);
    const text = JSON.stringify(environment);
    const tasks = jobsFor(files, chosen).map(({ runner, file }) => () =>
      runAndPrint(runner, file, text)
    );
    const { signal } = new AbortController();
    return report(await runAll(tasks, jobs, signal));
  } finally {
    host.close();
    stopWine();
  }
}

/** Ends all programs of this prefix. */
function stopWine(): void {
  spawnSync("wineserver", ["-k"], { env: wineEnvironment() });
}

function killOnSignal(): void {
  const statuses = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      for (const child of running) child.kill("SIGKILL");
      stopWine();
      process.exit(statuses[signal]);
    });
  }
}

async function runAndPrint(
  runtime: Runtime,
  file: string,
  environment: string,
): Promise<WineResult> {
  const result = await runTwiceIfNothingRan(runtime, file, environment);
  const isGood = failuresOf([result]).length === 0;
  if (!isGood) process.stdout.write(result.output);
  console.log(
    `${isGood ? "ok" : "FAILED"} ${runtime.name} ${file}: ` +
      `${countsLine(count([result]))} (${result.seconds.toFixed(1)} s)`,
  );
  return result;
}

/**
 * Runs a file, and once more if its process ended before it ran or skipped a
 * test. This was seen once in some thousand starts under Wine, without a known
 * cause. The output says so, because a defect of the library could look alike.
 */
async function runTwiceIfNothingRan(
  runtime: Runtime,
  file: string,
  environment: string,
): Promise<WineResult> {
  const first = await runFile(runtime, file, environment);
  const ended = first.complete && first.problems.length > 0;
  if (!ended || first.started || first.tests.length > 0) return first;
  process.stdout.write(first.output);
  for (const problem of first.problems) {
    console.log(`REPEATED ${problem} before its first test`);
  }
  return await runFile(runtime, file, environment);
}

async function runFile(
  { name, command, directory, extension }: Runtime,
  file: string,
  environment: string,
): Promise<WineResult> {
  const base = join(build, "results", name, file.replace(/\.ts$/, ""));
  mkdirSync(dirname(base), { recursive: true });
  const [report, outputPath] = [`${base}.xml`, `${base}.txt`];
  const runningTest = `${base}.running`;
  rmSync(report, { force: true });
  writeFileSync(runningTest, "");
  const args = ARGUMENTS[name];
  if (args === undefined) throw new Error(`no test runner: ${name}`);
  const windowsFile = file.replace(/\.ts$/, extension).replaceAll("/", "\\");
  // A file, because Node and Bun cannot write to pipes that are not Wine's.
  const output = openSync(outputPath, "w");
  const start = performance.now();
  const child = spawn(
    "wine",
    [...command, ...args(windowsFile, windowsPath(report))],
    {
      cwd: directory,
      env: wineEnvironment({
        PORTALOCK_TEST: environment,
        PORTALOCK_RUNNING_TEST: windowsPath(runningTest),
      }),
      stdio: ["ignore", output, output],
    },
  );
  running.add(child);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, TIMEOUT_MS);
  const status = await new Promise((resolve) =>
    child.on("close", (code, signal) => resolve(code ?? signal))
  );
  clearTimeout(timer);
  running.delete(child);
  closeSync(output);
  const tests = readReport(report);
  const problems: string[] = [];
  if (timedOut) {
    const test = readFileSync(runningTest, "utf8").trim() || "unknown";
    problems.push(
      `${name}: ${file} was killed at its time limit of ` +
        `${TIMEOUT_MS / 1000} s, in the test: ${test}`,
    );
  } else if (
    status !== 0 && !tests.some(({ outcome }) => outcome === "failed")
  ) {
    problems.push(`${name}: ${file} ended with status ${status}`);
  }
  return {
    runner: { name },
    file,
    tests,
    output: readFileSync(outputPath, "utf8").replaceAll("\r", ""),
    started: readFileSync(runningTest, "utf8") !== "",
    seconds: (performance.now() - start) / 1000,
    problems,
    complete: !timedOut,
  };
}

function report(results: WineResult[]): boolean {
  console.log("\n=== under Wine\n");
  for (const [name, own] of suitesOf(results, () => false)) {
    console.log(
      `${`${name} for Windows`.padEnd(18)}${countsLine(count(own))}`,
    );
  }
  const needs = new Set(
    results.flatMap(({ output }) => output.match(/^SKIPPED .*: needs .*$/gm))
      .filter((line) => line !== null),
  );
  for (const need of [...needs].sort()) console.log(need);
  const problems = failuresOf(results);
  if (results.every(({ tests }) => tests.length === 0)) {
    problems.push("no test was found");
  }
  printProblems(problems);
  const { passed, skipped } = count(results);
  console.log(`\n${countsLine({ passed, failed: problems.length, skipped })}`);
  return problems.length === 0;
}
