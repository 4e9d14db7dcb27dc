/** fs-ext: flock(2) on Node's descriptors. */

import { closeSync, openSync } from "node:fs";
import { flockSync } from "fs-ext";

export function makeSync(path) {
  let fd;
  return {
    acquire() {
      fd = openSync(path, "a");
      flockSync(fd, "exnb");
    },
    release() {
      flockSync(fd, "un");
      closeSync(fd);
    },
  };
}
