/** Whether the runtime could read the command line. */

import { readFileSync } from "node:fs";
import { UsageError } from "../exit_status.ts";

/**
 * Checks an argument that contains U+FFFD. Node and Bun put it in the place of
 * bytes that are not UTF-8, so two files whose names differ in such bytes would
 * have one lock, and the command would get other arguments. Linux has the bytes.
 *
 * @throws {UsageError} If bytes were replaced, or may have been.
 */
export function checkEncoding(argument: string): void {
  const isUtf8 = isCommandLineUtf8();
  if (isUtf8) return;
  throw new UsageError(
    isUtf8 === false
      ? `argument is not UTF-8: '${argument}'`
      : "argument contains U+FFFD, which may be in the place of a byte that " +
        `is not UTF-8: '${argument}'`,
  );
}

/** Returns `undefined` if the system does not have the bytes. */
function isCommandLineUtf8(): boolean | undefined {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync("/proc/self/cmdline");
  } catch {
    return undefined;
  }
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}
