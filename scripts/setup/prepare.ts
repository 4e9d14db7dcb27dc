/**
 * Prepares the tests. Run as a program, it does the part that does not need
 * the packages of npm, which so runs beside the rest.
 */

import { spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { installDebianPackages, newerPortalocker } from "./debian.ts";
import { root, setUp } from "./mod.ts";
import { muslBun } from "./musl.ts";

const self = fileURLToPath(import.meta.url);

/**
 * Installs what the tests use and compiles them, the packages of Debian at the
 * same time as the rest.
 */
export async function prepareInParallel(): Promise<void> {
  const runOptions = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  const child = spawn(process.execPath, [...runOptions, self], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  const ended = new Promise<number | null>((resolve, reject) =>
    child.on("error", reject).on("close", resolve)
  );
  setUp();
  const status = await ended;
  if (status !== 0) throw new Error(`${self} ended with status ${status}`);
}

if (process.argv[1] === self) {
  installDebianPackages();
  newerPortalocker(join(root, "build", "python"));
  muslBun();
}
