/** The part of the `node:fs` stats that every runtime provides. */

import type { Stats } from "node:fs";
import type { FileInfo } from "../types.ts";

/** Converts `node:fs` stats. */
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
