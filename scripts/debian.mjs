/** What only Debian brings: peers that share locks, and a slow file system. */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import process from "node:process";

/** Packages, and the file that tells that one is there. */
const PACKAGES = {
  "bindfs": "/usr/bin/bindfs",
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
