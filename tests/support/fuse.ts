/** Mounts directories with bindfs(1), a FUSE file system. */

import { execFileSync } from "node:child_process";
import { tempDir } from "./temp_dir.ts";

/**
 * Mounts a directory at another path. The locks of flock(2) that are taken
 * through the mount do not exclude those on the directory itself.
 *
 * @param source The directory; an empty one by default.
 */
export function bindMount(source?: string): { path: string } & Disposable {
  const own = source === undefined ? tempDir() : undefined;
  const mounted = tempDir();
  execFileSync("bindfs", [source ?? own!.path, mounted.path]);
  return {
    path: mounted.path,
    [Symbol.dispose]() {
      execFileSync("fusermount", ["-u", "-z", mounted.path]);
      mounted[Symbol.dispose]();
      own?.[Symbol.dispose]();
    },
  };
}
