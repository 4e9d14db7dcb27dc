/** How this program is started once more. */

import process from "node:process";
import { builtin } from "./builtin.ts";
import { denoApi } from "./deno_api.ts";
import type { DenoApi, DenoPermission } from "./deno_api.ts";

/** The part of the global `Deno` that says how it was compiled. */
interface DenoProgram extends DenoApi {
  readonly build: { readonly standalone?: boolean };
}

/** Where `bun build --compile` puts the main module of its executable. */
const BUN_EXECUTABLE = /^(\/\$bunfs\/|B:[\\/]~BUN[\\/])/i;

/** Options of Node and Bun that a second process must not repeat. */
const DEBUGGER = /^--inspect/;

/** What a second process of Deno needs only if this one has it. */
const PERMISSIONS: readonly DenoPermission[] = ["env", "net", "run", "sys"];

/**
 * Returns the command that starts the program of this process once more, with
 * the same runtime and the same options, and without its arguments.
 *
 * The program may be a script, a bundle, a module that Deno imports from JSR, or
 * an executable: of `bun build --compile`, of `deno compile`, or a single
 * executable of Node. An executable is its own program, so the command is its
 * path alone.
 *
 * Deno neither says which options it was started with, nor which paths it may
 * read. A second process may read and write all of them. It may also start
 * other processes, as this one may, so this is not an escalation.
 *
 * @param hasFfi Whether the locks of this process use FFI.
 * @throws {Error} If the program is not a file, as with `node --eval`.
 */
export function commandOf(hasFfi: boolean): string[] {
  const deno = denoApi();
  if (deno) return denoCommand(deno as DenoProgram, hasFfi);
  const { execPath, execArgv, argv: [, script] } = process;
  if (isExecutable(script)) return [execPath];
  if (script === undefined) {
    throw new Error("the program of this process is not a file");
  }
  const options = execArgv.filter((option) => !DEBUGGER.test(option));
  return [execPath, ...options, script];
}

function isExecutable(script: string | undefined): boolean {
  if ("bun" in process.versions) return BUN_EXECUTABLE.test(script ?? "");
  return builtin<{ isSea(): boolean }>("node:sea")?.isSea() ?? false;
}

function denoCommand(
  { build, mainModule, permissions }: DenoProgram,
  hasFfi: boolean,
): string[] {
  if (build.standalone) return [process.execPath];
  if (mainModule === undefined) {
    throw new Error("Deno may not read the name of its main module");
  }
  const granted = PERMISSIONS.filter((name) =>
    permissions.querySync({ name }).state === "granted"
  );
  const allowed = ["read", "write", ...hasFfi ? ["ffi"] : [], ...granted];
  return [
    process.execPath,
    "run",
    "--quiet",
    "--no-prompt",
    ...allowed.map((name) => `--allow-${name}`),
    mainModule,
  ];
}
