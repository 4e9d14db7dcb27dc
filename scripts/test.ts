/**
 * Runs the one suite on every runtime and compares the counts: a runtime that
 * lacks a test or runs fewer than the others fails. Arguments name the test
 * files to run, `--only=` the runtimes.
 */

import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join, relative } from "node:path";
import process from "node:process";
import { installDebianPackages, newerPortalocker, python } from "./debian.mjs";
import { compileTests, filesBelow, oldestRuntimes } from "./setup.mjs";
import { checkPackage } from "./package.mjs";
import { counts, failures, tellProblems } from "./junit.mjs";
import { muslBun } from "./musl.mjs";
import { root, runtimes, setUp } from "./setup.mjs";

const results = join(root, "build", "results");
const LONGEST_SUITE = 15 * 60_000;

/** How each runtime runs test files and writes a report as JUnit does. */
const RUNNERS = {
  deno: (command, files, report) => [
    command[0],
    ["test", "-A", "--no-check", `--junit-path=${report}`, ...files],
  ],
  bun: (command, files, report) => [
    command[0],
    [
      "test",
      "--timeout=120000",
      "--reporter=junit",
      `--reporter-outfile=${report}`,
      ...files.map((file) => `./${file}`),
    ],
  ],
  node: (command, files, report) => [
    command[0],
    [
      "--test",
      "--test-concurrency=1",
      "--test-reporter=spec",
      "--test-reporter-destination=stdout",
      "--test-reporter=junit",
      `--test-reporter-destination=${report}`,
      ...files,
    ],
  ],
};
RUNNERS.node26 = RUNNERS.node;
/** Without FFI Deno locks through its own files; everything else is equal. */
RUNNERS["deno without FFI"] = (command, files, report) => {
  const [program, [test, , ...rest]] = RUNNERS.deno(command, files, report);
  const allow = ["read", "write", "run", "env", "sys", "net"];
  return [program, [test, ...allow.map((name) => `--allow-${name}`), ...rest]];
};

setUp();
compileTests();
installDebianPackages();
const all = runtimes();
const env = {
  ...process.env,
  PORTALOCK_TEST: JSON.stringify({
    root,
    runtimes: all,
    python: python(),
    newerPortalocker: newerPortalocker(join(root, "build", "python")),
    oldest: oldestRuntimes(),
    musl: muslBun(),
  }),
  NO_COLOR: "1",
};
const arguments_ = process.argv.slice(2);
const only = arguments_.find((argument) => argument.startsWith("--only="))
  ?.slice("--only=".length).split(",");
const named = arguments_.filter((argument) => !argument.startsWith("--"));
const tests = filesBelow(join(root, "tests"), (path) => {
  const name = basename(path);
  return name.endsWith("_test.ts") &&
    (named.length === 0 || named.some((part) => name.includes(part)));
}).map((path) => relative(root, path).replaceAll("\\", "/")).sort();

rmSync(results, { recursive: true, force: true });
mkdirSync(results, { recursive: true });
const deno = all.find(({ name }) => name === "deno");
const suites = [...all, ...deno ? [{ ...deno, name: "deno without FFI" }] : []]
  .filter(({ name }) => only === undefined || only.includes(name))
  .map(runSuite);
console.log("\n=== package\n");
const whole = only === undefined && named.length === 0;
report(suites, whole ? checkPackage() : { passed: 0, failed: 0, skipped: 0 });

function runSuite({ name, command, directory, extension }) {
  console.log(`\n=== ${name}\n`);
  const report = join(results, `${name.replaceAll(" ", "-")}.xml`);
  const files = tests.map((file) => file.replace(/\.ts$/, extension));
  const [program, args] = RUNNERS[name](command, files, report);
  const { status } = spawnSync(program, args, {
    cwd: directory,
    env,
    stdio: ["ignore", "inherit", "inherit"],
    // A blocked thread cannot even time out by itself.
    timeout: LONGEST_SUITE,
    killSignal: "SIGKILL",
  });
  return { name, status, ...counts(report) };
}

function report(suites, others) {
  console.log("\n=== in all\n");
  const problems = [];
  const names = (suite) => [...suite.passed, ...suite.failed, ...suite.skipped];
  const everyName = new Set(suites.flatMap(names));
  for (const suite of suites) {
    const { name, status, passed, failed, skipped } = suite;
    console.log(
      `${name.padEnd(18)}${passed.length} passed, ${failed.length} failed, ` +
        `${skipped.length} skipped`,
    );
    problems.push(...failures(suite));
    const own = names(suite);
    for (const test of everyName) {
      if (!own.includes(test)) problems.push(`${name}: did not run: ${test}`);
    }
    if (status !== 0 && failed.length === 0) {
      problems.push(`${name}: ended with status ${status}`);
    }
  }
  problems.push(...unevenSkips(suites));
  const missing = Object.keys(RUNNERS).filter((name) =>
    !suites.some((suite) => suite.name === name)
  );
  if (only === undefined) {
    for (const name of missing) problems.push(`${name}: is not installed`);
  }
  if (whole) {
    for (const [file, test] of documentedTests()) {
      if (!everyName.has(test)) problems.push(`${file}: no such test: ${test}`);
    }
  }
  if (everyName.size === 0) problems.push("no test was found");
  for (const { name, skipped } of suites) {
    for (const test of skipped) console.log(`SKIPPED ${name}: ${test}`);
  }
  tellProblems(problems);
  const sum = (kind) =>
    suites.reduce((total, suite) => total + suite[kind].length, others[kind]);
  // A problem that is no failed test counts as one.
  const failed = problems.length + others.failed;
  console.log(
    `\n${sum("passed")} passed, ${failed} failed, ${sum("skipped")} skipped`,
  );
  process.exitCode = failed > 0 ? 1 : 0;
}

/** The tests that the documents name: list items that are nothing else. */
function documentedTests() {
  const documents = filesBelow(join(root, "docs"));
  return documents.flatMap((file) =>
    [...readFileSync(file, "utf8").matchAll(/^ *- `(.+)`$/gm)]
      .map(([, test]) => [relative(root, file), test])
  );
}

/** Runtimes with descriptors must run the same tests, none skipping more. */
function unevenSkips(suites) {
  const equals = suites.filter(({ name }) => name !== "deno without FFI");
  const skips = new Set(equals.flatMap(({ skipped }) => skipped));
  return [...skips].flatMap((test) =>
    equals.filter(({ skipped }) => !skipped.includes(test))
      .map(({ name }) => `${name}: runs what others skip: ${test}`)
  );
}
