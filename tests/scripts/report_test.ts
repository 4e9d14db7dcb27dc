import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { readReport, type TestResult } from "../../scripts/test/junit.ts";
import {
  type FileResult,
  problemsOf,
  suitesOf,
  writeSummary,
} from "../../scripts/test/report.ts";

function temporaryFile(): { path: string } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), "portalock scripts-"));
  return {
    path: join(folder, "file"),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  };
}

/** The result of a file: names of tests, each with "!" failed or "-" skipped. */
function result(
  runner: string,
  file: string,
  ...names: string[]
): FileResult {
  const tests = names.map((name): TestResult => ({
    name: name.replace(/[!-]$/, ""),
    outcome: name.endsWith("!")
      ? "failed"
      : name.endsWith("-")
      ? "skipped"
      : "passed",
    seconds: 0,
    reason: name.endsWith("!") ? "the reason" : "",
  }));
  return {
    runner: { name: runner },
    file,
    tests,
    seconds: 0,
    problems: [],
    complete: true,
  };
}

const LOCK = "tests/lock/lock_test.ts";
const MODEL = "tests/model/redis_model_test.ts";

test("a test that a runtime does not run is a problem", () => {
  const results = [result("deno", LOCK, "a", "b"), result("bun", LOCK, "a")];
  assert.deepEqual(problemsOf(results), [`bun: did not run: b (${LOCK})`]);
});

test("a file that runs once is not missing on other runtimes", () => {
  const results = [
    result("deno", LOCK, "a"),
    result("bun", LOCK, "a"),
    result("deno", MODEL, "b"),
  ];
  assert.deepEqual(problemsOf(results), []);
  assert.deepEqual([...suitesOf(results).keys()], [
    "deno",
    "bun",
    "any runtime",
  ]);
});

test("a failed test is a problem with its reason", () => {
  assert.deepEqual(problemsOf([result("bun", LOCK, "a", "b!")]), [
    `bun: failed: b (${LOCK})\nthe reason`,
  ]);
});

test("only Deno without FFI may skip more tests than other runtimes", () => {
  const deno = result("deno", LOCK, "a");
  assert.deepEqual(
    problemsOf([deno, result("deno without FFI", LOCK, "a-")]),
    [],
  );
  assert.deepEqual(problemsOf([deno, result("bun", LOCK, "a-")]), [
    `deno: runs what other runtimes skip: a (${LOCK})`,
  ]);
});

test("the summary lists the result of each test on each runtime", () => {
  using file = temporaryFile();
  writeSummary(file.path, [
    result("deno", LOCK, "a", "b-"),
    result("bun", LOCK, "a!", "b"),
  ]);
  assert.deepEqual(JSON.parse(readFileSync(file.path, "utf8")), {
    a: { file: LOCK, runtimes: { deno: "passed", bun: "failed" } },
    b: { file: LOCK, runtimes: { deno: "skipped", bun: "passed" } },
  });
});

test("a JUnit report is read whatever characters the names have", () => {
  using file = temporaryFile();
  writeFileSync(
    file.path,
    `<testsuites>
      <testcase name="a > b, &quot;c&quot;" time="0.5" />
      <testcase name="d &amp;amp; e" classname="x"><skipped/></testcase>
      <testcase name="f"><failure message="m">why &lt;g&gt;</failure></testcase>
    </testsuites>`,
  );
  assert.deepEqual(readReport(file.path), [
    { name: 'a > b, "c"', outcome: "passed", seconds: 0.5, reason: "" },
    { name: "d & e", outcome: "skipped", seconds: 0, reason: "" },
    { name: "f", outcome: "failed", seconds: 0, reason: "why <g>" },
  ]);
  assert.deepEqual(readReport(`${file.path}.missing`), []);
});
