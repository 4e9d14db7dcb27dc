/**
 * `npm run consume`: consumes the packed package in empty folders, as a user
 * does: with bundlers, test runners, package managers and compilers. Each
 * result locks, waits and is woken. Their list is the table in
 * `docs/tools.md`.
 */

import { rows as allRows } from "./consume/rows/mod.ts";
import * as commandLine from "./consume/options.ts";
import type { ConsumeOptions } from "./consume/options.ts";
import {
  installedPrograms,
  installTools,
  type Program,
} from "./consume/programs.ts";
import { type Check, type Row, titleOf } from "./consume/row.ts";
import { staleTable, writeTable } from "./consume/table.ts";
import { type Workspace, Workspaces } from "./consume/workspace.ts";
import { setUp } from "./setup/mod.ts";
import { command } from "./shared/command.ts";
import { killJobsOnSignal, runAll } from "./test/jobs.ts";
import { removeLeftovers } from "./test/process_tree.ts";
import { type Counts, countsLine, printProblems } from "./test/report.ts";

/** Rows that run at the same time. */
const JOBS = 2;

await command("consume", commandLine, async (options) => {
  if (options.writesTable) {
    writeTable();
    return true;
  }
  const interrupted = killJobsOnSignal();
  await removeLeftovers();
  setUp();
  installTools();
  const workspaces = new Workspaces();
  try {
    return await run(options, workspaces, interrupted);
  } finally {
    if (!options.keeps) workspaces.remove();
    else console.log(`Kept ${workspaces.folder}`);
  }
});

/** Runs the rows; returns whether all of them passed. */
async function run(
  { all, patterns }: ConsumeOptions,
  workspaces: Workspaces,
  interrupted: AbortSignal,
): Promise<boolean> {
  const programs = installedPrograms();
  const total: Counts = { passed: 0, failed: 0, skipped: 0 };
  const problems = staleTable();
  const chosen = allRows.filter((row) =>
    patterns.every((pattern) => pattern.test(titleOf(row)))
  );
  if (chosen.length === 0) problems.push("no row has such a name");
  const tasks = chosen.filter((row) => all || !row.heavy)
    .map((row) => async () => {
      const start = performance.now();
      const workspace = workspaces.next();
      const result = await runRow(row, workspace, programs);
      if (interrupted.aborted) return;
      const seconds = (performance.now() - start) / 1000;
      total.passed += result.passed.length;
      total.skipped += result.missing.length;
      problems.push(...result.problems);
      const verdict = result.problems.length > 0 ? "FAILED" : "ok";
      console.log(
        `${verdict} ${titleOf(row)}: ${result.passed.join(", ")} ` +
          `(${seconds.toFixed(1)} s)`,
      );
      printProblems(result.problems);
      for (const name of result.missing) {
        console.log(`SKIPPED ${titleOf(row)}: ${name} is not installed`);
      }
    });
  await runAll(tasks, JOBS, interrupted);
  if (interrupted.aborted) return await new Promise<never>(() => {});
  for (const row of chosen.filter(({ heavy }) => heavy && !all)) {
    total.skipped += Math.max(row.runtimes.length, 1);
    console.log(`SKIPPED ${titleOf(row)}: only npm run consume:all runs it`);
  }
  total.failed = problems.length;
  console.log();
  printProblems(problems);
  console.log(`\n${countsLine(total)}`);
  return total.failed === 0;
}

/** What became of a row. */
interface RowResult {
  /** The runtimes on which it passed. */
  passed: string[];
  /** The runtimes that are not installed. */
  missing: string[];
  problems: string[];
}

/** Builds, and runs the result on each runtime. */
async function runRow(
  row: Row,
  workspace: Workspace,
  programs: readonly Program[],
): Promise<RowResult> {
  const result: RowResult = { passed: [], missing: [], problems: [] };
  const names = row.runtimes.length > 0 ? row.runtimes : ["built"];
  let check: Check | void;
  try {
    check = await row.prepare(workspace);
  } catch (error) {
    // Nothing can run, on any runtime.
    result.problems.push(`${titleOf(row)}: ${messageOf(error)}`);
    return result;
  }
  for (const name of names) {
    const program = programs.find((program) => program.name === name);
    if (check === undefined) {
      result.passed.push(name);
      continue;
    }
    if (program === undefined) {
      result.missing.push(name);
      continue;
    }
    try {
      await check(program);
      result.passed.push(name);
    } catch (error) {
      result.problems.push(`${titleOf(row)}, ${name}: ${messageOf(error)}`);
    }
  }
  return result;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.stack ?? error.message : `${error}`;
}
