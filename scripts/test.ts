/**
 * `npm test`: runs the tests on every runtime and compares the results. A
 * runtime that runs fewer tests than another fails. See `test/options.ts` for
 * the command line.
 */

import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { prepareInParallel } from "./setup/prepare.ts";
import { node24, root, runtimes } from "./setup/mod.ts";
import { command } from "./shared/command.ts";
import { selectFiles, testFiles } from "./test/files.ts";
import {
  type JobResult,
  killJobsOnSignal,
  runAll,
  runJob,
} from "./test/jobs.ts";
import * as commandLine from "./test/options.ts";
import type { TestOptions } from "./test/options.ts";
import { packageJob, type PackageResult } from "./test/package_job.ts";
import { removeLeftovers } from "./test/process_tree.ts";
import {
  count,
  type Counts,
  countsLine,
  printProblems,
  printSuites,
  problemsOf,
  writeSummary,
} from "./test/report.ts";
import { runnersFor, SUITES } from "./test/runners.ts";
import { jobsFor, runsOnce } from "./test/table.ts";
import { testEnvironment } from "./test/environment.ts";
import { missingTests } from "./verified.ts";

const results = join(root, "build", "results");

await command("test", commandLine, async (options) => {
  // Before anything is installed or started.
  const files = selectFiles(testFiles(), options.files);
  const unknown = options.only?.filter((name) => !SUITES.includes(name)) ?? [];
  if (unknown.length > 0) {
    throw new RangeError(
      `Cannot run on ${unknown.join(", ")}: expected one of ` +
        SUITES.join(", "),
    );
  }
  const interrupted = killJobsOnSignal();
  await removeLeftovers();
  await prepareInParallel();
  return await run(files, options, interrupted);
});

async function run(
  files: readonly string[],
  { files: named, only, pattern, jobs, timeoutMs }: TestOptions,
  interrupted: AbortSignal,
): Promise<boolean> {
  rmSync(results, { recursive: true, force: true });
  mkdirSync(results, { recursive: true });
  const runners = runnersFor([...runtimes(), ...node24()]);
  const chosen = runners.filter(({ name }) => only?.includes(name) ?? true);
  const isWhole = only === null && named.length === 0 && pattern === null;
  const all = jobsFor(files, chosen);
  const how = { results, pattern, timeoutMs };
  const env = testEnvironment(runtimes());
  // What runs only once has to check Node 24, too.
  const onceEnv = testEnvironment([...runtimes(), ...node24()]);
  const finished: JobResult[] = [];
  const show = progress(all.length, named.length > 0 || pattern !== null);
  const others: PackageResult = {
    ...{ passed: 0, failed: 0, skipped: 0 },
    names: [],
  };
  const tasks = all.map((job) => async () => {
    const result = await runJob(job, {
      ...how,
      env: runsOnce(job.file) ? onceEnv : env,
    });
    if (interrupted.aborted) return;
    finished.push(result);
    show(result);
  });
  if (isWhole) {
    // One of the longest, and it does not use the processor much.
    tasks.unshift(async () => {
      Object.assign(others, await packageJob(join(results, "package.txt")));
    });
  }
  await runAll(tasks, jobs, interrupted);
  if (interrupted.aborted) return await new Promise<never>(() => {});

  console.log("\n=== in all\n");
  printSuites(finished);
  writeSummary(join(results, "summary.json"), finished);
  const names = finished.flatMap(({ tests }) => tests.map(({ name }) => name));
  const problems = problemsOf(finished);
  for (const name of only ?? SUITES) {
    if (!chosen.some((runner) => runner.name === name)) {
      problems.push(`${name}: is not installed`);
    }
  }
  if (isWhole) problems.push(...missingTests([...names, ...others.names]));
  if (names.length === 0 && problems.length === 0) {
    problems.push("no test was found");
  }
  printProblems(problems);
  const { passed, skipped } = count(finished);
  // A problem that is not a failed test counts as one.
  const total: Counts = {
    passed: passed + others.passed,
    failed: problems.length + others.failed,
    skipped: skipped + others.skipped,
  };
  console.log(`\n${countsLine(total)}`);
  return total.failed === 0;
}

/** Returns a function that prints a line for each finished file. */
function progress(
  total: number,
  showsOutput: boolean,
): (result: JobResult) => void {
  let done = 0;
  return (result) => {
    const { runner, file, tests, output, seconds, problems } = result;
    const failed = problems.length > 0 ||
      tests.some(({ outcome }) => outcome === "failed");
    if (failed || showsOutput) {
      console.log(`\n=== ${runner.name}: ${file}\n`);
      process.stdout.write(output);
    }
    console.log(
      `${`[${++done}/${total}]`.padEnd(10)}${failed ? "FAILED" : "ok"} ` +
        `${runner.name}: ${file}: ${countsLine(count([result]))} ` +
        `(${seconds.toFixed(1)} s)`,
    );
  };
}
