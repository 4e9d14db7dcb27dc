/** The `portalock` command, on the runtimes of the tests. */

import { join } from "node:path";
import type { TestRuntime } from "./env.ts";

/** Returns the words that start the command on a runtime. */
export function portalock(
  { command, directory, extension }: TestRuntime,
): string[] {
  return [...command, join(directory, "src", "cli", `main${extension}`)];
}

/** Quotes a word for sh(1). */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Returns a function of sh(1) with this name that runs a command. */
export function shellFunction(
  name: string,
  command: readonly string[],
): string {
  return `${name}() { ${command.map(quote).join(" ")} "$@"; }\n`;
}
