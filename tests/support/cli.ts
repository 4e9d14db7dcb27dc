/** The `portalock` command, on the runtimes of the tests. */

import * as fs from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import type { TestRuntime } from "./env.ts";
import { runScript } from "./processes.ts";
import { tempDir } from "./temp_dir.ts";

/** Returns the words that start the command on a runtime. */
export function portalock(
  { command, directory, extension }: TestRuntime,
): string[] {
  return [...command, join(directory, "src", "cli", `main${extension}`)];
}

/** Quotes a word for sh(1). */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** What a script printed, and its exit status. */
export type Outcome = Awaited<ReturnType<typeof runScript>>;

/**
 * Runs a script of sh(1) in a new directory. In the script, each name of
 * `commands` is a program that becomes that command.
 */
export async function runShell(
  script: string,
  commands: Readonly<Record<string, readonly string[]>>,
): Promise<Outcome> {
  using dir = tempDir();
  using bin = tempDir();
  for (const [name, words] of Object.entries(commands)) {
    const text = `#!/bin/sh\nexec ${words.map(quote).join(" ")} "$@"\n`;
    fs.writeFileSync(join(bin.path, name), text, { mode: 0o755 });
  }
  const PATH = `${bin.path}${delimiter}${process.env.PATH}`;
  const env = { ...process.env, PATH };
  return await runScript(["sh", "-c", script], { cwd: dir.path, env });
}
