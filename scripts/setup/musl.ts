/** A Bun for musl, the C library of Alpine, that runs on Debian. */

import { existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { install, isNewer, must, root, type Runtime } from "./mod.ts";

const LOADER = "/lib/ld-musl-x86_64.so.1";
const COMPILER = "/usr/bin/musl-gcc";

/** Libraries that Bun needs in addition; Debian's are built for glibc. */
const DEBIAN_LIBRARIES = [
  "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
  "/lib/x86_64-linux-gnu/libgcc_s.so.1",
];

const libraries = join(root, "build", "musl");
const folder = join(root, "tests", "musl");

/** Returns the runtime, or `null` if it cannot be installed. */
export function muslBun(): Runtime | null {
  const needs = [LOADER, COMPILER, ...DEBIAN_LIBRARIES];
  if (process.arch !== "x64" || !needs.every(existsSync)) return null;
  try {
    const platform = ["--os=linux", "--cpu=x64", "--libc=musl"];
    install(folder, "--no-bin-links", "--force", ...platform);
    linkLibraries();
    const bun = join(folder, "node_modules/@oven/bun-linux-x64-musl/bin/bun");
    const args = ["--library-path", libraries, bun];
    must(LOADER, [...args, "--version"]);
    return {
      name: "bun for musl",
      command: [LOADER, ...args],
      directory: root,
      extension: ".ts",
    };
  } catch (error) {
    console.log(`MISSING Bun for musl, so its tests are skipped: ${error}`);
    return null;
  }
}

/**
 * Links Debian's libraries into one folder, and compiles the functions of
 * glibc that they need under the name of glibc's loader, which they require.
 */
function linkLibraries(): void {
  const name = "ld-linux-x86-64.so.2";
  const source = join(folder, "glibc.c");
  if (isNewer(join(libraries, name), [source])) return;
  rmSync(libraries, { recursive: true, force: true });
  mkdirSync(libraries, { recursive: true });
  for (const path of DEBIAN_LIBRARIES) {
    symlinkSync(path, join(libraries, basename(path)));
  }
  const options = ["-shared", "-fPIC", "-O1", `-Wl,-soname,${name}`];
  must(COMPILER, [...options, "-o", join(libraries, name), source]);
}
