/**
 * Packages of Debian and PyPI that the tests use: programs that share locks, a
 * slow file system, the headers of two C libraries, and shells.
 */

import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";

/** Packages, and a file that exists if the package is installed. */
const PACKAGES: Record<string, string> = {
  "bash-completion": "/usr/share/bash-completion/bash_completion",
  "bindfs": "/usr/bin/bindfs",
  "fish": "/usr/bin/fish",
  "gcc": "/usr/bin/gcc",
  "libc6-dev": "/usr/include/stdio.h",
  "libfuse3-dev": "/usr/include/fuse3/fuse.h",
  "musl-tools": "/usr/bin/musl-gcc",
  "python3-pip": "/usr/lib/python3/dist-packages/pip",
  "python3-portalocker": "/usr/lib/python3/dist-packages/portalocker",
  "python3-redis": "/usr/lib/python3/dist-packages/redis",
  "redis-server": "/usr/bin/redis-server",
  "strace": "/usr/bin/strace",
  "util-linux": "/usr/bin/flock",
  "zsh": "/usr/bin/zsh",
};

/** Wine, which runs Windows programs, and the compiler for them. */
const WINE: Record<string, string> = {
  "gcc-mingw-w64-x86-64": "/usr/bin/x86_64-w64-mingw32-gcc",
  "wine": "/usr/bin/wine",
  "wine64": "/usr/lib/wine/wine64",
};

/** The compiler of the addon. Debian 12 has this version. */
const COMPILER: Record<string, string> = {
  "clang-14": "/usr/bin/clang-14",
  "lld-14": "/usr/bin/ld.lld-14",
  "llvm-14": "/usr/bin/llvm-nm-14",
};

/** Installs the missing packages; reports them if that is not possible. */
export function installDebianPackages(): void {
  install(PACKAGES);
}

/** Returns whether Wine is installed or could be installed. */
export function installWine(): boolean {
  // Node and Bun for Windows are installed for x64 only.
  return process.arch === "x64" && install(WINE);
}

/** Returns whether the compiler is installed or could be installed. */
export function installCompiler(): boolean {
  return install(COMPILER);
}

function install(packages: Record<string, string>): boolean {
  const missing = Object.entries(packages)
    .filter(([, file]) => !existsSync(file)).map(([name]) => name);
  if (missing.length === 0) return true;
  if (process.getuid?.() !== 0 || !succeeds("apt-get", ["--version"])) {
    console.log(
      `MISSING ${missing.join(", ")}: not root on Debian, so these packages ` +
        "are not installed, and what needs them is skipped",
    );
    return false;
  }
  const updated = succeeds("apt-get", ["update"]);
  const unknown = missing.filter((name) =>
    !succeeds("apt-cache", ["show", name])
  );
  if (updated && unknown.length > 0) {
    console.log(
      `MISSING ${missing.join(", ")}: this release does not have ` +
        `${unknown.join(", ")}, and what needs them is skipped`,
    );
    return false;
  }
  console.log(`Installing ${missing.join(", ")}`);
  const args = ["install", "-y", "--no-install-recommends", ...missing];
  const installed = updated && succeeds("apt-get", args);
  if (!installed) console.log(`MISSING ${missing.join(", ")}: apt-get failed`);
  return installed;
}

/**
 * The portalocker whose newer classes share locks with the tests, and the
 * redis-py for its RedisLock, which does not work with Debian's older one.
 */
const NEWER = ["portalocker==4.4.0", "redis==8.1.0"];

/**
 * Installs a newer portalocker than Debian's into a folder that the tests add
 * to Python's path.
 *
 * @returns The folder, or `null` if pip cannot install it.
 */
export function newerPortalocker(folder: string): string | null {
  const missing = NEWER.filter((name) =>
    !existsSync(join(folder, `${name.replace("==", "-")}.dist-info`))
  );
  if (missing.length === 0) return folder;
  const names = missing.join(", ");
  console.log(`Installing ${names}`);
  // --upgrade replaces an older version in the folder.
  const options = ["--quiet", "--no-deps", "--retries=0", "--upgrade"];
  const install = ["-m", "pip", "install", ...options];
  const installed = ["/usr/bin/python3", "python3", "python"].some((name) =>
    succeeds(name, [...install, "--target", folder, ...missing])
  );
  if (installed) return folder;
  console.log(
    `MISSING ${names}: pip cannot install it, so the tests that need it are ` +
      "skipped",
  );
  return null;
}

/** Returns a Python that has portalocker, or `null`. */
export function python(): string | null {
  return ["/usr/bin/python3", "python3", "python"].find((name) =>
    succeeds(name, ["-c", "import portalocker"])
  ) ?? null;
}

/**
 * Returns a Redis server on the default port, for examples: the one that runs
 * already, or a new one; `null` if `redis-server` is not installed.
 */
export async function defaultRedis(): Promise<{ kill(): unknown } | null> {
  const port = 6379;
  if (await listens(port)) return { kill() {} };
  const options = ["--port", `${port}`, "--save", "", "--bind", "127.0.0.1"];
  const server = spawn("redis-server", options, { stdio: "ignore" });
  const missing = new Promise<Error>((resolve) => server.on("error", resolve));
  for (let attempt = 0; attempt < 100; attempt++) {
    if (await listens(port)) return server;
    const error = await Promise.race([missing, setTimeout(50)]);
    if (error !== undefined || server.exitCode !== null) return null;
  }
  server.kill();
  return null;
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}

function succeeds(command: string, args: string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync(command, args, { stdio: "ignore", env }).status === 0;
}
