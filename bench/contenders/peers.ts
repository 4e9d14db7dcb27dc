/** Finds and installs the peers that are not part of this package. */

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { must, npm, root } from "../../scripts/setup/mod.ts";

const folder = join(root, "bench");

/** Installs the npm packages if they are missing or out of date. */
export function installPeers(): void {
  const lockfile = join(folder, "package-lock.json");
  const done = join(folder, "node_modules", ".package-lock.json");
  if (
    existsSync(done) && statSync(done).mtimeMs >= statSync(lockfile).mtimeMs
  ) {
    return;
  }
  console.log("Installing what the benchmark compares with");
  try {
    npm(["ci", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: folder });
  } catch (error) {
    // The other contenders can still be measured; these are skipped by name.
    console.error((error as Error).message);
  }
}

/** Returns the version of an npm peer, or `undefined` if it is missing. */
export function npmPeer(name: string): string | undefined {
  const manifest = join(folder, "node_modules", name, "package.json");
  return existsSync(manifest)
    ? JSON.parse(readFileSync(manifest, "utf8")).version
    : undefined;
}

/**
 * Compiles the C contender, once per run. Returns the program, or `undefined`
 * if there is not a C compiler.
 */
export function compileC(target: string): string | undefined {
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

/** Returns a Python that can import a module, or `undefined`. */
export function findPython(module: string): string | undefined {
  return ["python3", "/usr/bin/python3", "python"].find((python) =>
    works(python, ["-c", `import ${module}`])
  );
}

function works(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}
