/** proper-lockfile: a directory beside the file, which has to exist. */

import { writeFileSync } from "node:fs";
import lockfile from "proper-lockfile";

/**
 * Without retries it would not wait at all. Its pauses, by default, are 1 s,
 * 2 s, 4 s and so on.
 */
const OPTIONS = { retries: 100 };

export function makeSync(path) {
  mustExist(path);
  return {
    acquire: () => lockfile.lockSync(path),
    release: () => lockfile.unlockSync(path),
  };
}

export function make(path) {
  mustExist(path);
  return {
    acquire: () => lockfile.lock(path, OPTIONS),
    release: () => lockfile.unlock(path),
  };
}

/** Keeps what it holds. */
function mustExist(path) {
  writeFileSync(path, "", { flag: "a" });
}
