/** Bounds steps that cannot be cancelled, such as open(2), by a deadline. */

import { timeoutError } from "../core/errors.ts";
import type { ErrorSubject } from "../core/errors.ts";
import { ignoreErrors, op, runAsync, runSync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import type { Deadline } from "./deadline.ts";

/** A step of an acquisition that a file system may never finish. */
export interface SlowStep<T> {
  readonly deadline: Deadline;
  /**
   * Whether an abort ends the wait for it. A step that changes the file must
   * not go on after the acquisition has ended.
   *
   * @default true
   */
  readonly abortable?: boolean;
  /** The file, for the error. */
  readonly subject: ErrorSubject;
  /** Undoes a step that has succeeded too late. May fail. */
  readonly discard?: (late: T) => unknown;
}

/**
 * Waits for a step of an acquisition until there is no time left to open files.
 *
 * The step goes on in a thread of the pool. A is the acquisition, S its step:
 *
 * 1. `S.done A.timeout`: the caller gets the result of the step. The timer and
 *    the listener are removed with S.done, not when the caller resumes. So a
 *    timeout in between cannot discard what the caller owns.
 * 2. `A.timeout S.done`: the caller gets an error, and the result is discarded.
 * 3. `A.timeout S.failed`: the error of the step is ignored.
 * 4. `A.abort` in the place of the timeout: the same, with the signal's reason.
 *
 * @throws {LockException} With code `ETIMEDOUT` if the time is over.
 * @throws What the step or {@linkcode Deadline.sleepUntilWoken} throws.
 */
export async function inTime<T>(
  step: Promise<T>,
  { deadline, subject, abortable = true, discard = () => {} }: SlowStep<T>,
): Promise<T> {
  let settled = false;
  try {
    settled = await deadline.settlesInTime(step, abortable);
  } finally {
    if (!settled) step.then(discard).catch(() => {});
  }
  if (settled) return step;
  throw timeoutError(subject, deadline.openTimeout);
}

/** Runs an operation of several steps as {@linkcode inTime} does one. */
export function runInTime<T>(gen: Gen<T>, step: SlowStep<T>): Gen<T> {
  return op({
    async: () => {
      const result = runAsync(gen);
      return result instanceof Promise ? inTime(result, step) : result;
    },
    sync: () => runSync(gen),
  });
}

/**
 * Runs the cleanup of an acquisition that goes on or has failed. Ignores its
 * errors, and does not wait for it longer than for opening a file.
 */
export function cleanUpInTime(gen: Gen<void>, deadline: Deadline): Gen<void> {
  const cleanUp = ignoreErrors(gen);
  return op<void>({
    async: () => {
      const result = runAsync(cleanUp);
      if (!(result instanceof Promise)) return;
      // An abort of the wait is not an error of the cleanup.
      return deadline.settlesInTime(result).then(() => {}, () => {});
    },
    sync: () => runSync(cleanUp),
  });
}
