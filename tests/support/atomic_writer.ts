/** Runs the fixture that writes a file atomically in another process. */

import assert from "node:assert/strict";
import type { AtomicOptions } from "../../mod.ts";
import { currentFixtureCommand, runScript } from "./processes.ts";

/** Runs the writer, optionally under another command, and returns its result. */
export async function runAtomicWriter(
  what: string,
  path: string,
  options: AtomicOptions = {},
  under: string[] = [],
): Promise<unknown> {
  const { code, stdout, stderr } = await runScript([
    ...under,
    ...currentFixtureCommand("atomic_writer"),
    what,
    path,
    JSON.stringify(options),
  ]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}
