/** Errors as plain data. */

import { errorCode } from "../../../ffi/types.ts";
import { LockException } from "../../core/errors.ts";
import type { ErrorReport } from "./types.ts";

/**
 * Describes any thrown value. An error of this package names a file of the
 * tests, and says what to do with it, which means nothing to the reader. So its
 * cause is described: what the system or the runtime says.
 */
export function describeError(error: unknown): ErrorReport {
  const code = errorCode(error) ?? null;
  if (!(error instanceof LockException) || !(error.cause instanceof Error)) {
    return { code, message: messageOf(error) };
  }
  const message = messageOf(error.cause);
  const isNamed = errorCode(error.cause) === undefined;
  return { code, message: isNamed ? message : `${message} (${code})` };
}

function messageOf(error: unknown): string {
  return (error as Partial<Error>).message ?? String(error);
}
