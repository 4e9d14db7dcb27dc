/** Compares the suites and prints the result of a run. */

import { writeFileSync } from "node:fs";
import type { TestResult } from "./junit.ts";
import { runsOnce } from "./table.ts";
import { WITHOUT_DESCRIPTORS } from "./runners.ts";

/** What became of a test file on one runtime. */
export interface FileResult {
  runner: { name: string };
  file: string;
  /** Its tests, or those that had ended when it was killed. */
  tests: TestResult[];
  seconds: number;
  /** Problems that are not failed tests, in one line each. */
  problems: string[];
  /** Whether it ended by itself, so that its list of tests is complete. */
  complete: boolean;
}

/** Counts of tests. */
export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** The name of the suite of tests that do not depend on the runtime. */
const ONCE = "any runtime";

/** Prints problems, in lines that a search can find. */
export function printProblems(problems: readonly string[]): void {
  for (const line of problems.flatMap((problem) => problem.split("\n"))) {
    console.log(`PROBLEM ${line}`);
  }
}

/** Counts tests by their outcome. */
export function count(results: readonly Pick<FileResult, "tests">[]): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { tests } of results) {
    for (const { outcome } of tests) counts[outcome]++;
  }
  return counts;
}

/** Formats counts as the lines that `.ci/run` adds up. */
export function countsLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/**
 * Groups the results by suite.
 *
 * @param once Whether a file counts for no runtime.
 */
export function suitesOf(
  results: readonly FileResult[],
  once: (file: string) => boolean = runsOnce,
): Map<string, FileResult[]> {
  const suites = new Map<string, FileResult[]>();
  for (const result of results) {
    const name = once(result.file) ? ONCE : result.runner.name;
    suites.set(name, [...suites.get(name) ?? [], result]);
  }
  return suites;
}

/** Returns failed tests and all differences between the suites. */
export function problemsOf(results: readonly FileResult[]): string[] {
  return [...failuresOf(results), ...unevenSkips(results)];
}

/** Returns failed tests, and tests that only some of the suites have. */
export function failuresOf(results: readonly FileResult[]): string[] {
  return [
    ...results.flatMap(({ problems }) => problems),
    ...results.flatMap(failures),
    ...missingTests(results),
  ];
}

function failures({ runner, file, tests }: FileResult): string[] {
  return tests.filter(({ outcome }) => outcome === "failed").map(
    ({ name, reason }) =>
      `${runner.name}: failed: ${name} (${file})\n${reason}`,
  );
}

/**
 * Every runtime must have the same tests in each file. A file that was killed
 * is a problem already, so its tests are not listed.
 */
function missingTests(results: readonly FileResult[]): string[] {
  const names = namesByFile(results);
  return results.filter(({ complete }) => complete).flatMap(
    ({ runner, file, tests }) => {
      const own = new Set(tests.map(({ name }) => name));
      return [...names.get(file) ?? []].filter((name) => !own.has(name))
        .map((name) => `${runner.name}: did not run: ${name} (${file})`);
    },
  );
}

function namesByFile(results: readonly FileResult[]): Map<string, Set<string>> {
  const names = new Map<string, Set<string>>();
  for (const { file, tests } of results) {
    const set = names.get(file) ?? new Set();
    for (const { name } of tests) set.add(name);
    names.set(file, set);
  }
  return names;
}

/** Tests of what only one runtime has built in, by their names. */
const OF_ONE_RUNTIME = /\bRedisClient of Bun\b/;

/**
 * Runtimes with file descriptors must not skip what another one runs, except
 * for {@linkcode OF_ONE_RUNTIME}.
 */
function unevenSkips(results: readonly FileResult[]): string[] {
  const equal = results.filter(({ runner }) =>
    runner.name !== WITHOUT_DESCRIPTORS
  );
  const skipped = new Set(
    equal.flatMap(({ file, tests }) =>
      tests.filter(({ outcome }) => outcome === "skipped")
        .map(({ name }) => `${file}\0${name}`)
    ),
  );
  return equal.flatMap(({ runner, file, tests }) =>
    tests.filter(({ name, outcome }) =>
      outcome !== "skipped" && skipped.has(`${file}\0${name}`) &&
      !OF_ONE_RUNTIME.test(name)
    ).map(({ name }) =>
      `${runner.name}: runs what other runtimes skip: ${name} (${file})`
    )
  );
}

/** Prints the counts of each suite, and the tests that were skipped. */
export function printSuites(results: readonly FileResult[]): void {
  const suites = suitesOf(results);
  for (const [name, own] of suites) {
    const seconds = own.reduce((sum, { seconds }) => sum + seconds, 0);
    console.log(
      `${name.padEnd(18)}${countsLine(count(own))} (${seconds.toFixed(0)} s)`,
    );
  }
  for (const [name, own] of suites) {
    for (const { tests } of own) {
      for (const test of tests) {
        if (test.outcome === "skipped") {
          console.log(`SKIPPED ${name}: ${test.name}`);
        }
      }
    }
  }
}

/** Writes `summary.json`: each test, its file, and its result on each runtime. */
export function writeSummary(
  path: string,
  results: readonly FileResult[],
): void {
  type Entry = { file: string; runtimes: Record<string, string> };
  const summary: Record<string, Entry> = {};
  for (const { runner, file, tests } of results) {
    for (const { name, outcome } of tests) {
      const entry = summary[name] ??= { file, runtimes: {} };
      entry.runtimes[runner.name] = outcome;
    }
  }
  writeFileSync(path, `${JSON.stringify(summary, null, 2)}\n`);
}
