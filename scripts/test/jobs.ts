/** Runs test files, several at the same time. */

import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { readReport } from "./junit.ts";
import { ProcessTree } from "./process_tree.ts";
import type { FileResult } from "./report.ts";
import type { Runner } from "./runners.ts";

/** A test file on one runtime. */
export interface Job {
  runner: Runner;
  file: string;
}

/** What became of a {@linkcode Job}. */
export interface JobResult extends FileResult, Job {
  runner: Runner;
  output: string;
}

/** How jobs run. */
export interface JobOptions {
  /** The folder for reports and outputs. */
  results: string;
  env: NodeJS.ProcessEnv;
  pattern: RegExp | null;
  timeoutMs: number;
}

/** Runs one test file with the runtime's own test runner. */
export async function runJob(
  { runner, file }: Job,
  { results, env, pattern, timeoutMs }: JobOptions,
): Promise<JobResult> {
  const name = file.replace(/^tests\//, "").replace(/\.ts$/, "");
  const base = join(results, runner.name.replaceAll(" ", "-"), name);
  mkdirSync(dirname(base), { recursive: true });
  const [report, running] = [`${base}.xml`, `${base}.running`];
  writeFileSync(running, "");
  const start = performance.now();
  const output = openSync(`${base}.txt`, "w");
  const tree = new ProcessTree(runner.testCommand(file, report, pattern), {
    cwd: runner.directory,
    // The harness writes the name of the test that starts.
    env: { ...env, PORTALOCK_RUNNING_TEST: running },
    output,
    timeoutMs,
  });
  const { status, timedOut, leftovers } = await tree.ended;
  closeSync(output);
  const text = readFileSync(`${base}.txt`, "utf8");
  const tests = readReport(report)
    // Bun and Node 20 report what does not match as skipped.
    .filter((test) => pattern === null || pattern.test(test.name));
  const problems = leftovers.map((left) =>
    `${runner.name}: ${file} left ${left}`
  );
  if (timedOut) {
    const test = readFileSync(running, "utf8").trim() || lastTest(text);
    problems.push(
      `${runner.name}: ${file} was killed at its time limit of ` +
        `${timeoutMs / 1000} s, in the test: ${test}`,
    );
  } else if (
    status !== 0 && !tests.some(({ outcome }) => outcome === "failed") &&
    // Bun fails if no test of the file matches.
    !(pattern !== null && / matched 0 tests/.test(text))
  ) {
    problems.push(`${runner.name}: ${file} ended with status ${status}`);
  }
  return {
    runner,
    file,
    tests,
    output: text,
    seconds: (performance.now() - start) / 1000,
    problems,
    complete: !timedOut,
  };
}

/** The test that ran last, by what the runners print. */
function lastTest(output: string): string {
  const lines = output.trimEnd().split("\n");
  // Deno prints the name when a test starts.
  const started = lines.map((line) => /^(.+) \.\.\. ?$/.exec(line)?.[1])
    .filter((name) => name !== undefined).at(-1);
  if (started !== undefined) return started;
  const ended = lines
    .map((line) => /^(?:✔|✖|\(pass\)|\(fail\)) (.+?) [([]/.exec(line)?.[1])
    .filter((name) => name !== undefined).at(-1);
  return ended === undefined ? "unknown (the first one)" : `after "${ended}"`;
}

/**
 * Runs tasks, at most `jobs` at the same time, in their order. If `signal`
 * aborts, no further task starts.
 */
export async function runAll<T>(
  tasks: readonly (() => Promise<T>)[],
  jobs: number,
  signal: AbortSignal,
): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const work = async () => {
    while (!signal.aborted) {
      const task = tasks[next++];
      if (task === undefined) return;
      results.push(await task());
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return results;
}

/**
 * Kills all running jobs on Ctrl-C and other signals, then exits. The returned
 * signal aborts first.
 */
export function killJobsOnSignal(): AbortSignal {
  const controller = new AbortController();
  const statuses = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      // A terminal sends the signal to this process and to the one that
      // started it, which forwards it.
      if (controller.signal.aborted) return;
      controller.abort();
      console.log(`\nInterrupted by ${signal}: killing all test processes`);
      void ProcessTree.killAll().finally(() => process.exit(statuses[signal]));
    });
  }
  return controller.signal;
}
