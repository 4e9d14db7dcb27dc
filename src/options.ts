/** The options of every lock class, and the one place where they are checked. */

import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import type { LockerSettings, LockHolder } from "../ffi/types.ts";
import { LOCK_EX, LOCK_NB, parseFlags } from "./flags.ts";
import type { LockFlags } from "./flags.ts";
import { parseMode } from "./open_mode.ts";
import { checkAccess, lockerSettings } from "./lockers.ts";
import type { FileMode, LockedMode } from "./open_mode.ts";

/** How to wait for a lock. */
export interface AcquireOptions {
  /**
   * The longest wait, in milliseconds. `0` is one attempt, `Infinity` waits
   * for ever. Without {@linkcode LockOptions.flags | LOCK_NB} among the flags
   * the default is `Infinity`.
   *
   * @default {5000}
   */
  timeout?: number;
  /**
   * The longest pause between two attempts, in milliseconds. Attempts begin
   * with much shorter ones, and where the system tells of releases they follow
   * each release at once.
   *
   * @default {250}
   */
  checkInterval?: number;
  /**
   * Gives up after the first attempt, whatever `timeout` says.
   *
   * @default {false}
   */
  failWhenLocked?: boolean;
  /** Ends the wait; `acquire` rejects with the signal's reason. */
  signal?: AbortSignal;
  /**
   * Called once a wait has lasted 100 milliseconds, to tell somebody why
   * nothing goes on. What it throws ends the wait and is thrown by `acquire`.
   */
  onWait?: (wait: LastingWait) => void;
}

/** What {@linkcode AcquireOptions.onWait} is told. */
export interface LastingWait {
  /** The file that is waited for. */
  path: string;
  /** How long the wait has lasted, in milliseconds. */
  waited: number;
  /** Who holds the lock, as {@linkcode lockHolders} finds out. */
  holders: LockHolder[];
}

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
export type TemporaryFileLockOptions = Omit<LockOptions, "mode">;

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

/** A wait with every option filled in. */
export interface Wait {
  readonly timeout: number;
  readonly checkInterval: number;
  readonly failWhenLocked: boolean;
  /** Whether a `timeout` says that `failWhenLocked` is not meant. */
  readonly unlessTimed: boolean;
  readonly signal: AbortSignal | undefined;
  readonly onWait: ((wait: LastingWait) => void) | undefined;
}

/** {@linkcode LockOptions} with every option filled in. */
export interface LockSettings {
  readonly mode: LockedMode;
  readonly exclusive: boolean;
  readonly locker: LockerSettings;
  readonly creationMode: number;
  readonly throwOnReleaseError: boolean;
  readonly wait: Wait;
}

const DEFAULT_TIMEOUT = 5000;

/** The wait of a lock that is asked for without `LOCK_NB`. */
export const AS_LONG_AS_IT_TAKES: Wait = {
  timeout: Infinity,
  checkInterval: 250,
  failWhenLocked: false,
  unlessTimed: false,
  signal: undefined,
  onWait: undefined,
};

/** Names of the {@linkcode AcquireOptions}. */
export const ACQUIRE_OPTIONS = [
  "timeout",
  "checkInterval",
  "failWhenLocked",
  "signal",
  "onWait",
] as const satisfies readonly (keyof AcquireOptions)[];

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

const TEMPORARY_OPTIONS = LOCK_OPTIONS.filter((name) => name !== "mode");

/** Checks the options of a lock and fills in the defaults. */
export function lockSettings(options: LockOptions = {}): LockSettings {
  checkNames(options, LOCK_OPTIONS);
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
  const locker = lockerSettings(options.locker, options.range);
  const exclusive = kind === "exclusive";
  checkAccess(locker, mode, exclusive);
  return {
    mode,
    exclusive,
    locker,
    creationMode,
    throwOnReleaseError,
    wait: wait(options, {
      ...AS_LONG_AS_IT_TAKES,
      timeout: blocking ? Infinity : DEFAULT_TIMEOUT,
    }),
  };
}

/**
 * {@linkcode lockSettings} for files that are of no use but to be locked: who
 * meets another holder is not meant to wait, unless something says so.
 */
export function temporarySettings(
  options: TemporaryFileLockOptions = {},
): LockSettings {
  checkNames(options, TEMPORARY_OPTIONS);
  const { flags = LOCK_EX | LOCK_NB } = options;
  const { kind, blocking } = parseFlags(flags);
  const mode = kind === "shared" ? "a+" : "w+";
  const settings = lockSettings({ ...options, mode });
  return blocking ? settings : { ...settings, wait: impatient(options) };
}

/** {@linkcode temporarySettings} for a lock that cannot be shared. */
export function pidSettings(options?: TemporaryFileLockOptions): LockSettings {
  const settings = temporarySettings(options);
  if (settings.exclusive) return settings;
  throw new RangeError("flags must be LOCK_EX: a PID file has one holder");
}

/** Checks the options of a semaphore and fills in the defaults. */
export function semaphoreSettings(
  options: BoundedSemaphoreOptions = {},
): SemaphoreSettings {
  checkNames(options, SEMAPHORE_OPTIONS);
  const {
    name = "bounded_semaphore",
    filenamePattern = "{name}.{number:02d}.lock",
    directory,
    ...others
  } = options;
  checkPartOfName("name", name);
  checkPartOfName("filenamePattern", filenamePattern);
  const { creationMode, throwOnReleaseError } = others;
  return {
    ...lockSettings({ creationMode, throwOnReleaseError }),
    wait: impatient(others),
    name,
    filenamePattern,
    directory: directory === undefined
      ? tmpdir()
      : filePath(directory, "directory"),
  };
}

/** Checks how many may hold a semaphore. */
export function checkMaximum(maximum: number): number {
  if (Number.isSafeInteger(maximum) && maximum > 0) return maximum;
  const message = `maximum must be a whole number, 1 or more, not ${
    inspect(maximum)
  }`;
  throw typeof maximum === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

/** A wait that fails at once unless it is given a time. */
export function impatient(options: AcquireOptions): Wait {
  return wait(options, {
    ...AS_LONG_AS_IT_TAKES,
    timeout: DEFAULT_TIMEOUT,
    failWhenLocked: true,
    unlessTimed: true,
  });
}

/** Checks the options of one `acquire`; what they leave open is the lock's. */
export function acquireWait(
  options: AcquireOptions | undefined,
  defaults: Wait,
): Wait {
  if (options === undefined) return defaults;
  checkNames(options, ACQUIRE_OPTIONS);
  return wait(options, defaults);
}

function wait(options: AcquireOptions, defaults: Wait): Wait {
  const {
    timeout = defaults.timeout,
    checkInterval = defaults.checkInterval,
    failWhenLocked = defaults.failWhenLocked &&
      !(defaults.unlessTimed && options.timeout !== undefined),
    signal = defaults.signal,
    onWait = defaults.onWait,
  } = options;
  checkDuration("timeout", timeout, timeout >= 0, "0 or more, or Infinity");
  checkDuration(
    "checkInterval",
    checkInterval,
    checkInterval > 0 && checkInterval < Infinity,
    "more than 0 and finite",
  );
  checkBoolean("failWhenLocked", failWhenLocked);
  if (signal !== undefined && !isAbortSignal(signal)) {
    throw new TypeError(
      `signal must be an AbortSignal, not ${inspect(signal)}`,
    );
  }
  if (onWait !== undefined && typeof onWait !== "function") {
    throw new TypeError(`onWait must be a function, not ${inspect(onWait)}`);
  }
  const unlessTimed = defaults.unlessTimed &&
    options.failWhenLocked === undefined;
  return {
    timeout,
    checkInterval,
    failWhenLocked,
    unlessTimed,
    signal,
    onWait,
  };
}

/**
 * Checks the path of a lock and resolves a URL.
 *
 * @throws {TypeError} If it is neither a string nor a `file:` URL.
 * @throws {RangeError} If it is empty or has a NUL.
 */
export function filePath(path: string | URL, what = "path"): string {
  if (typeof path !== "string" && !(path instanceof URL)) {
    throw new TypeError(
      `${what} must be a string or a file: URL, not ${inspect(path)}`,
    );
  }
  const name = typeof path === "string" ? path : fileURLToPath(path);
  if (name === "") throw new RangeError(`${what} must not be empty`);
  if (name.includes("\0")) {
    throw new RangeError(`${what} must not contain a NUL: ${inspect(name)}`);
  }
  return name;
}

/** A mistyped option would otherwise be a promise that nobody keeps. */
export function checkNames(options: object, known: readonly string[]): void {
  if (options === null || typeof options !== "object") {
    throw new TypeError(`options must be an object, not ${inspect(options)}`);
  }
  const unknown = Object.keys(options).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new TypeError(
      `unknown option ${unknown}; the options are ${known.join(", ")}`,
    );
  }
}

function checkDuration(
  name: string,
  value: number,
  valid: boolean,
  wanted: string,
): void {
  if (typeof value === "number" && valid) return;
  const message = `${name} must be a number of milliseconds, ${wanted}, not ${
    inspect(value)
  }`;
  throw typeof value === "number"
    ? new RangeError(message)
    : new TypeError(message);
}

/** Checks permission bits as chmod(2) takes them. */
export function checkPermissions(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= 0o7777) return;
  throw new RangeError(
    `${name} must be permission bits from 0 to 0o7777, not ${inspect(value)}`,
  );
}

export function checkBoolean(name: string, value: boolean): void {
  if (typeof value !== "boolean") {
    throw new TypeError(`${name} must be a boolean, not ${inspect(value)}`);
  }
}

function checkPartOfName(name: string, value: string): void {
  if (typeof value !== "string") {
    throw new TypeError(`${name} must be a string, not ${inspect(value)}`);
  }
  if (value === "" || /[/\\\0]/.test(value)) {
    throw new RangeError(
      `${name} must be part of a file name, not ${inspect(value)}`,
    );
  }
}

/** Not `instanceof`: a signal may come from another realm or a polyfill. */
function isAbortSignal(value: AbortSignal): boolean {
  return typeof value?.aborted === "boolean" &&
    typeof value.addEventListener === "function";
}
