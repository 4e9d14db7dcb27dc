/**
 * Installs and builds what the commands of this repository need, if it is
 * missing or out of date.
 */

import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import {
  installAll,
  installedNode,
  installedProgram,
  isNewer,
  must,
  npm,
  root,
  runtimesFolder,
  systemNode,
} from "./install.mjs";

export { install, isNewer, must, npm, root, systemNode } from "./install.mjs";

/** A JavaScript runtime, and how it runs this package. */
export interface Runtime {
  name: string;
  /** The program and the options before the script. */
  command: readonly [string, ...string[]];
  /** The folder that contains `mod` and `tests/`. */
  directory: string;
  extension: ".ts" | ".js";
}

const packing = join(root, "build", "packed");
const inside = join("node_modules", "@x", "portalock");

/** The unpacked npm package, in the place where npm would install it. */
export const packed = join(packing, inside);

/** Installs the dependencies and runtimes; builds and packs the package. */
export function setUp(): void {
  installAll();
  pack();
}

/**
 * Returns the installed runtimes that the tests start child processes on, and
 * that the demo and the benchmarks use.
 */
export function runtimes(): Runtime[] {
  return installed([
    fromSource("deno", [
      installedProgram("deno"),
      ...["run", "-A", "--no-check", "-q"],
    ]),
    fromSource("bun", [installedProgram("bun")]),
    fromPackage("node", systemNode()),
    fromSource("node26", [installedNode(26)]),
  ]);
}

/** Returns Node 24, which only runs the tests; empty if it is not installed. */
export function node24(): Runtime[] {
  return installed([fromPackage("node24", installedNode(24))]);
}

/** Returns the oldest supported versions, as far as npm has installed them. */
export function oldestRuntimes(): Runtime[] {
  const modules = join(runtimesFolder, "node_modules");
  const programs: Record<string, string> = {
    deno: join(modules, "deno-oldest", "deno"),
    bun: join(modules, "bun-oldest", "bin", "bun"),
  };
  return runtimes().flatMap((runtime) => {
    const program = programs[runtime.name];
    if (program === undefined) return [];
    const [, ...args] = runtime.command;
    return installed([{ ...runtime, command: [program, ...args] }]);
  });
}

/** A runtime that runs the TypeScript of this checkout. */
function fromSource(name: string, command: Runtime["command"]): Runtime {
  return { name, command, directory: root, extension: ".ts" };
}

/** A runtime that runs the packed npm package. */
function fromPackage(name: string, program: string): Runtime {
  const directory = join(packed, "dist");
  return { name, command: [program], directory, extension: ".js" };
}

function installed(all: Runtime[]): Runtime[] {
  return all.filter(({ command: [program] }) => existsSync(program));
}

/**
 * Returns the files below a folder, except installed packages and build
 * results.
 */
export function filesBelow(
  folder: string,
  isWanted: (path: string) => boolean = () => true,
): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (!entry.isDirectory()) return isWanted(path) ? [path] : [];
    return ["node_modules", "build", "dist", ".git"].includes(entry.name)
      ? []
      : filesBelow(path, isWanted);
  });
}

function pack(): void {
  const names = [
    "mod.ts",
    "package.json",
    "tsconfig.base.json",
    "tsconfig.npm.json",
  ];
  const sources = [
    ...names.map((name) => join(root, name)),
    ...["src", "ffi"].flatMap((folder) => filesBelow(join(root, folder))),
  ];
  if (isNewer(join(packing, "tarball"), sources)) return;
  console.log("Building and packing the package");
  // A process that runs the previous package keeps it until this one is whole.
  const fresh = `${packing}-${process.pid}`;
  const target = join(fresh, inside);
  mkdirSync(target, { recursive: true });
  const tarball = npm(["pack", "--silent", "--pack-destination", fresh])
    .trim().split("\n").at(-1) ?? "";
  // Relative names: tar(1) takes "C:" for the name of a host.
  const options = ["-C", inside, "--strip-components=1"];
  must("tar", ["-xzf", tarball, ...options], { cwd: fresh });
  writeFileSync(join(fresh, "tarball"), tarball);
  rmSync(packing, { recursive: true, force: true });
  renameSync(fresh, packing);
}

/**
 * Compiles the tests and adds them to the files of the unpacked package. No
 * file of the package is replaced.
 */
export function compileTests(): void {
  const sources = [
    join(packing, "tarball"),
    join(root, "tsconfig.tests.json"),
    ...filesBelow(join(root, "tests"), (path) => path.endsWith(".ts")),
  ];
  const done = join(packing, "tests");
  if (isNewer(done, sources)) return;
  console.log("Compiling the tests");
  const compiled = join(packing, "compiled");
  rmSync(compiled, { recursive: true, force: true });
  runTypeScript("-p", "tsconfig.tests.json", "--outDir", compiled);
  const target = join(packed, "dist", "tests");
  rmSync(target, { recursive: true, force: true });
  cpSync(join(compiled, "tests"), target, { recursive: true });
  writeFileSync(done, "");
}

/**
 * Runs the TypeScript compiler.
 *
 * @throws {Error} If it reports an error.
 */
export function runTypeScript(...args: string[]): void {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  must(systemNode(), [tsc, ...args]);
}

/** Returns the path of the tarball that `npm publish` would send. */
export function tarball(): string {
  return join(packing, readFileSync(join(packing, "tarball"), "utf8"));
}
