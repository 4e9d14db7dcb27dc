/**
 * What only Debian brings: peers that share locks, a slow file system, and the
 * headers of two C libraries.
 */

import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:net";
import process from "node:process";
import { setTimeout } from "node:timers/promises";

/** Packages, and the file that tells that one is there. */
const PACKAGES = {
  "bindfs": "/usr/bin/bindfs",
  "gcc": "/usr/bin/gcc",
  "libc6-dev": "/usr/include/stdio.h",
  "musl-tools": "/usr/bin/musl-gcc",
  "python3-pip": "/usr/lib/python3/dist-packages/pip",
  "python3-portalocker": "/usr/lib/python3/dist-packages/portalocker",
  "python3-redis": "/usr/lib/python3/dist-packages/redis",
  "redis-server": "/usr/bin/redis-server",
  "strace": "/usr/bin/strace",
  "util-linux": "/usr/bin/flock",
};

/** What runs programs for Windows, and what compiles them. */
const WINE = {
  "gcc-mingw-w64-x86-64": "/usr/bin/x86_64-w64-mingw32-gcc",
  "wine": "/usr/bin/wine",
  "wine64": "/usr/lib/wine/wine64",
};

/** Installs what is missing, where that is possible; says so where not. */
export function installDebianPackages() {
  install(PACKAGES);
}

/** Whether there is a Wine to run tests with, or one could be installed. */
export function installWine() {
  // The programs are for this processor alone.
  return process.arch === "x64" && install(WINE);
}

function install(packages) {
  const missing = Object.keys(packages).filter((name) =>
    !existsSync(packages[name])
  );
  if (missing.length === 0) return true;
  if (process.getuid?.() !== 0 || !succeeds("apt-get", ["--version"])) {
    console.log(
      `MISSING ${missing.join(", ")}: not root on Debian, so they stay ` +
        "missing and the tests that need them are skipped",
    );
    return false;
  }
  console.log(`Installing ${missing.join(", ")}`);
  const arguments_ = ["install", "-y", "--no-install-recommends", ...missing];
  const installed = succeeds("apt-get", ["update"]) &&
    succeeds("apt-get", arguments_);
  if (!installed) console.log(`MISSING ${missing.join(", ")}: apt-get failed`);
  return installed;
}

/**
 * The version whose newer classes the tests share locks with, and what its
 * RedisLock needs: it cannot even be imported beside Debian's older redis-py.
 */
const NEWER = ["portalocker==4.4.0", "redis==8.1.0"];

/**
 * Installs a newer portalocker than Debian's into a folder that the tests add
 * to Python's path; returns the folder, or `null` where pip cannot.
 */
export function newerPortalocker(folder) {
  const missing = NEWER.filter((name) =>
    !existsSync(join(folder, `${name.replace("==", "-")}.dist-info`))
  );
  if (missing.length === 0) return folder;
  const names = missing.join(", ");
  console.log(`Installing ${names}`);
  // What an earlier version of this has left is replaced.
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

/** A Python that has portalocker, or `null`. */
export function python() {
  return ["/usr/bin/python3", "python3", "python"].find((name) =>
    succeeds(name, ["-c", "import portalocker"])
  ) ?? null;
}

/**
 * A Redis server where everybody expects one, for examples. It is the one that
 * is there already or else one of our own; `null` if there can be none.
 */
export async function defaultRedis() {
  const port = 6379;
  if (await listens(port)) return { kill() {} };
  const options = ["--port", `${port}`, "--save", "", "--bind", "127.0.0.1"];
  const server = spawn("redis-server", options, { stdio: "ignore" });
  const missing = new Promise((resolve) => server.on("error", resolve));
  for (let attempt = 0; attempt < 100; attempt++) {
    if (await listens(port)) return server;
    const gone = await Promise.race([missing, setTimeout(50)]);
    if (gone !== undefined || server.exitCode !== null) return null;
  }
  server.kill();
  return null;
}

function listens(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}

function succeeds(command, args) {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync(command, args, { stdio: "ignore", env }).status === 0;
}
