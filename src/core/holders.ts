/** Who holds a lock. */

import { stat } from "node:fs/promises";
import process from "node:process";
import { platform } from "../../ffi/mod.ts";
import type { LockHolder } from "../../ffi/types.ts";
import { toOpenError } from "./errors.ts";
import { filePath } from "../options/validate.ts";

/**
 * Finds out which processes hold locks on a file, whatever the kind of lock.
 *
 * Linux tells; elsewhere, and on Deno without `--allow-ffi`, nobody does, and
 * the list is empty. Nor does it know processes of other containers. By the
 * time you read the answer it may no longer hold: do not decide by it whether
 * to lock.
 *
 * @example
 * ```ts
 * import { Lock, lockHolders } from "jsr:@x/portalock";
 *
 * using file = new Lock("nightly.lock").tryAcquireSync();
 * for (const { pid, command } of await lockHolders("nightly.lock")) {
 *   console.log(`process ${pid} (${command}) is at it`);
 * }
 * ```
 *
 * @param file The lock file.
 * @throws {LockUnsupported} If the runtime cannot lock.
 * @throws {TypeError} If the path is of the wrong type.
 * @throws {RangeError} If the path is impossible.
 * @throws The runtime's own error if there is no such file.
 */
export async function lockHolders(file: string | URL): Promise<LockHolder[]> {
  const path = filePath(file);
  await stat(path);
  try {
    return platform().holders(path, true);
  } catch (error) {
    throw toOpenError({ path }, error);
  }
}

/** Holders as a message names them: `" by process 4711 (node)"`, or nothing. */
export function describeHolders([first, ...excludeSelf]: LockHolder[]): string {
  if (first === undefined) return "";
  const { pid, command } = first;
  const name = `${pid === process.pid ? "this " : ""}process ${pid}` +
    (command === undefined ? "" : ` (${command})`);
  const more = new Set(excludeSelf.map((other) => other.pid));
  more.delete(pid);
  const rest = more.size === 0 ? "" : ` and ${more.size} more`;
  return ` by ${name}${rest}`;
}

/** Those that are not this process, or if there are none, those there are. */
export function excludeSelf(holders: LockHolder[]): LockHolder[] {
  const found = holders.filter(({ pid }) => pid !== process.pid);
  return found.length > 0 ? found : holders;
}
