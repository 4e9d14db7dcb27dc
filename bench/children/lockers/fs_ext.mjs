/** fs-ext: flock(2) on Node's descriptors, in a pool thread or at once. */

import { closeSync, openSync } from "node:fs";
import { promisify } from "node:util";
import { flock, flockSync } from "fs-ext";

const lock = promisify(flock);

export function makeSync(path) {
  let fd;
  return {
    acquire() {
      fd = openSync(path, "a");
      flockSync(fd, "ex");
    },
    release: () => unlock(fd),
  };
}

export function make(path) {
  let fd;
  return {
    async acquire() {
      const opened = openSync(path, "a");
      await lock(opened, "ex");
      fd = opened;
    },
    // It never waits, so a pool thread would only cost.
    release: () => unlock(fd),
  };
}

function unlock(fd) {
  flockSync(fd, "un");
  closeSync(fd);
}
