/** Paths that keep their meaning. */

import { isAbsolute, resolve, sep } from "node:path";
import process from "node:process";

/** A path below a directory. Nothing is shortened: `..` may leave a link. */
export function childPath(directory: string, name: string): string {
  return directory.endsWith(sep) ? directory + name : directory + sep + name;
}

/** A path that still leads there when the current directory is another. */
export function absolute(path: string): string {
  if (isAbsolute(path)) return path;
  try {
    // There is one current directory for each drive.
    if (sep === "\\") return resolve(path);
    return childPath(process.cwd(), path);
  } catch {
    // It may be gone, or Deno may not tell; the path has to do.
    return path;
  }
}
