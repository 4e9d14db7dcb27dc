/** Programs in a terminal, to which a test types. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { testEnv } from "./env.ts";
import { runScript } from "./processes.ts";
import { tempDir } from "./temp_dir.ts";

/** Reads until the output contains a text, types a text, or closes the terminal. */
export type Step = readonly ["expect" | "type" | "hang up", string];

/** Runs a program in a terminal, in a directory, which is a new one by default. */
export async function inTerminal(
  argv: readonly string[],
  steps: readonly Step[],
  path?: string,
): Promise<{ output: string; status: number }> {
  using dir = tempDir();
  const script = join(testEnv.root, "tests", "cli", "terminal.py");
  const request = JSON.stringify({ argv, steps });
  const { code, stdout, stderr } = await runScript(
    ["python3", script, request],
    { cwd: path ?? dir.path },
  );
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}
