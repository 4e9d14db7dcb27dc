/**
 * Runs the suite on the Windows builds of Node and Bun, under Wine. What it
 * needs it takes from npm and Debian. Arguments name test files, `--only=` the
 * runtimes.
 */

import { spawn, spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync, rmSync } from "node:fs";
import { basename, join, relative } from "node:path";
import process from "node:process";
import { installDebianPackages, installWine } from "./debian.mjs";
import { counts, failures, tellProblems } from "./junit.mjs";
import { compileTests, filesBelow, root, setUp } from "./setup.mjs";
import {
  build,
  environment,
  makeWindows,
  windowsPath,
  windowsRuntimes,
} from "./windows.mjs";
import { openHost } from "./wine_host.mjs";

/** One file's tests, at most. */
const LONGEST_FILE = 5 * 60_000;

const arguments_ = process.argv.slice(2);
const only = arguments_.find((argument) => argument.startsWith("--only="))
  ?.slice("--only=".length).split(",");
const named = arguments_.filter((argument) => !argument.startsWith("--"));

async function main() {
  const all = windowsRuntimes();
  const host = await openHost();
  const surroundings = {
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
    const chosen = all.filter(({ name }) => !only || only.includes(name));
    const suites = chosen.map((runtime) => runSuite(runtime, surroundings));
    return report(await Promise.all(suites));
  } finally {
    host.close();
    // Of this prefix alone.
    spawnSync("wineserver", ["-k"], { env: environment({}) });
  }
}

/** How each runtime runs one test file and writes a report as JUnit does. */
const RUNNERS = {
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

setUp();
compileTests();
installDebianPackages();
const lack = whatLacks();
if (lack === null) {
  process.exitCode = await main();
} else {
  console.log(`SKIPPED everything under Wine: ${lack}`);
  console.log("\n0 passed, 0 failed, 1 skipped");
}

/** Why there is no Windows here, `null` if there is one. */
function whatLacks() {
  if (!installWine()) return "Wine cannot be had here";
  try {
    makeWindows();
    return null;
  } catch (error) {
    return `no Windows can be made here: ${error.message}`;
  }
}

async function runSuite(runtime, surroundings) {
  const { name, extension } = runtime;
  const suite = {
    ...{ name, passed: [], failed: [], skipped: [], broken: [] },
    ...{ reasons: [], needs: [] },
  };
  for (const test of testFiles()) {
    const file = test.replace(/\.ts$/, extension);
    const report = join(build, `${name}.xml`);
    rmSync(report, { force: true });
    const { status, output } = await runFile(
      runtime,
      surroundings,
      file,
      report,
    );
    suite.needs.push(...output.match(/^SKIPPED .*: needs .*$/gm) ?? []);
    const found = counts(report);
    for (const kind of ["passed", "failed", "skipped", "reasons"]) {
      suite[kind].push(...found[kind]);
    }
    if (status !== 0 && found.failed.length === 0) {
      suite.broken.push(`${test} ended with ${status}`);
    }
    console.log(
      `${
        status === 0 ? "ok" : "FAILED"
      } ${name} ${test}: ${found.passed.length} ` +
        `passed, ${found.failed.length} failed, ${found.skipped.length} skipped`,
    );
  }
  return suite;
}

/** Shows what the tests said only where something went wrong. */
async function runFile(runtime, surroundings, file, report) {
  const { name, command, directory } = runtime;
  const output = join(build, `${name}.txt`);
  // A file, since Node and Bun cannot write to pipes that are not Wine's.
  const fd = openSync(output, "w");
  const args = [
    ...command,
    ...RUNNERS[name](file.replaceAll("/", "\\"), windowsPath(report)),
  ];
  const child = spawn("wine", args, {
    cwd: directory,
    env: environment({ PORTALOCK_TEST: JSON.stringify(surroundings) }),
    stdio: ["ignore", fd, fd],
    timeout: LONGEST_FILE,
    killSignal: "SIGKILL",
  });
  const status = await new Promise((resolve) =>
    child.on("close", (code, signal) => resolve(code ?? signal))
  );
  closeSync(fd);
  const said = readFileSync(output, "utf8").replaceAll("\r", "");
  if (status !== 0) process.stdout.write(said);
  return { status, output: said };
}

function testFiles() {
  return filesBelow(join(root, "tests"), (path) => {
    const name = basename(path);
    return name.endsWith("_test.ts") &&
      (named.length === 0 || named.some((part) => name.includes(part)));
  }).map((path) => relative(root, path)).sort();
}

function report(suites) {
  console.log("\n=== under Wine\n");
  const problems = [];
  const everyName = new Set(
    suites.flatMap((
      suite,
    ) => [...suite.passed, ...suite.failed, ...suite.skipped]),
  );
  for (const suite of suites) {
    const { name, passed, failed, skipped, broken } = suite;
    console.log(
      `${`${name} for Windows`.padEnd(18)}${passed.length} passed, ` +
        `${failed.length} failed, ${skipped.length} skipped`,
    );
    problems.push(...failures(suite));
    for (const what of broken) problems.push(`${name}: ${what}`);
    const own = new Set([...passed, ...failed, ...skipped]);
    for (const test of everyName) {
      if (!own.has(test)) problems.push(`${name}: did not run: ${test}`);
    }
  }
  const needs = new Set(suites.flatMap((suite) => suite.needs));
  for (const need of [...needs].sort()) console.log(need);
  if (everyName.size === 0) problems.push("no test was found");
  tellProblems(problems);
  const sum = (kind) =>
    suites.reduce((total, suite) => total + suite[kind].length, 0);
  console.log(
    `\n${sum("passed")} passed, ${problems.length} failed, ` +
      `${sum("skipped")} skipped`,
  );
  return problems.length > 0 ? 1 : 0;
}
