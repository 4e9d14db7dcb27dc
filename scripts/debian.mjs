/** What only Debian brings: peers that share locks, and a slow file system. */

import { spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import process from "node:process";

/** Packages, and the file that tells that one is there. */
const PACKAGES = {
  "bindfs": "/usr/bin/bindfs",
  "python3-pip": "/usr/lib/python3/dist-packages/pip",
  "python3-portalocker": "/usr/lib/python3/dist-packages/portalocker",
  "strace": "/usr/bin/strace",
  "util-linux": "/usr/bin/flock",
};

/** Installs what is missing, where that is possible; says so where not. */
export function installDebianPackages() {
  const missing = Object.keys(PACKAGES).filter((name) =>
    !existsSync(PACKAGES[name])
  );
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0 || !succeeds("apt-get", ["--version"])) {
    console.log(
      `MISSING ${missing.join(", ")}: not root on Debian, so they stay ` +
        "missing and the tests that need them are skipped",
    );
    return;
  }
  console.log(`Installing ${missing.join(", ")}`);
  const install = ["install", "-y", "--no-install-recommends", ...missing];
  const installed = succeeds("apt-get", ["update"]) &&
    succeeds("apt-get", install);
  if (!installed) console.log(`MISSING ${missing.join(", ")}: apt-get failed`);
}

/** The version whose newer classes the tests share locks with. */
const PORTALOCKER = "portalocker==4.4.0";

/**
 * Installs a newer portalocker than Debian's into a folder that the tests add
 * to Python's path; returns the folder, or `null` where pip cannot.
 */
export function newerPortalocker(folder) {
  if (existsSync(folder)) return folder;
  console.log(`Installing ${PORTALOCKER}`);
  const options = ["--quiet", "--no-deps", "--retries=0"];
  const install = ["-m", "pip", "install", ...options];
  const installed = ["/usr/bin/python3", "python3", "python"].some((name) =>
    succeeds(name, [...install, "--target", folder, PORTALOCKER])
  );
  if (installed) return folder;
  rmSync(folder, { recursive: true, force: true });
  console.log(
    `MISSING ${PORTALOCKER}: pip cannot install it, so the tests that need ` +
      "it are skipped",
  );
  return null;
}

/** A Python that has portalocker, or `null`. */
export function python() {
  return ["/usr/bin/python3", "python3", "python"].find((name) =>
    succeeds(name, ["-c", "import portalocker"])
  ) ?? null;
}

function succeeds(command, args) {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync(command, args, { stdio: "ignore", env }).status === 0;
}
