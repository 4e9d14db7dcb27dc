/** Mounts directories with FUSE file systems. */

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { compileC } from "./compile.ts";
import { tempDir } from "./temp_dir.ts";

/**
 * Mounts a directory at another path. The locks of flock(2) that are taken
 * through the mount do not exclude those on the directory itself.
 *
 * @param source The directory; an empty one by default.
 * @param options Options of bindfs(1).
 */
export function bindMount(
  source?: string,
  ...options: string[]
): { path: string } & Disposable {
  const own = source === undefined ? tempDir() : undefined;
  const mounted = tempDir();
  execFileSync("bindfs", [...options, source ?? own!.path, mounted.path]);
  return {
    path: mounted.path,
    [Symbol.dispose]() {
      execFileSync("fusermount", ["-u", "-z", mounted.path]);
      mounted[Symbol.dispose]();
      own?.[Symbol.dispose]();
    },
  };
}

/** Compiles the file system of `tests/c/lock_fs.c`. */
export function compileLockFileSystem(): { path: string } & Disposable {
  return compileC(
    "lock_fs.c",
    "cc",
    "-D_FILE_OFFSET_BITS=64",
    "-I/usr/include/fuse3",
    "-Wl,--no-as-needed",
    "-lfuse3",
  );
}

/**
 * Mounts a file system that treats locks as its mode says.
 *
 * @param program A compiled `tests/c/lock_fs.c`.
 * @param mode See that file.
 */
export async function lockFileSystem(
  program: string,
  mode: string,
): Promise<{ path: string; source: string } & AsyncDisposable> {
  const dir = tempDir();
  const source = join(dir.path, "source");
  const path = join(dir.path, "mounted");
  fs.mkdirSync(source);
  fs.mkdirSync(path);
  const { dev } = fs.statSync(path);
  const server = spawn(program, [mode, source, path], { stdio: "ignore" });
  const ended = once(server, "exit");
  while (fs.statSync(path).dev === dev) {
    if (server.exitCode !== null) throw new Error("cannot mount lock_fs");
    await delay(5);
  }
  return {
    path,
    source,
    async [Symbol.asyncDispose]() {
      execFileSync("umount", ["--lazy", path]);
      await ended;
      dir[Symbol.dispose]();
    },
  };
}
