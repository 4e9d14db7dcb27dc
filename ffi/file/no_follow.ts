/** Rejects symbolic links where `O_NOFOLLOW` is not available. */

import { lstatSync } from "node:fs";
import { constants } from "node:os";

/**
 * Throws the error that open(2) with `O_NOFOLLOW` would.
 *
 * A link may be created between this check and the open. The caller detects it
 * once the file is locked, by {@linkcode PlatformFile.isStillAt}.
 *
 * @throws With code `ELOOP` if the path is a symbolic link.
 */
export function throwIfSymlink(path: string): void {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) return;
  throw Object.assign(
    new Error(`ELOOP: too many symbolic links encountered, open '${path}'`),
    { code: "ELOOP", errno: constants.errno.ELOOP, syscall: "open", path },
  );
}
