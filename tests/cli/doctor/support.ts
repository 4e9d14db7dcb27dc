/** Runs `portalock doctor` in tests. */

import assert from "node:assert/strict";
import * as fs from "node:fs";
import type { Diagnosis } from "../../../src/cli/doctor/mod.ts";
import { DIRECTORY_PREFIX } from "../../../src/cli/doctor/protocol.ts";
import { dirname } from "node:path";
import { hasCapability } from "../../support/capabilities.ts";
import { allRuntimes, currentRuntime, isDeno } from "../../support/env.ts";
import { fixtureCommand } from "../../support/env.ts";
import { runScript } from "../../support/processes.ts";

/** Returns the command that diagnoses paths on the current runtime. */
export function doctorCommand(...paths: string[]): string[] {
  const withoutFfi = isDeno && !hasCapability("file descriptors");
  const runtime = withoutFfi
    ? allRuntimes.find(({ name }) => name === "deno without FFI")
    : undefined;
  return [...fixtureCommand(runtime ?? currentRuntime, "doctor"), ...paths];
}

/** What `tests/fixtures/doctor` has printed. */
export interface Output {
  code: number | null;
  diagnosis: Diagnosis;
  text: string;
}

/** Diagnoses paths. Nothing may be left in the directories. */
export async function diagnosed(...paths: string[]): Promise<Output> {
  const { code, stdout, stderr } = await runScript(doctorCommand(...paths));
  assert.ok(stdout.startsWith('{"diagnosis"'), stdout + stderr);
  for (const path of paths) assert.deepEqual(leftOvers(path), []);
  return { code, ...JSON.parse(stdout) };
}

/** Diagnoses paths that cannot be tested, and returns the error. */
export async function failed(
  ...paths: string[]
): Promise<{ name: string; message: string; code?: string }> {
  const { code, stdout, stderr } = await runScript(doctorCommand(...paths));
  assert.equal(code, 2, stdout + stderr);
  return JSON.parse(stdout);
}

/** Returns the names of directories that the tests of the doctor have left. */
export function leftOvers(path: string): string[] {
  const directory = fs.statSync(path).isDirectory() ? path : dirname(path);
  return fs.readdirSync(directory)
    .filter((name) => name.startsWith(DIRECTORY_PREFIX));
}

/** Returns the state of each kind of lock. */
export function states({ lockers }: Diagnosis): Record<string, string> {
  return Object.fromEntries(
    lockers.map(({ locker, state }) => [locker, state]),
  );
}

/** Whether this runtime has record locks. */
export const hasRecords = hasCapability("record locks");

/** The states of the kinds of locks where everything works. */
export const ALL_WORK = {
  flock: "works",
  ofd: hasRecords ? "works" : "unavailable",
  lockf: hasRecords ? "works" : "unavailable",
};
