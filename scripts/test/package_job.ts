/** Runs the checks of the npm package, `package.ts`, beside the tests. */

import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { root } from "../setup/mod.ts";
import { ProcessTree } from "./process_tree.ts";
import type { Counts } from "./report.ts";

const TIMEOUT_MS = 10 * 60_000;

/** The counts of the checks, and the names of those that ran. */
export interface PackageResult extends Counts {
  names: string[];
}

/** Runs the checks, and prints their output. */
export async function packageJob(outputPath: string): Promise<PackageResult> {
  const script = join(root, "scripts", "test", "package.ts");
  const runOptions = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  const output = openSync(outputPath, "w");
  const tree = new ProcessTree([process.execPath, ...runOptions, script], {
    cwd: root,
    env: process.env,
    output,
    timeoutMs: TIMEOUT_MS,
  });
  const { status, leftovers } = await tree.ended;
  closeSync(output);
  const text = readFileSync(outputPath, "utf8");
  console.log(`\n=== package\n\n${text}`);
  for (const left of leftovers) console.log(`FAILED package: left ${left}`);
  const counts = /^(\d+) passed, (\d+) failed, (\d+) skipped in the package$/m
    .exec(text);
  const [, passed, failed, skipped] = (counts ?? []).map(Number);
  const broke = counts === null || (status !== 0 && failed === 0) ||
    leftovers.length > 0;
  if (broke) console.log(`FAILED package: ended with status ${status}`);
  return {
    passed: passed ?? 0,
    failed: (failed ?? 0) + (broke ? 1 : 0),
    skipped: skipped ?? 0,
    names: [...text.matchAll(/^(?:ok|FAILED) (.+)$/gm)].map(([, name = ""]) =>
      name
    ),
  };
}
