/** A Bun whose C library is musl, as on Alpine, made to run on Debian. */

import { existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { install, isNewer, must, root } from "./setup.mjs";

const LOADER = "/lib/ld-musl-x86_64.so.1";
const COMPILER = "/usr/bin/musl-gcc";
/** What Bun wants beside the C library: Debian's, which are for glibc. */
const DEBIANS = [
  "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
  "/lib/x86_64-linux-gnu/libgcc_s.so.1",
];

const libraries = join(root, "build", "musl");
const folder = join(root, "tests", "musl");

/** The runtime, or `null` where it cannot be had. */
export function muslBun() {
  const needs = [LOADER, COMPILER, ...DEBIANS];
  if (process.arch !== "x64" || !needs.every(existsSync)) return null;
  try {
    const platform = ["--os=linux", "--cpu=x64", "--libc=musl"];
    install(folder, "--no-bin-links", "--force", ...platform);
    gatherLibraries();
    const bun = join(folder, "node_modules/@oven/bun-linux-x64-musl/bin/bun");
    const command = [LOADER, "--library-path", libraries, bun];
    must(command[0], [...command.slice(1), "--version"]);
    return { name: "bun for musl", command, directory: root, extension: ".ts" };
  } catch (error) {
    console.log(`MISSING Bun for musl, so its tests are skipped: ${error}`);
    return null;
  }
}

/** glibc's loader is named by Debian's, so what they lack has its name. */
function gatherLibraries() {
  const name = "ld-linux-x86-64.so.2";
  const source = join(folder, "glibc.c");
  if (isNewer(join(libraries, name), [source])) return;
  rmSync(libraries, { recursive: true, force: true });
  mkdirSync(libraries, { recursive: true });
  for (const path of DEBIANS) {
    symlinkSync(path, join(libraries, basename(path)));
  }
  const options = ["-shared", "-fPIC", "-O1", `-Wl,-soname,${name}`];
  must(COMPILER, [...options, "-o", join(libraries, name), source]);
}
