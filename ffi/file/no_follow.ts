/** Rejects symbolic links where `O_NOFOLLOW` is not available. */

import { lstatSync, promises } from "node:fs";
import { constants } from "node:os";
import { errorCode } from "../types.ts";

/**
 * Throws the error that open(2) with `O_NOFOLLOW` would.
 *
 * A link may be created between this check and the open. The caller detects it
 * once the file is locked, by {@linkcode PlatformFile.nameAt}.
 *
 * @throws With code `ELOOP` if the path is a symbolic link.
 */
export function throwIfSymlink(path: string): void {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats?.isSymbolicLink()) throw linkError(path);
}

/** {@linkcode throwIfSymlink}, in the thread pool. */
export async function rejectSymlink(path: string): Promise<void> {
  const stats = await promises.lstat(path).catch((error: unknown) => {
    if (!isMissing(error)) throw error;
  });
  if (stats?.isSymbolicLink()) throw linkError(path);
}

/** Returns whether an error of lstat(2) says that the path does not exist. */
export function isMissing(error: unknown): boolean {
  const code = errorCode(error);
  return code === "ENOENT" || code === "ENOTDIR";
}

function linkError(path: string): Error {
  return Object.assign(new Error("ELOOP: symbolic link"), {
    code: "ELOOP",
    errno: constants.errno.ELOOP,
    syscall: "open",
    path,
  });
}
