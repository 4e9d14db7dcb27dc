/** The options of each kind of lock, and the one place where they are checked. */

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
  rejectUnknownOptions,
} from "./validate.ts";
import { LOCK_EX, LOCK_NB, parseFlags } from "./flags.ts";
import type { LockFlags } from "./flags.ts";
import { checkModeAllowsLock, resolveLocker } from "./locker.ts";
import { parseMode } from "./open_mode.ts";
import type { FileMode, LockedMode } from "./open_mode.ts";

/** How to open and lock a file. */
export interface LockOptions extends AcquireOptions {
  /**
   * How the file is opened.
   *
   * @default {"a"}
   */
  mode?: FileMode;
  /**
   * `LOCK_EX` or `LOCK_SH`, with or without `LOCK_NB`.
   *
   * @default {LOCK_EX | LOCK_NB}
   */
  flags?: LockFlags;
  /**
   * Permission bits of a file that has to be created, less the umask.
   *
   * @default {0o666}
   */
  creationMode?: number;
  /**
   * Which of the system's locks to take; everybody must take the same kind.
   * `"flock"` is flock(2). `"ofd"` is a record lock of the open file, which
   * excludes within the process too, and meets those of fcntl(2) and lockf(3).
   * `"lockf"` is a record lock of the process: it does **not** exclude within
   * the process, and is lost as soon as any part of the process closes the
   * file. A record lock that is exclusive needs a mode that writes, a shared
   * one a mode that reads. See `docs/lockers.md`.
   *
   * @default {"flock"}
   */
  locker?: "flock" | "ofd" | "lockf";
  /**
   * The bytes to lock, with the lockers `"ofd"` and `"lockf"`: `length` of
   * them, 1 or more, from `start` on, 0 or more, whether or not the file has
   * as many. Without it the whole file is locked, however long it grows.
   */
  range?: { start: number; length: number };
  /**
   * Whether errors of unlocking and closing are thrown. The lock is gone
   * either way.
   *
   * @default {false}
   */
  throwOnReleaseError?: boolean;
}

/** How to make a file that exists only while it is locked. */
export type TemporaryFileLockOptions = Omit<
  LockOptions,
  "mode" | "locker" | "range"
>;

/** What a semaphore is called, where its files are, and how to wait. */
export interface BoundedSemaphoreOptions
  extends
    AcquireOptions,
    Pick<LockOptions, "creationMode" | "throwOnReleaseError"> {
  /**
   * What all who share the semaphore call it.
   *
   * @default {"bounded_semaphore"}
   */
  name?: string;
  /**
   * How its files are called: `{name}`, and `{number}` with or without a width.
   *
   * @default {"{name}.{number:02d}.lock"}
   */
  filenamePattern?: string;
  /**
   * Where its files are; it must exist. Asking for the default needs
   * `--allow-env` and `--allow-sys` on Deno.
   *
   * @default {os.tmpdir()}
   */
  directory?: string | URL;
}

/** {@linkcode BoundedSemaphoreOptions} with every option filled in. */
export interface SemaphoreSettings extends LockSettings {
  readonly name: string;
  readonly filenamePattern: string;
  readonly directory: string;
}

/** {@linkcode LockOptions} with every option filled in. */
export interface LockSettings {
  readonly mode: LockedMode;
  readonly exclusive: boolean;
  readonly locker: LockerSettings;
  readonly creationMode: number;
  readonly throwOnReleaseError: boolean;
  readonly wait: WaitSettings;
}

const LOCK_OPTIONS = [
  ...ACQUIRE_OPTIONS,
  "mode",
  "flags",
  "creationMode",
  "locker",
  "range",
  "throwOnReleaseError",
] as const satisfies readonly (keyof LockOptions)[];

const SEMAPHORE_OPTIONS = [
  ...ACQUIRE_OPTIONS,
  "name",
  "filenamePattern",
  "directory",
  "creationMode",
  "throwOnReleaseError",
] as const satisfies readonly (keyof BoundedSemaphoreOptions)[];

const TEMPORARY_OPTIONS = LOCK_OPTIONS.filter((name) =>
  !["mode", "locker", "range"].includes(name)
);

/** Checks the options of a lock and fills in the defaults. */
export function resolveLockOptions(options: LockOptions = {}): LockSettings {
  rejectUnknownOptions(options, LOCK_OPTIONS);
  const {
    mode: modeName = "a",
    flags = LOCK_EX | LOCK_NB,
    creationMode = 0o666,
    throwOnReleaseError = false,
  } = options;
  const mode = parseMode(modeName);
  const { kind, blocking } = parseFlags(flags);
  if (kind === "unlock") {
    throw new RangeError("flags must be LOCK_EX or LOCK_SH, not LOCK_UN");
  }
  if (kind === "shared" && mode.truncate) {
    throw new RangeError(
      `mode "${mode.name}" empties the file and flags share it; ` +
        "use LOCK_EX or another mode",
    );
  }
  checkPermissions("creationMode", creationMode);
  checkBoolean("throwOnReleaseError", throwOnReleaseError);
  const locker = resolveLocker(options.locker, options.range);
  const exclusive = kind === "exclusive";
  checkModeAllowsLock(locker, mode, exclusive);
  return {
    mode,
    exclusive,
    locker,
    creationMode,
    throwOnReleaseError,
    wait: resolveWait(options, {
      ...WAIT_FOREVER,
      timeout: blocking ? Infinity : DEFAULT_TIMEOUT,
    }),
  };
}

/**
 * {@linkcode resolveLockOptions} for files that are of no use but to be locked: who
 * meets another holder is not meant to wait, unless something says so.
 */
export function resolveTemporaryOptions(
  options: TemporaryFileLockOptions = {},
): LockSettings {
  rejectUnknownOptions(options, TEMPORARY_OPTIONS);
  const { flags = LOCK_EX | LOCK_NB } = options;
  const { kind, blocking } = parseFlags(flags);
  const mode = kind === "shared" ? "a+" : "w+";
  const settings = resolveLockOptions({ ...options, mode });
  return blocking ? settings : { ...settings, wait: failFast(options) };
}

/** {@linkcode resolveTemporaryOptions} for a lock that cannot be shared. */
export function resolvePidOptions(
  options?: TemporaryFileLockOptions,
): LockSettings {
  const settings = resolveTemporaryOptions(options);
  if (settings.exclusive) return settings;
  throw new RangeError("flags must be LOCK_EX: a PID file has one holder");
}

/** Checks the options of a semaphore and fills in the defaults. */
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
