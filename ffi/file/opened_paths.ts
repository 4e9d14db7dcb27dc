/** Remembers which paths are on file systems of this machine. */

import { dirname } from "node:path";
import type { LocalPaths, OpenMode } from "../types.ts";

/** How many local paths are remembered before the set is cleared. */
const MAX_REMEMBERED_PATHS = 10_000;

/**
 * The {@linkcode LocalPaths} of a system whose mounts are not known. A path is
 * known after the first file that was opened there.
 */
export class OpenedPaths implements LocalPaths {
  /** Paths that were opened on a local file system. */
  readonly #files = new Set<string>();
  /** Directories on a local file system in which a file was created. */
  readonly #directories = new Set<string>();

  hasFile(path: string, { exclusive }: OpenMode): boolean {
    return this.#files.has(path) ||
      exclusive && this.#directories.has(dirname(path));
  }

  hasDirectory(path: string): boolean {
    return this.#directories.has(path);
  }

  remember(path: string, { exclusive }: OpenMode): void {
    const [paths, name] = exclusive
      ? [this.#directories, dirname(path)]
      : [this.#files, path];
    if (paths.size >= MAX_REMEMBERED_PATHS) paths.clear();
    paths.add(name);
  }
}
