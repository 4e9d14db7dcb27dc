/** The commands of contenders, `undefined` if something is not installed. */

import { join } from "node:path";
import { root, runtimes, systemNode } from "../../scripts/setup/mod.ts";
import type { Command, Commands } from "../types.ts";
import { findPython } from "./peers.ts";

/** The permissions that Deno needs to lock without FFI. */
const WITHOUT_FFI = ["--no-prompt", "--allow-read", "--allow-write"];

/** The runtimes that this package is measured on, and their labels. */
export const RUNTIMES = {
  deno: "Deno",
  bun: "Bun",
  node: "Node with addon",
  node26: "Node 26",
} as const;

export type RuntimeName = keyof typeof RUNTIMES;

export const RUNTIME_NAMES = Object.keys(RUNTIMES) as readonly RuntimeName[];

/** What a command runs. */
interface Driver {
  /** A module of `children/`, for example `lockers/portalock`. */
  readonly driver: string;
  /** `sync` or `async` for a locker, the kind of update for an updater. */
  readonly kind: string;
}

/** Returns the command that measures this package on a runtime. */
export function ourCommand(
  name: RuntimeName,
  driver: Driver,
  withoutFfi = false,
): Command | undefined {
  const runtime = findRuntime(name);
  if (runtime === undefined) return undefined;
  const { command, directory, extension } = runtime;
  return childCommand(
    withoutFfi ? restrict(command) : command,
    driver,
    join(directory, `mod${extension}`),
  );
}

/** Returns that for `mod`, or another file, in a folder of this package. */
export function ourModuleCommand(
  name: RuntimeName,
  folders: readonly string[],
  driver: Driver,
  file = "mod",
): Command | undefined {
  const runtime = findRuntime(name);
  if (runtime === undefined) return undefined;
  const { command, directory, extension } = runtime;
  const module = join(directory, ...folders, `${file}${extension}`);
  return childCommand(command, driver, module);
}

/** Returns the commands of all runtimes, or `undefined` if one is missing. */
export function ourCommands(driver: Driver): Commands | undefined {
  const commands = RUNTIME_NAMES.map((name) => ourCommand(name, driver))
    .filter((command) => command !== undefined);
  const [first, ...others] = commands;
  return first === undefined || commands.length < RUNTIME_NAMES.length
    ? undefined
    : [first, ...others];
}

/** Returns the command for Deno without this package. */
export function denoCommand(driver: Driver): Command | undefined {
  const deno = findRuntime("deno");
  return deno && childCommand(deno.command, driver);
}

/** Returns the command for the system's Node without this package. */
export function nodeCommand(driver: Driver): Command {
  return childCommand([systemNode()], driver);
}

/** Returns the command for a locker of `python.py`, which imports a module. */
export function pythonCommand(
  module: string,
  locker: string,
): Command | undefined {
  const python = findPython(module);
  return python === undefined
    ? undefined
    : [python, childFile("python.py"), locker];
}

/** Makes the list that a contender with one command returns. */
export function single(command: Command | undefined): Commands | undefined {
  return command && [command];
}

/** Replaces all permissions of Deno by those without FFI. */
export function restrict([program, ...args]: Command): Command {
  return [
    program,
    ...args.flatMap((argument) => argument === "-A" ? WITHOUT_FFI : [argument]),
  ];
}

/** A runtime that is installed. */
export interface InstalledRuntime {
  readonly command: Command;
  /** Where `mod` is, and its extension. */
  readonly directory: string;
  readonly extension: string;
}

/** Returns a runtime if it is installed. */
export function findRuntime(wanted: RuntimeName): InstalledRuntime | undefined {
  return runtimes().find(({ name }) => name === wanted);
}

/**
 * Returns the command for a child in JavaScript.
 *
 * @param library The file that the driver loads, if it needs one.
 */
export function childCommand(
  command: Command,
  { driver, kind }: Driver,
  library = "",
): Command {
  const [program, ...args] = command;
  return [program, ...args, childFile("child.mjs"), driver, library, kind];
}

function childFile(name: string): string {
  return join(root, "bench", "children", name);
}
