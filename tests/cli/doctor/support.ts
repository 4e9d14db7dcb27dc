/** Runs `portalock doctor` in tests. */

import assert from "node:assert/strict";
import * as fs from "node:fs";
import {
  CannotTest,
  diagnose,
  formatDiagnosis,
  PROBE_ARGUMENT,
} from "../../../src/cli/doctor/mod.ts";
import type { Diagnosis, Effort } from "../../../src/cli/doctor/mod.ts";
import { DIRECTORY_PREFIX } from "../../../src/cli/doctor/protocol.ts";
import { dirname } from "node:path";
import { hasCapability } from "../../support/capabilities.ts";
import { allRuntimes, currentRuntime, isDeno } from "../../support/env.ts";
import { fixtureCommand } from "../../support/env.ts";
import { QUICK } from "./quick.ts";

/** Returns the command that diagnoses paths on the current runtime. */
export function doctorCommand(...paths: string[]): string[] {
  const withoutFfi = isDeno && !hasCapability("file descriptors");
  const runtime = withoutFfi
    ? allRuntimes.find(({ name }) => name === "deno without FFI")
    : undefined;
  return [...fixtureCommand(runtime ?? currentRuntime, "doctor"), ...paths];
}

/** The command that starts a process of the tests. */
export const probeCommand = (): string[] => doctorCommand(PROBE_ARGUMENT);

/** Diagnoses paths. Nothing may be left in the directories. */
export async function diagnosed(
  paths: readonly string[],
  effort: Partial<Effort> = {},
): Promise<Diagnosis> {
  const command = probeCommand();
  const diagnosis = await diagnose(paths, {
    command,
    effort: { ...QUICK, ...effort },
  });
  for (const path of paths) assert.deepEqual(leftOvers(path), []);
  return diagnosis;
}

/** Diagnoses paths that cannot be tested, and returns the error. */
export function failed(...paths: string[]): Promise<CannotTest> {
  return failedBy(probeCommand(), ...paths);
}

/** {@linkcode failed} with a command that starts the processes. */
export async function failedBy(
  command: readonly string[],
  ...paths: string[]
): Promise<CannotTest> {
  const error = await diagnose(paths, { command }).then(
    (diagnosis) => assert.fail(formatDiagnosis(diagnosis)),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CannotTest, String(error));
  return error;
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
