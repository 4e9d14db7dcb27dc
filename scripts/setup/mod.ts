/**
 * Installs and builds what the commands of this repository need, if it is
 * missing or out of date.
 */

import {
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

/** The library and its tests as JavaScript, with the files of the sources. */
export const compiled = join(root, "build", "compiled");

/** Installs the dependencies and runtimes; compiles the library and tests. */
export function setUp(): void {
  installAll();
  compile();
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
    fromCompiled("node", systemNode()),
    fromSource("node26", [installedNode(26)]),
  ]);
}

/** Returns Node 24, which only runs the tests; empty if it is not installed. */
export function node24(): Runtime[] {
  return installed([fromCompiled("node24", installedNode(24))]);
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

/** A runtime that does not run TypeScript. */
function fromCompiled(name: string, program: string): Runtime {
  return { name, command: [program], directory: compiled, extension: ".js" };
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

function compile(): void {
  const configs = ["base", "npm", "tests"].map((name) =>
    `tsconfig.${name}.json`
  );
  const sources = [
    ...librarySources(),
    ...configs.map((name) => join(root, name)),
    ...filesBelow(join(root, "tests"), (path) => path.endsWith(".ts")),
  ];
  // Written last.
  if (isNewer(join(compiled, "package.json"), sources)) return;
  console.log("Compiling the library and the tests");
  replaceFolder(compiled, (fresh) => {
    runTypeScript("-p", "tsconfig.tests.json", "--outDir", fresh);
    writeFileSync(join(fresh, "package.json"), '{ "type": "module" }\n');
  });
}

function librarySources(): string[] {
  const folders = ["src", "ffi"].map((folder) => join(root, folder));
  return [
    join(root, "mod.ts"),
    ...folders.flatMap((folder) => filesBelow(folder)),
  ];
}

/**
 * Fills a new folder, which replaces another one only when it is complete. A
 * process that uses the old folder keeps it until then.
 */
function replaceFolder(folder: string, fill: (fresh: string) => void): void {
  const fresh = `${folder}-${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  fill(fresh);
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
}

/**
 * Builds and packs the npm package, unless nothing has changed.
 *
 * @returns The path of the tarball that `npm publish` would send.
 */
export function tarball(): string {
  const names = [
    ...["package.json", "README.md", "CHANGELOG.md", "LICENSE"],
    ...["build.ts", "addon/compile.ts"].map((name) => join("scripts", name)),
  ];
  const sources = [
    ...librarySources(),
    ...names.map((name) => join(root, name)),
    ...[join("scripts", "bundle"), "docs"].flatMap((folder) =>
      filesBelow(join(root, folder))
    ),
  ];
  const done = join(packing, "tarball");
  if (!isNewer(done, sources)) {
    console.log("Building and packing the package");
    replaceFolder(packing, (fresh) => {
      const pack = ["pack", "--silent", "--pack-destination", fresh];
      const name = npm(pack).trim().split("\n").at(-1) ?? "";
      writeFileSync(join(fresh, "tarball"), name);
    });
  }
  return join(packing, readFileSync(done, "utf8"));
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
