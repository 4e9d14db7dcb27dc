// @ts-check
/**
 * Starts a script that is written in TypeScript, from a bare Node 20: installs
 * the dependencies if necessary, then runs `scripts/NAME.ts` on an installed
 * runtime.
 */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import process from "node:process";
import {
  installAll,
  installedNode,
  installedProgram,
  root,
} from "./install.mjs";

/**
 * Runs `scripts/NAME.ts` with the arguments of this process, forwards signals
 * to it, and ends as it ended.
 *
 * @param {string} name
 * @returns {Promise<void>}
 */
export async function start(name) {
  installAll();
  const [program, ...args] = command(join(root, "scripts", `${name}.ts`));
  const child = spawn(program, [...args, ...process.argv.slice(2)], {
    stdio: "inherit",
    // npm runs on this Node, and "node" in the tests is this Node.
    env: { PORTALOCK_NODE: process.execPath, ...process.env },
  });
  const forward = (/** @type {NodeJS.Signals} */ signal) => child.kill(signal);
  const signals = /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"]);
  for (const signal of signals) process.on(signal, forward);
  const status = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on(
      "exit",
      (code, signal) =>
        resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)),
    );
  });
  process.exit(status);
}

/**
 * Returns the command that runs a TypeScript file here.
 *
 * @param {string} script
 * @returns {[string, ...string[]]}
 * @throws {Error} If npm could not install any runtime for this platform.
 */
function command(script) {
  const node = installedNode(26);
  if (existsSync(node)) return [node, script];
  const deno = installedProgram("deno");
  if (existsSync(deno)) return [deno, "run", "-A", "--no-check", "-q", script];
  const bun = installedProgram("bun");
  if (existsSync(bun)) return [bun, script];
  throw new Error(
    `Cannot run ${script}: npm has no Node 26, Deno or Bun for ` +
      `${process.platform}-${process.arch}`,
  );
}
