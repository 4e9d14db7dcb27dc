/**
 * The options of the lock classes, their defaults and their checks.
 *
 * @module
 */

import { tmpdir } from "node:os";
import type { LockerSettings } from "../../ffi/types.ts";
import {
  ACQUIRE_OPTIONS,
  DEFAULT_TIMEOUT,
  failFast,
  resolveWait,
  WAIT_FOREVER,
} from "./acquire_options.ts";
import type { AcquireOptions, WaitSettings } from "./acquire_options.ts";
import {
  checkBoolean,
  checkFileNamePart,
  checkPermissions,
  filePath,
  formatList,
  rejectUnknownOptions,
  throwInvalid,
} from "./validate.ts";
import { resolveLockType } from "./flags.ts";
import type { LockFlags } from "./flags.ts";
import {
  checkModeAllowsLock,
  checkModeKeepsOthers,
  resolveLocker,
} from "./locker.ts";
import { parseMode } from "./open_mode.ts";
import type { FileMode, LockedMode } from "./open_mode.ts";

/**
 * Options for opening and locking a file. An option that is `undefined` is
 * treated as absent.
 */
export interface LockOptions extends AcquireOptions {
  /**
   * The mode in which to open the file, as in fopen(3).
   *
   * @default {"a"}
   */
  mode?: FileMode | undefined;
  /**
   * Whether the lock is shared: several readers may hold it at the same time,
   * and no writer. Not together with `flags`.
   *
   * @default {false}
   */
  shared?: boolean | undefined;
  /**
   * The lock in the terms of flock(2) and Python's portalocker:
   * {@linkcode LOCK_EX} or {@linkcode LOCK_SH}, alone or with
   * {@linkcode LOCK_NB}. `shared: true` is `LOCK_SH | LOCK_NB`.
   *
   * @default {LOCK_EX | LOCK_NB}
   */
  flags?: LockFlags | undefined;
  /**
   * The permission bits of a new file, before the umask is applied.
   *
   * @default {0o666}
   */
  creationMode?: number | undefined;
  /**
   * The type of lock. All programs that use the file must use the same type.
   *
   * - `"flock"` is a lock of flock(2).
   * - `"ofd"` is a record lock of fcntl(2) that belongs to the open file. It
   *   also excludes within the process, and conflicts with lockf(3).
   * - `"lockf"` is a record lock of fcntl(2) that belongs to the process. It
   *   does **not** exclude within the process. The kernel releases it when any
   *   part of the process closes the file.
   *
   * An exclusive record lock requires a mode that writes, a shared one a mode
   * that reads. See `docs/lockers.md`.
   *
   * @default {"flock"}
   */
  locker?: "flock" | "ofd" | "lockf" | undefined;
  /**
   * The range of bytes to lock, for the lockers `"ofd"` and `"lockf"`. `start`
   * is the first byte, 0 or more; `length` is the number of bytes, 1 or more.
   * The range may extend past the end of the file. By default, the lock covers
   * the whole file, and the bytes that are appended to it.
   *
   * A lock on a range does not permit to cut bytes that it does not cover. So
   * the modes `"w"` and `"w+"`, `truncate` and `replaceContents` require a range
   * that ends at `Number.MAX_SAFE_INTEGER`, or none.
   */
  range?: { start: number; length: number } | undefined;
  /**
   * What to do if the file was removed or replaced during the wait, so that the
   * path leads to another file or none, and a process that comes later would not
   * see the lock.
   *
   * - `"retry"` opens the path again, which may create the file, and goes on
   *   waiting. In the modes `"x"` and `"x+"`, this fails if another process has
   *   created the file. The permission to read the path is needed, or the file
   *   counts as unchanged. Only acquisitions that wait are checked.
   * - `"ignore"` keeps the lock on the old file, as Python's portalocker does.
   *   Use it on a file system whose inode numbers are not stable.
   *
   * @default {"retry"}
   */
  replaced?: "retry" | "ignore" | undefined;
  /**
   * Whether to throw the errors of unlocking and closing the file. The lock is
   * released in either case.
   *
   * @default {false}
   */
  throwOnReleaseError?: boolean | undefined;
}

/** Options for a file that exists only while it is locked. */
export type TemporaryFileLockOptions = Omit<
  LockOptions,
  "mode" | "locker" | "range" | "replaced"
>;

/**
 * Options for a semaphore. An option that is `undefined` is treated as absent.
 */
export interface BoundedSemaphoreOptions
  extends
    AcquireOptions,
    Pick<LockOptions, "creationMode" | "throwOnReleaseError"> {
  /**
   * The name of the semaphore. Programs that use the same name, pattern and
   * directory share the semaphore.
   *
   * @default {"bounded_semaphore"}
   */
  name?: string | undefined;
  /**
   * The pattern of the file names, in the syntax of Python's `str.format`. It
   * may contain `{name}`, and must contain `{number}`, which may have a width.
   *
   * @default {"{name}.{number:02d}.lock"}
   */
  filenamePattern?: string | undefined;
  /**
   * The directory of the files, which must exist. A relative path is resolved
   * by the constructor. On Deno, the default requires `--allow-env` and `--allow-sys`.
   *
   * @default {os.tmpdir()}
   */
  directory?: string | URL | undefined;
}

/** {@linkcode BoundedSemaphoreOptions} with all defaults applied. */
export interface SemaphoreSettings extends LockSettings {
  readonly name: string;
  readonly filenamePattern: string;
  readonly directory: string;
}

/** {@linkcode LockOptions} with all defaults applied. */
export interface LockSettings {
  readonly mode: LockedMode;
  readonly exclusive: boolean;
  readonly locker: LockerSettings;
  readonly creationMode: number;
  readonly replaced: "retry" | "ignore";
  readonly throwOnReleaseError: boolean;
  readonly wait: WaitSettings;
}

const REPLACED: readonly string[] = ["retry", "ignore"];

const TEMPORARY_OPTIONS: Record<keyof TemporaryFileLockOptions, true> = {
  ...ACQUIRE_OPTIONS,
  shared: true,
  flags: true,
  creationMode: true,
  throwOnReleaseError: true,
};

const LOCK_OPTIONS: Record<keyof LockOptions, true> = {
  ...ACQUIRE_OPTIONS,
  mode: true,
  shared: true,
  flags: true,
  creationMode: true,
  locker: true,
  range: true,
  replaced: true,
  throwOnReleaseError: true,
};

const SEMAPHORE_OPTIONS: Record<keyof BoundedSemaphoreOptions, true> = {
  ...ACQUIRE_OPTIONS,
  name: true,
  filenamePattern: true,
  directory: true,
  creationMode: true,
  throwOnReleaseError: true,
};

/** Checks the options of a lock and applies the defaults. */
export function resolveLockOptions(options: LockOptions = {}): LockSettings {
  rejectUnknownOptions(options, LOCK_OPTIONS);
  const {
    mode: modeName = "a",
    creationMode = 0o666,
    replaced = "retry",
    throwOnReleaseError = false,
  } = options;
  const mode = parseMode(modeName);
  const { exclusive, blocking, option } = resolveLockType(options);
  if (!exclusive && mode.truncate) {
    throw new RangeError(
      `mode "${mode.name}" truncates the file, which is not permitted with ` +
        `${option}; use an exclusive lock or another mode`,
    );
  }
  checkPermissions("creationMode", creationMode);
  if (!REPLACED.includes(replaced)) {
    const expected = `one of ${formatList(REPLACED)}`;
    throwInvalid("replaced", expected, replaced, "string");
  }
  checkBoolean("throwOnReleaseError", throwOnReleaseError);
  const locker = resolveLocker(options.locker, options.range);
  checkModeAllowsLock(locker, mode, exclusive, option);
  checkModeKeepsOthers(locker, mode);
  return {
    mode,
    exclusive,
    locker,
    creationMode,
    replaced,
    throwOnReleaseError,
    wait: resolveWait(options, {
      ...WAIT_FOREVER,
      timeout: blocking ? Infinity : DEFAULT_TIMEOUT,
    }),
  };
}

/**
 * Checks the options of a lock whose file exists only while it is locked. By
 * default, such a lock fails at once if another holder has it.
 */
export function resolveTemporaryOptions(
  options: TemporaryFileLockOptions = {},
): LockSettings {
  rejectUnknownOptions(options, TEMPORARY_OPTIONS);
  const { exclusive, blocking } = resolveLockType(options);
  const mode = exclusive ? "w+" : "a+";
  const settings = resolveLockOptions({ ...options, mode });
  return blocking ? settings : { ...settings, wait: failFast(options) };
}

/** Checks the options of a PID file, whose lock is always exclusive. */
export function resolvePidOptions(
  options?: TemporaryFileLockOptions,
): LockSettings {
  const settings = resolveTemporaryOptions(options);
  if (settings.exclusive) return settings;
  const expected = options?.shared === undefined
    ? "flags must be LOCK_EX"
    : "shared must be false";
  throw new RangeError(`${expected}: a PID file has one holder`);
}

/** Checks the options of a semaphore and applies the defaults. */
export function resolveSemaphoreOptions(
  options: BoundedSemaphoreOptions = {},
): SemaphoreSettings {
  rejectUnknownOptions(options, SEMAPHORE_OPTIONS);
  const {
    name = "bounded_semaphore",
    filenamePattern = "{name}.{number:02d}.lock",
    directory,
    ...others
  } = options;
  checkFileNamePart("name", name);
  checkFileNamePart("filenamePattern", filenamePattern);
  const { creationMode, throwOnReleaseError } = others;
  return {
    ...resolveLockOptions({ creationMode, throwOnReleaseError }),
    wait: failFast(others),
    name,
    filenamePattern,
    directory: directory === undefined
      ? tmpdir()
      : filePath(directory, "directory"),
  };
}
