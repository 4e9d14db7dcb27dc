/**
 * `npm run consume`: consumes the packed package in empty folders, as a user
 * does: with bundlers, test runners, package managers and compilers. In each
 * result, two processes lock, wait and are woken.
 *
 * - `consume/row.ts`: what a row is; `consume/rows/` has all of them.
 * - `consume/scenario.ts`: what the two processes do, and what is checked.
 *   Their programs are in `tests/consume/programs/`.
 * - `consume/workspace.ts`: the folder of a row.
 * - `consume/programs.ts`: the tools (`tests/consume/package.json`) and the
 *   runtimes.
 * - `consume/table.ts`: `docs/tools.md`, which lists the rows.
 */

import process from "node:process";
import { rows } from "./consume/rows/mod.ts";
import * as commandLine from "./consume/options.ts";
import type { ConsumeOptions } from "./consume/options.ts";
import { installedPrograms, installTools } from "./consume/programs.ts";
import { type Check, type Row, titleOf } from "./consume/row.ts";
import { staleTable, writeTable } from "./consume/table.ts";
import {
  CommandFailed,
  type Workspace,
  Workspaces,
} from "./consume/workspace.ts";
import { command } from "./shared/command.ts";
import { killJobsOnSignal, runAll } from "./test/jobs.ts";
import { removeLeftovers } from "./test/process_tree.ts";
import { countsLine, printProblems } from "./test/report.ts";

/** Rows that run at the same time. */
const JOBS = 2;

await command("consume", commandLine, async (options) => {
  if (options.writesTable) {
    writeTable();
    return true;
  }
  if (process.platform !== "linux") {
    console.log("SKIPPED every row: they read /proc, which only Linux has");
    console.log(`\n${countsLine({ passed: 0, failed: 0, skipped: 1 })}`);
    return true;
  }
  const interrupted = killJobsOnSignal();
  await removeLeftovers();
  installTools();
  const workspaces = new Workspaces();
  // Also if a signal ends this process.
  process.on("exit", () => {
    if (options.keeps) console.log(`Kept ${workspaces.folder}`);
    else workspaces.remove();
  });
  return await run(options, workspaces, interrupted);
});

/** Runs the rows; returns whether all of them passed. */
async function run(
  { all, keeps, patterns }: ConsumeOptions,
  workspaces: Workspaces,
  interrupted: AbortSignal,
): Promise<boolean> {
  const chosen = rows.filter((row) =>
    patterns.every((pattern) => pattern.test(titleOf(row)))
  );
  const problems = [
    ...staleTable(),
    ...chosen.length === 0 ? ["no row has such a name"] : [],
  ];
  printProblems(problems);
  const tasks = chosen.map((row) => async () => {
    if (row.heavy && !all) return skipHeavy(row);
    const workspace = workspaces.next();
    const result = await runRow(row, workspace);
    if (interrupted.aborted) return await new Promise<never>(() => {});
    if (!keeps) workspace.remove();
    print(row, result);
    return result;
  });
  const results = await runAll(tasks, JOBS, interrupted);
  const count = (key: keyof RowResult) =>
    results.flatMap((result) => result[key]).length;
  const failed = problems.length + count("problems");
  const counts = { passed: count("passed"), failed, skipped: count("skipped") };
  console.log(`\n${countsLine(counts)}`);
  return failed === 0;
}

/** The result of a row. */
interface RowResult {
  /** The runtimes on which it passed. */
  passed: string[];
  /** The runtimes on which it did not run. */
  skipped: string[];
  problems: string[];
}

function skipHeavy(row: Row): RowResult {
  console.log(`SKIPPED ${titleOf(row)}: only npm run consume:all runs it`);
  return { passed: [], skipped: [...row.runtimes], problems: [] };
}

/** Builds, and runs the result on each runtime. */
async function runRow(row: Row, workspace: Workspace): Promise<RowResult> {
  const result: RowResult = { passed: [], skipped: [], problems: [] };
  let check: Check | void;
  try {
    check = await row.prepare(workspace);
  } catch (error) {
    return { ...result, problems: [`${titleOf(row)}: ${messageOf(error)}`] };
  }
  if (check === undefined) return { ...result, passed: ["no problem"] };
  const programs = installedPrograms();
  for (const name of row.runtimes) {
    const program = programs.find((program) => program.name === name);
    if (program === undefined) {
      result.skipped.push(name);
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
  if (error instanceof CommandFailed) return error.message;
  return error instanceof Error ? error.stack ?? error.message : `${error}`;
}

function print(row: Row, { passed, skipped, problems }: RowResult): void {
  const verdict = problems.length > 0 ? "FAILED" : "ok";
  console.log(`${verdict} ${titleOf(row)}: ${passed.join(", ")}`);
  printProblems(problems);
  for (const runtime of skipped) {
    console.log(`SKIPPED ${titleOf(row)}: ${runtime} is not installed`);
  }
}
