/** The options of atomic writing. */

import {
  checkBoolean,
  checkPermissions,
  rejectUnknownOptions,
} from "../options/validate.ts";

/** How to write a file atomically. */
export interface AtomicOptions {
  /**
   * Whether a file that exists already is replaced. Otherwise it is left as it
   * is, and {@linkcode AlreadyExists} thrown.
   *
   * @default {false}
   */
  replace?: boolean;
  /**
   * Permission bits of a new file, less the umask. A file that is replaced
   * hands on its own.
   *
   * @default {0o666}
   */
  creationMode?: number;
  /**
   * Whether the content is on the disk before the file has its name, and the
   * name before the commit ends. Without it both are safe from a crash of the
   * process, and not from one of the system.
   *
   * @default {true}
   */
  durable?: boolean;
}

const ATOMIC_OPTIONS = [
  "replace",
  "creationMode",
  "durable",
] as const satisfies readonly (keyof AtomicOptions)[];

/** Checks the options of an atomic write and fills in the defaults. */
export function atomicSettings(
  options: AtomicOptions = {},
): Required<AtomicOptions> {
  rejectUnknownOptions(options, ATOMIC_OPTIONS);
  const { replace = false, creationMode = 0o666, durable = true } = options;
  checkBoolean("replace", replace);
  checkPermissions("creationMode", creationMode);
  checkBoolean("durable", durable);
  return { replace, creationMode, durable };
}
