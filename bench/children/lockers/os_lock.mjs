/** os-lock: fcntl(2) locks on Node's descriptors, in a pool thread. */

import { closeSync, openSync } from "node:fs";
import { lock, unlock } from "os-lock";

const OPTIONS = { exclusive: true, immediate: true };

/**
 * @param {string} path
 * @returns {import("../types.ts").Locker}
 */
export function make(path) {
  /** @type {number} */
  let fd;
  return {
    async acquire() {
      fd = openSync(path, "a");
      await lock(fd, OPTIONS);
    },
    async release() {
      await unlock(fd);
      closeSync(fd);
    },
  };
}
