/** Compiles the C programs of tests. */

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { testEnv } from "./env.ts";
import { tempDir } from "./temp_dir.ts";

/**
 * Compiles a file of `tests/c` for this machine. The program is removed when
 * the result is disposed.
 */
export function compileC(
  source: string,
  compiler: "cc" | "musl-gcc",
  ...options: string[]
): { path: string } & Disposable {
  const dir = tempDir();
  const path = join(dir.path, "compiled");
  const file = join(testEnv.root, "tests", "c", source);
  const { status, stderr } = spawnSync(
    compiler,
    ["-Wall", "-Wextra", "-Werror", ...options, "-o", path, file],
    { encoding: "utf8" },
  );
  if (status !== 0) throw new Error(stderr);
  return { path, [Symbol.dispose]: () => dir[Symbol.dispose]() };
}
