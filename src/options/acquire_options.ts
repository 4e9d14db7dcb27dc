/**
 * The options of a single `acquire()`: how to wait for a lock.
 *
 * @module
 */

import type { LockHolder } from "../../ffi/types.ts";
import {
  checkBoolean,
  checkFunction,
  checkPeriod,
  checkTimeout,
  isAbortSignal,
  rejectUnknownOptions,
  throwInvalid,
} from "./validate.ts";

/**
 * Options for waiting for a lock. An option that is `undefined` is treated as
 * absent.
 */
export interface AcquireOptions {
  /**
   * The maximum duration of the wait, in milliseconds. `0` makes a single
   * attempt, `Infinity` waits without a limit. If
   * {@linkcode LockOptions.flags | flags} do not include `LOCK_NB`, the default
   * is `Infinity`.
   *
   * It also limits how long a slow file system may take to open the file: if it
   * takes longer, `acquire()` rejects with code `"ETIMEDOUT"`. A single attempt
   * may take as long as the `timeout` of the lock says, or 5000 ms if that is
   * `0`. The methods that block the thread cannot interrupt the file system.
   *
   * @default {5000}
   */
  timeout?: number | undefined;
  /**
   * The maximum delay between two attempts, in milliseconds. The first delays
   * are much shorter. On Linux, the release of a lock on a local file system
   * wakes the waiter without waiting for the end of the delay.
   *
   * @default {250}
   */
  checkInterval?: number | undefined;
  /**
   * Whether to fail after the first attempt, without regard to `timeout`.
   *
   * @default {false}
   */
  failWhenLocked?: boolean | undefined;
  /** Aborts the wait. `acquire()` rejects with the reason of the signal. */
  signal?: AbortSignal | undefined;
  /**
   * Called once, when the wait has lasted 100 ms, for example to report which
   * process holds the lock. If it throws, the wait ends and `acquire()` rejects
   * with that error.
   */
  onWait?: ((wait: LastingWait) => void) | undefined;
}

/** The argument of {@linkcode AcquireOptions.onWait}. */
export interface LastingWait {
  /** The path of the file whose lock the caller waits for. */
  path: string;
  /** The duration of the wait so far, in milliseconds. */
  waited: number;
  /** The processes that hold the lock, as in {@linkcode lockHolders}. */
  holders: LockHolder[];
}

/**
 * {@linkcode AcquireOptions} with all defaults applied.
 *
 * @typeParam Wait The argument of `onWait`.
 */
export interface WaitSettings<Wait = LastingWait> {
  readonly timeout: number;
  /** How long opening files may take, in milliseconds. Never 0. */
  readonly openTimeout: number;
  readonly checkInterval: number;
  readonly failWhenLocked: boolean;
  /** Whether a given `timeout` turns the default `failWhenLocked` off. */
  readonly failFastUnlessTimeout: boolean;
  readonly signal: AbortSignal | undefined;
  readonly onWait: ((wait: Wait) => void) | undefined;
}

/**
 * The default {@linkcode AcquireOptions.timeout}, in milliseconds: 5000. In
 * Python's portalocker, the constant of this name is in seconds.
 */
export const DEFAULT_TIMEOUT: number = 5000;

/**
 * The default {@linkcode AcquireOptions.checkInterval}, in milliseconds: 250.
 * In Python's portalocker, the constant of this name is in seconds.
 */
export const DEFAULT_CHECK_INTERVAL: number = 250;

/** The defaults without `LOCK_NB`. */
export const WAIT_FOREVER: WaitSettings<unknown> = {
  timeout: Infinity,
  openTimeout: Infinity,
  checkInterval: DEFAULT_CHECK_INTERVAL,
  failWhenLocked: false,
  failFastUnlessTimeout: false,
  signal: undefined,
  onWait: undefined,
};

/** The names of the {@linkcode AcquireOptions}, all of them. */
export const ACQUIRE_OPTIONS: Record<keyof AcquireOptions, true> = {
  timeout: true,
  checkInterval: true,
  failWhenLocked: true,
  signal: true,
  onWait: true,
};

/**
 * Applies the defaults of locks that fail at once unless a `timeout` is given.
 */
export function failFast(options: AcquireOptions): WaitSettings {
  return resolveWait(options, {
    ...WAIT_FOREVER,
    timeout: DEFAULT_TIMEOUT,
    failWhenLocked: true,
    failFastUnlessTimeout: true,
  });
}

/** Checks the options of one `acquire()`, with the defaults of the lock. */
export function resolveAcquireOptions(
  options: AcquireOptions | undefined,
  defaults: WaitSettings,
): WaitSettings {
  if (options === undefined) return defaults;
  rejectUnknownOptions(options, ACQUIRE_OPTIONS);
  return resolveWait(options, defaults);
}

/** Checks the {@linkcode AcquireOptions} among other options. */
export function resolveWait<Wait>(
  options: Omit<AcquireOptions, "onWait"> & {
    onWait?: ((wait: Wait) => void) | undefined;
  },
  defaults: WaitSettings<Wait>,
): WaitSettings<Wait> {
  const {
    timeout = defaults.timeout,
    checkInterval = defaults.checkInterval,
    failWhenLocked = defaults.failWhenLocked &&
      !(defaults.failFastUnlessTimeout && options.timeout !== undefined),
    signal = defaults.signal,
    onWait = defaults.onWait,
  } = options;
  checkTimeout("timeout", timeout);
  checkPeriod("checkInterval", checkInterval);
  checkBoolean("failWhenLocked", failWhenLocked);
  if (signal !== undefined && !isAbortSignal(signal)) {
    throwInvalid("signal", "an AbortSignal", signal);
  }
  if (onWait !== undefined) checkFunction("onWait", onWait);
  const failFastUnlessTimeout = defaults.failFastUnlessTimeout &&
    options.failWhenLocked === undefined;
  return {
    timeout,
    openTimeout: timeout || defaults.timeout || DEFAULT_TIMEOUT,
    checkInterval,
    failWhenLocked,
    failFastUnlessTimeout,
    signal,
    onWait,
  };
}
