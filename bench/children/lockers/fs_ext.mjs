/** fs-ext: flock(2) on Node's descriptors, in a pool thread or synchronously. */

import { closeSync, openSync } from "node:fs";
import { promisify } from "node:util";
import { flock, flockSync } from "fs-ext";

const lock = promisify(flock);

/**
 * @param {string} path
 * @returns {import("../types.ts").Locker}
 */
export function makeSync(path) {
  /** @type {number} */
  let fd;
  return {
    acquire() {
      fd = openSync(path, "a");
      flockSync(fd, "ex");
    },
    release: () => unlock(fd),
  };
}

/**
 * @param {string} path
 * @returns {import("../types.ts").Locker}
 */
export function make(path) {
  /** @type {number} */
  let fd;
  return {
    async acquire() {
      const opened = openSync(path, "a");
      await lock(opened, "ex");
      fd = opened;
    },
    // Unlocking never waits, so a pool thread would only add time.
    release: () => unlock(fd),
  };
}

/** @param {number} fd */
function unlock(fd) {
  flockSync(fd, "un");
  closeSync(fd);
}
