/** lockfile: a file that exists while the lock is held. */

import { lockSync, unlockSync } from "lockfile";

/**
 * @param {string} path
 * @returns {import("../types.ts").Locker}
 */
export function makeSync(path) {
  return {
    acquire: () => lockSync(path),
    release: () => unlockSync(path),
  };
}
