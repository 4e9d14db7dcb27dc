/**
 * What every row does: one process holds a lock, and another one waits until
 * the kernel wakes it. Both use also a temporary file lock, and see
 * `AlreadyLocked` for one more attempt.
 */

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "./programs.ts";
import type { RunOptions, Workspace } from "./workspace.ts";

/** The time limit of both roles. */
const TIMEOUT_MS = 60_000;

export type Role = "hold" | "wait";

/** What a role reports; see `tests/consume/programs/roles.mjs`. */
export interface Report {
  error?: string;
  third?: string;
  refused?: string;
  woken?: boolean;
  removed: boolean;
  temporaryFiles: string[];
  /** The files that a process of Node has loaded as native code. */
  addons: string[];
  fromWorkingDirectory: string[];
}

/** Starts a process that plays a role in a folder. */
export type StartRole = (
  role: Role,
  env: { CONSUME_ROLE: Role; CONSUME_FOLDER: string },
) => Promise<unknown>;

/**
 * Plays both roles at the same time and checks what they report.
 *
 * @returns The reports of both.
 */
export async function playRoles(
  workspace: Workspace,
  start: StartRole,
): Promise<Report[]> {
  const folder = workspace.makeFolder("meeting");
  const roles: readonly Role[] = ["hold", "wait"];
  const results = await Promise.allSettled(roles.map(async (role) => {
    try {
      await start(role, { CONSUME_ROLE: role, CONSUME_FOLDER: folder });
      return readReport(folder, role);
    } catch (error) {
      // The other process need not wait for this one.
      writeFileSync(join(folder, "failed"), `${error}`);
      throw error;
    }
  }));
  // A process that only gave up because of the other one reports nothing.
  const reasons = results.flatMap((result) =>
    result.status === "rejected" ? [result.reason] : []
  ).sort((a, b) => Number(gaveUp(a)) - Number(gaveUp(b)));
  if (reasons.length > 0) throw reasons[0];
  return checkedReports(folder);
}

/** Plays each role in a process of a program. */
export function playPrograms(
  workspace: Workspace,
  command: Command,
  { cwd }: RunOptions,
): Promise<Report[]> {
  return playRoles(
    workspace,
    (_, env) =>
      workspace.runSilently(command, { cwd, env, timeoutMs: TIMEOUT_MS }),
  );
}

/**
 * Runs a program that starts both roles itself.
 *
 * @param polls Whether nothing wakes a waiter there.
 */
export async function playTogether(
  workspace: Workspace,
  command: Command,
  { cwd }: RunOptions,
  polls = false,
): Promise<void> {
  const folder = workspace.makeFolder("meeting");
  const env = { CONSUME_FOLDER: folder };
  await workspace.runSilently(command, { cwd, env, timeoutMs: TIMEOUT_MS });
  checkedReports(folder, polls);
}

/** @throws {Error} If a role failed, or reports what must not be. */
function checkedReports(folder: string, polls = false): Report[] {
  const held = readReport(folder, "hold");
  const waited = readReport(folder, "wait");
  assert.equal(held.third, "AlreadyLocked", "a third attempt");
  assert.equal(waited.refused, "AlreadyLocked", "an attempt while it is held");
  if (!polls) assert.ok(waited.woken, "the kernel does not wake the waiter");
  for (const { removed, temporaryFiles } of [held, waited]) {
    assert.ok(removed, "a lock file remained");
    assert.deepEqual(temporaryFiles, [], "left in the temporary folder");
  }
  return [held, waited];
}

/** @throws {Error} If the role failed. */
function readReport(folder: string, role: Role): Report {
  const file = join(folder, `${role}.json`);
  assert.ok(
    existsSync(file),
    `the process that had to ${role} reported nothing`,
  );
  const report: Report = JSON.parse(readFileSync(file, "utf8"));
  if (report.error !== undefined) throw new Error(report.error);
  return report;
}

const GAVE_UP = "the other process failed";

function gaveUp(error: unknown): boolean {
  return `${error}`.includes(GAVE_UP);
}
