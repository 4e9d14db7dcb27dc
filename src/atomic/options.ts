/**
 * The options of atomic writes, their defaults and their checks.
 *
 * @module
 */

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
}

/** {@linkcode AtomicOptions} with all defaults applied. */
export interface AtomicSettings {
  readonly replace: boolean;
  readonly creationMode: number;
  readonly durable: boolean;
}

const ATOMIC_OPTIONS: Record<keyof AtomicOptions, true> = {
  replace: true,
  creationMode: true,
  durable: true,
};

/** Checks the options of an atomic write and applies the defaults. */
export function resolveAtomicOptions(
  options: AtomicOptions = {},
): AtomicSettings {
  rejectUnknownOptions(options, ATOMIC_OPTIONS);
  const { replace = false, creationMode = 0o666, durable = true } = options;
  checkBoolean("replace", replace);
  checkPermissions("creationMode", creationMode);
  checkBoolean("durable", durable);
  return { replace, creationMode, durable };
}
