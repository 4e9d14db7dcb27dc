// @ts-check
/**
 * Installs what the package's own scripts need. Runs on a bare Node 20, before
 * anything is installed, so this file is JavaScript and imports only Node.
 */

import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The checkout. */
export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Additional runtimes from npm: Node 24 and 26, the oldest Deno and Bun. */
export const runtimesFolder = join(root, "tests", "runtimes");

const isWindows = process.platform === "win32";

/**
 * Installs the dependencies and the additional runtimes, if they are missing or
 * older than `package-lock.json`.
 */
export function installAll() {
  install(root);
  install(runtimesFolder, "--no-bin-links");
}

/**
 * Installs the packages in `package-lock.json` of a folder, unless they are
 * installed.
 *
 * @param {string} folder
 * @param {...string} options Additional options of `npm ci`.
 */
export function install(folder, ...options) {
  const done = join(folder, "node_modules", ".package-lock.json");
  if (isNewer(done, [join(folder, "package-lock.json")])) return;
  const name = relative(root, folder) || "the package";
  console.log(`Installing the dependencies of ${name}`);
  npm(["ci", "--no-audit", "--no-fund", "--loglevel=error", ...options], {
    cwd: folder,
  });
}

/**
 * Returns whether a file exists and is at least as new as its sources.
 *
 * @param {string} file
 * @param {string[]} sources
 * @returns {boolean}
 */
export function isNewer(file, sources) {
  if (!existsSync(file)) return false;
  const { mtimeMs } = statSync(file);
  return sources.every((source) => statSync(source).mtimeMs <= mtimeMs);
}

/**
 * Returns the path of the Node that started the script: the one that runs npm,
 * which may be older than the installed ones.
 *
 * @returns {string}
 */
export function systemNode() {
  return process.env.PORTALOCK_NODE ??
    must("node", ["-p", "process.execPath"]).trim();
}

/**
 * Runs npm.
 *
 * @param {string[]} args
 * @param {import("node:child_process").SpawnSyncOptions} [options]
 * @returns {string} Its standard output.
 */
export function npm(args, options) {
  const cli = process.env.npm_execpath;
  return cli?.endsWith(".js")
    ? must(systemNode(), [cli, ...args], options)
    : must("npm", args, { shell: isWindows, ...options });
}

/**
 * Runs a command. Shows its output only if it fails.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {import("node:child_process").SpawnSyncOptions} [options]
 * @returns {string} Its standard output.
 * @throws {Error} If the command fails or cannot be started.
 */
export function must(command, args, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    maxBuffer: 1 << 28,
    ...options,
    encoding: "utf8",
  });
  if (status === 0) return stdout;
  throw new Error(
    `${command} ${args.join(" ")} failed (${error?.message ?? status}):\n` +
      `${stdout ?? ""}${stderr ?? ""}`,
  );
}

/**
 * Returns the path of a Node that npm has installed below `tests/runtimes`.
 * The file may be missing: not every version exists for every platform.
 *
 * @param {24 | 26} version
 * @returns {string}
 */
export function installedNode(version) {
  const name = `node${version}-${process.platform}-${process.arch}`;
  const folder = join(runtimesFolder, "node_modules", name, "bin");
  return join(folder, isWindows ? "node.exe" : "node");
}

/**
 * Returns the path of Deno or Bun as npm has installed it.
 *
 * @param {"deno" | "bun"} name
 * @returns {string}
 */
export function installedProgram(name) {
  const modules = join(root, "node_modules");
  if (!isWindows) return join(modules, ".bin", name);
  // A program, not the script that npm writes for it.
  const folder = { deno: "deno", bun: "bun/bin" }[name];
  return join(modules, folder, `${name}.exe`);
}
