/** Errors as plain data. */

import { errorCode } from "../../../ffi/types.ts";
import type { ErrorReport } from "./types.ts";

/** Describes any thrown value. */
export function describeError(error: unknown): ErrorReport {
  const { message } = error as Partial<Error>;
  return { code: errorCode(error) ?? null, message: message ?? String(error) };
}
