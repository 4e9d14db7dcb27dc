/**
 * Joins and resolves paths without normalizing them: after a symbolic link,
 * `..` is the parent directory of the link's target.
 *
 * @module
 */

import { isAbsolute, resolve, sep } from "node:path";
import process from "node:process";

/** Appends a name to the path of a directory, without normalizing either. */
export function childPath(directory: string, name: string): string {
  return directory.endsWith(sep) ? directory + name : directory + sep + name;
}

/** Makes a path independent of later changes of the current directory. */
export function absolute(path: string): string {
  if (isAbsolute(path)) return path;
  try {
    // Windows has one current directory for each drive.
    if (sep === "\\") return resolve(path);
    return childPath(process.cwd(), path);
  } catch {
    // The directory was removed, or Deno lacks `--allow-read`: stay relative.
    return path;
  }
}
