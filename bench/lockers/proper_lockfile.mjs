/** proper-lockfile: a directory beside the file, which has to exist. */

import { writeFileSync } from "node:fs";
import lockfile from "proper-lockfile";

export function makeSync(path) {
  writeFileSync(path, "");
  return {
    acquire: () => lockfile.lockSync(path),
    release: () => lockfile.unlockSync(path),
  };
}

export function make(path) {
  writeFileSync(path, "");
  return {
    acquire: () => lockfile.lock(path),
    release: () => lockfile.unlock(path),
  };
}
