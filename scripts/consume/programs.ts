/** The tools and runtimes that consume the package. */

import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import {
  install,
  must,
  node24,
  root,
  type Runtime,
  runtimes,
  systemNode,
} from "../setup/mod.ts";
import type { RuntimeName } from "./runtimes.ts";

/** A program and the arguments before those of the caller. */
export type Command = readonly [string, ...string[]];

/** An installed runtime. */
export interface Program {
  readonly name: RuntimeName;
  readonly command: Command;
}

/** The folder with `package.json` of the tools, and the programs to run. */
export const folder = join(root, "tests", "consume");
const modules = join(folder, "node_modules");

/** Installs the tools, in the versions of `package-lock.json`. */
export function installTools(): void {
  // Without links, because three versions of pnpm have the same name.
  install(folder, "--no-bin-links");
}

/** Returns the runtimes that are installed. */
export function installedPrograms(): Program[] {
  const names: Record<string, RuntimeName> = {
    node24: "Node 24",
    node26: "Node 26",
    bun: "Bun",
    deno: "Deno",
  };
  const others = [...runtimes(), ...node24()].flatMap(({ name, command }) => {
    const title = names[name];
    return title === undefined ? [] : [{ name: title, command }];
  });
  const platform = `${process.platform}-${process.arch}`;
  const node22 = join(modules, `node22-${platform}`, "bin", "node");
  return [
    ...node20(),
    ...existsSync(node22)
      ? [{ name: "Node 22" as const, command: [node22] as const }]
      : [],
    ...others,
  ];
}

/** The Node that runs npm, if it is Node 20. */
function node20(): Program[] {
  const node = systemNode();
  const version = must(node, ["-p", "process.versions.node"]);
  return version.startsWith("20.")
    ? [{ name: "Node 20", command: [node] }]
    : [];
}

/** The installed Node that runs the tools: some of them need a newer one. */
export function toolNode(): string {
  const all = installedPrograms();
  const node = all.find(({ name }) => name === "Node 24") ??
    all.find(({ name }) => name === "Node 26");
  return node?.command[0] ?? systemNode();
}

/** Returns the program of a runtime. */
export function programOf(name: Runtime["name"]): string {
  const runtime = runtimes().find((runtime) => runtime.name === name);
  if (runtime === undefined) throw new Error(`${name} is not installed`);
  return runtime.command[0];
}

/** Returns the folder of an installed tool. */
export function toolFolder(name: string): string {
  return join(modules, name);
}

/** Returns the version of an installed tool, as an exact requirement. */
export function requirement(name: string): string {
  const manifest = manifestOf(name);
  return `${manifest.name}@${manifest.version}`;
}

/** Returns the command that runs a tool. */
export function tool(name: string, bin = name, node = toolNode()): Command {
  const { bin: bins = {} } = manifestOf(name);
  const path = typeof bins === "string" ? bins : bins[bin];
  if (path === undefined) {
    throw new Error(`${name} does not have the program ${bin}`);
  }
  const program = join(toolFolder(name), path);
  return isNative(program) ? [program] : [node, program];
}

interface Manifest {
  name: string;
  version: string;
  bin?: string | Record<string, string>;
}

function manifestOf(name: string): Manifest {
  const file = join(toolFolder(name), "package.json");
  return JSON.parse(readFileSync(file, "utf8"));
}

/** Returns whether a file is a program of Linux or macOS. */
function isNative(file: string): boolean {
  const start = new Uint8Array(4);
  const descriptor = openSync(file, "r");
  readSync(descriptor, start, 0, 4, 0);
  closeSync(descriptor);
  return [0x7f454c46, 0xcffaedfe].includes(
    new DataView(start.buffer).getUint32(0),
  );
}
