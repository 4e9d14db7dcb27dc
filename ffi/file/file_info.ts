/** What `node:fs` tells of a file, as every runtime can. */

import type { Stats } from "node:fs";
import type { FileInfo } from "../types.ts";

/** Picks what every runtime has. */
export function fileInfo(stats: Stats): FileInfo {
  const { size, mtime, atime, birthtime, dev, ino, mode, nlink, uid, gid } =
    stats;
  return {
    isFile: stats.isFile(),
    isDirectory: stats.isDirectory(),
    size,
    mtime,
    atime,
    birthtime,
    dev,
    ino,
    mode,
    nlink,
    uid,
    gid,
  };
}
