/**
 * Which refusals of the system matter to an atomic write. A file system or a
 * sandbox may refuse each call: FAT, SMB, FUSE and Android refuse chmod(2),
 * users refuse chown(2) to each other, FAT does not have hard links.
 *
 * A refusal matters if it would give a user access that this user did not have,
 * or if it could lose data. Other refusals are forgiven. Only a code that says
 * "refused" or "not supported" is a refusal. `EIO` or `ENOSPC`, for example, is
 * always thrown, except where the table says "any error".
 *
 * | call               | if it is refused                                     |
 * | ------------------ | ---------------------------------------------------- |
 * | fchown(2)          | forgiven; the bits are narrowed for the new owner    |
 * | access list        | any error is forgiven; the bits are narrowed         |
 * | fchmod(2)          | matters only if the file has bits that it must not   |
 * |                    | have; a file with fewer bits is forgiven             |
 * | `user.*`, label    | any error is forgiven; the attribute is lost         |
 * | flock(2)           | forgiven if not supported; the file is not cleaned   |
 * | fsync(2), file     | always matters, because the content could be lost    |
 * | open, fsync(2),    | forgiven, because such systems order the rename by   |
 * | directory          | themselves or not at all                             |
 * | link(2)            | forgiven; the path is checked, and the file renamed  |
 * | rename(2)          | matters; `inPlace` overwrites the file instead       |
 * | listing, cleaning  | any error is forgiven; the next writer cleans        |
 * | removing the       | any error is forgiven; the next writer cleans        |
 * | temporary name     |                                                      |
 *
 * @module
 */

import { UNSUPPORTED_CODES } from "../core/errors.ts";
import { errorCode } from "../../ffi/types.ts";
import type { Gen } from "../core/gensync.ts";

const DENIED: readonly unknown[] = [
  ...UNSUPPORTED_CODES,
  "EACCES",
  "EINVAL",
  "EPERM",
];

/** A call of which a refusal may be forgiven. */
type Refusable = "chown" | "chmod" | "lock" | "syncDirectory" | "link";

/** The codes that are forgiven, for each call that may be refused. */
export const FORGIVEN: Readonly<Record<Refusable, readonly unknown[]>> = {
  chown: DENIED,
  chmod: DENIED,
  lock: [...UNSUPPORTED_CODES, "ENOLCK"],
  syncDirectory: [...DENIED, "EBADF", "EISDIR"],
  /**
   * File systems without hard links, or without another one for this file.
   * libuv converts ERROR_INVALID_FUNCTION of Windows to `EISDIR`.
   */
  link: [...UNSUPPORTED_CODES, "EISDIR", "EMLINK", "EPERM"],
};

/** Makes a call. Returns `false` if the system refuses it. */
export function* allowed(
  call: Refusable,
  made: Gen<void>,
): Gen<boolean> {
  try {
    yield* made;
    return true;
  } catch (error) {
    const codes = FORGIVEN[call];
    if (!codes.includes(errorCode(error))) throw error;
    return false;
  }
}
