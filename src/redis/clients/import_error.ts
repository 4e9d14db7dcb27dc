/** Why a client package cannot be imported. */

import { errorCode, Unsupported } from "../../../ffi/types.ts";
import { LockException, MAX_MESSAGE } from "../../core/errors.ts";
import { printable, shorten } from "../../options/validate.ts";

/** How bundlers report a package that was missing when they ran. */
const NOT_FOUND = /\b(find|found|resolve)\b/i;

/**
 * Returns the error for a package that cannot be imported: a `LockException` if
 * it is missing. If it is installed, but fails, the caller should not fall back
 * to another package.
 *
 * @param name The name of the package.
 * @param install The command that installs it.
 * @param cause The error of the import.
 */
export function importError(
  name: string,
  install: string,
  cause: unknown,
): LockException | Unsupported {
  const code = errorCode(cause);
  const message = (cause as Partial<Error> | undefined)?.message ?? `${cause}`;
  const isMissing = code === undefined
    ? NOT_FOUND.test(message)
    : code.endsWith("MODULE_NOT_FOUND");
  if (!isMissing) {
    const reason = printable(shorten(message, MAX_MESSAGE));
    const text = `the installed ${name} package cannot be imported: ${reason}`;
    return new Unsupported(text, { cause });
  }
  return new LockException(
    `the ${name} package is missing; install it (${install})`,
    { code: code ?? "ERR_MODULE_NOT_FOUND", cause },
  );
}
