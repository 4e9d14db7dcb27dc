/**
 * The options of atomic writes, their defaults and their checks.
 *
 * @module
 */

import type { LockedFile } from "../file/locked_file.ts";
import {
  checkBoolean,
  checkPermissions,
  rejectUnknownOptions,
} from "../options/validate.ts";

/**
 * Options for atomic writes. An option that is `undefined` is treated as
 * absent.
 */
export interface AtomicOptions {
  /**
   * Whether to replace an existing file. If `false` and the file exists,
   * {@linkcode AlreadyExists} is thrown and the file is not changed.
   *
   * @default {false}
   */
  replace?: boolean | undefined;
  /**
   * The permission bits of a new file, before the umask is applied. If a file
   * is replaced, the new file gets the permission bits of the old one.
   *
   * @default {0o666}
   */
  creationMode?: number | undefined;
  /**
   * Whether to call fsync(2) for the content before the file is published, and
   * for the directory before the commit ends. If `false`, a crash of the
   * process does not lose the content, but a crash of the system may.
   *
   * @default {true}
   */
  durable?: boolean | undefined;
  /**
   * Whether to overwrite a file in place if it cannot be replaced: because it
   * is a mount point, as a single file in a container is, or because its
   * directory does not permit it. Requires `replace: true`.
   *
   * The file is locked exclusively while it is overwritten. The call waits for
   * this lock for 5 seconds. Its tail is written first, then its head, and then
   * it is cut. So a reader without a lock may read a mixture of the old and the
   * new content. If the process is killed, or a write fails, the mixture stays.
   * The file is never empty, unless the old or the new content is. Other hard
   * links have the new content, too.
   *
   * @default {false}
   */
  inPlace?: boolean | undefined;
}

/** {@linkcode AtomicOptions} with all defaults applied. */
export interface AtomicSettings {
  readonly replace: boolean;
  readonly creationMode: number;
  readonly durable: boolean;
  readonly inPlace: boolean;
  /** The lock under which a file is overwritten in place, if it is held. */
  readonly held?: LockedFile | null;
}

const ATOMIC_OPTIONS: Record<keyof AtomicOptions, true> = {
  replace: true,
  creationMode: true,
  durable: true,
  inPlace: true,
};

/** Checks the options of an atomic write and applies the defaults. */
export function resolveAtomicOptions(
  options: AtomicOptions = {},
): AtomicSettings {
  rejectUnknownOptions(options, ATOMIC_OPTIONS);
  const {
    replace = false,
    creationMode = 0o666,
    durable = true,
    inPlace = false,
  } = options;
  checkBoolean("replace", replace);
  checkPermissions("creationMode", creationMode);
  checkBoolean("durable", durable);
  checkBoolean("inPlace", inPlace);
  if (inPlace && !replace) {
    throw new RangeError("inPlace: true requires replace: true");
  }
  return { replace, creationMode, durable, inPlace };
}
