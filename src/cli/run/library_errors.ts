/** Exit statuses for the errors of the library. */

import { LockException, LockUnsupported } from "../../core/errors.ts";
import {
  DATA_ERROR,
  Failure,
  NO_INPUT,
  UNAVAILABLE,
  UsageError,
} from "../exit_status.ts";

/**
 * Returns the {@linkcode Failure} that flock(1) would end with.
 *
 * @param lockStatus The status if the lock cannot be acquired.
 */
export function toFailure(
  error: unknown,
  lockStatus: number = DATA_ERROR,
): Failure {
  if (error instanceof Failure) return error;
  const { message } = error as Error;
  if (error instanceof TypeError || error instanceof RangeError) {
    return new UsageError(message);
  }
  if (error instanceof LockUnsupported) {
    return new Failure(UNAVAILABLE, message);
  }
  const isLock = error instanceof LockException;
  return new Failure(isLock ? lockStatus : NO_INPUT, message);
}
