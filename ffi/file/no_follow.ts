/** Links that opening cannot be told not to follow. */

import { lstatSync } from "node:fs";
import { constants } from "node:os";

/**
 * Throws what `O_NOFOLLOW` would. A link that is made between this and opening
 * is found out once the file is locked, by {@linkcode NativeFile.isAt}.
 */
export function throwIfSymlink(path: string): void {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) return;
  throw Object.assign(
    new Error(`ELOOP: too many symbolic links encountered, open '${path}'`),
    { code: "ELOOP", errno: constants.errno.ELOOP, syscall: "open", path },
  );
}
