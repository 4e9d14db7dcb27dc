/** proper-lockfile: a directory beside the file, which has to exist. */

import { writeFileSync } from "node:fs";
import lockfile from "proper-lockfile";

/**
 * Without retries it does not wait at all. Its pauses are 1 s, 2 s, 4 s and so
 * on by default.
 */
const OPTIONS = { retries: 100 };

/**
 * @param {string} path
 * @returns {import("../types.ts").Locker}
 */
export function makeSync(path) {
  createIfMissing(path);
  return {
    acquire: () => lockfile.lockSync(path),
    release: () => lockfile.unlockSync(path),
  };
}

/**
 * @param {string} path
 * @returns {import("../types.ts").Locker}
 */
export function make(path) {
  createIfMissing(path);
  return {
    acquire: () => lockfile.lock(path, OPTIONS),
    release: () => lockfile.unlock(path),
  };
}

/**
 * Keeps the content of an existing file.
 *
 * @param {string} path
 */
function createIfMissing(path) {
  writeFileSync(path, "", { flag: "a" });
}
