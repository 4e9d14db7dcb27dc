/** Gets hold of the peers that are no part of this package. */

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { must, npm, root } from "../scripts/setup.mjs";

const folder = join(root, "bench");

/** Installs the npm packages if they are missing or out of date. */
export function installPeers() {
  const wanted = join(folder, "package-lock.json");
  const done = join(folder, "node_modules", ".package-lock.json");
  if (existsSync(done) && statSync(done).mtimeMs >= statSync(wanted).mtimeMs) {
    return;
  }
  console.log("Installing what the benchmark compares with");
  try {
    npm(["ci", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: folder });
  } catch (error) {
    // The others can still be measured; each of these is named as skipped.
    console.error(error.message);
  }
}

/** The version of an npm peer, or `undefined` where it did not install. */
export function npmPeer(name) {
  const manifest = join(folder, "node_modules", name, "package.json");
  return existsSync(manifest)
    ? JSON.parse(readFileSync(manifest, "utf8")).version
    : undefined;
}

/**
 * Compiles the C contender, once. Returns the program, or `undefined` without
 * cc.
 */
export function compileC(target) {
  const program = join(target, "c");
  if (existsSync(program)) return program;
  if (!works("cc", ["--version"])) return undefined;
  const sources = join(folder, "children", "c");
  must("cc", [
    "-O2",
    "-o",
    program,
    ...readdirSync(sources).filter((name) => name.endsWith(".c"))
      .map((name) => join(sources, name)),
  ]);
  return program;
}

/** A Python that can import a module, or `undefined`. */
export function findPython(module) {
  return ["python3", "/usr/bin/python3", "python"].find((python) =>
    works(python, ["-c", `import ${module}`])
  );
}

function works(command, args) {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}
