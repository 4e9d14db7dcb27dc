/** How to wait for a lock. */

import { inspect } from "node:util";
import type { LockHolder } from "../../ffi/types.ts";
import {
  checkBoolean,
  checkDuration,
  checkFunction,
  isAbortSignal,
  rejectUnknownOptions,
} from "./validate.ts";

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

/** A wait with every option filled in. */
export interface WaitSettings {
  readonly timeout: number;
  readonly checkInterval: number;
  readonly failWhenLocked: boolean;
  /** Whether a `timeout` says that `failWhenLocked` is not meant. */
  readonly failFastUnlessTimeout: boolean;
  readonly signal: AbortSignal | undefined;
  readonly onWait: ((wait: LastingWait) => void) | undefined;
}

/** The wait of a lock that is asked for with `LOCK_NB`, in milliseconds. */
export const DEFAULT_TIMEOUT = 5000;

/** The wait of a lock that is asked for without `LOCK_NB`. */
export const WAIT_FOREVER: WaitSettings = {
  timeout: Infinity,
  checkInterval: 250,
  failWhenLocked: false,
  failFastUnlessTimeout: false,
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

/** A wait that fails at once unless it is given a time. */
export function failFast(options: AcquireOptions): WaitSettings {
  return resolveWait(options, {
    ...WAIT_FOREVER,
    timeout: DEFAULT_TIMEOUT,
    failWhenLocked: true,
    failFastUnlessTimeout: true,
  });
}

/** Checks the options of one `acquire`; what they leave open is the lock's. */
export function resolveAcquireOptions(
  options: AcquireOptions | undefined,
  defaults: WaitSettings,
): WaitSettings {
  if (options === undefined) return defaults;
  rejectUnknownOptions(options, ACQUIRE_OPTIONS);
  return resolveWait(options, defaults);
}

export function resolveWait(
  options: AcquireOptions,
  defaults: WaitSettings,
): WaitSettings {
  const {
    timeout = defaults.timeout,
    checkInterval = defaults.checkInterval,
    failWhenLocked = defaults.failWhenLocked &&
      !(defaults.failFastUnlessTimeout && options.timeout !== undefined),
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
  if (onWait !== undefined) checkFunction("onWait", onWait);
  const unlessTimed = defaults.failFastUnlessTimeout &&
    options.failWhenLocked === undefined;
  return {
    timeout,
    checkInterval,
    failWhenLocked,
    failFastUnlessTimeout: unlessTimed,
    signal,
    onWait,
  };
}
