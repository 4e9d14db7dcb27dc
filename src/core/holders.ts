/**
 * Finds the processes that hold locks on a file.
 *
 * @module
 */

import { stat } from "node:fs/promises";
import process from "node:process";
import { platform } from "../../ffi/mod.ts";
import type { LockHolder } from "../../ffi/types.ts";
import { atEdgeAsync } from "./stack.ts";
import { toOpenError } from "./errors.ts";
import { filePath, formatName } from "../options/validate.ts";

/**
 * Finds the processes that hold locks on a file, of any type.
 *
 * Only Linux reports holders. On other systems, and on Deno without
 * `--allow-ffi`, the list is empty. Processes of other containers are missing
 * from it. The list may be outdated when the promise resolves, so do not use it
 * to decide whether to lock.
 *
 * @example Print the holders of a lock
 * ```ts
 * import { Lock, lockHolders } from "jsr:@x/portalock";
 *
 * using file = new Lock("nightly.lock").tryAcquireSync();
 * for (const { pid, command } of await lockHolders("nightly.lock")) {
 *   console.log(`locked by process ${pid} (${command})`);
 * }
 * ```
 *
 * @param file The path of the lock file.
 * @returns The processes, or an empty list if the system does not report any.
 * @throws {LockUnsupported} If the runtime cannot lock.
 * @throws {TypeError} If the path is of the wrong type.
 * @throws {RangeError} If the path is empty or contains a NUL character.
 * @throws {Error} If the file does not exist or cannot be read: the runtime's
 * own error.
 */
export function lockHolders(file: string | URL): Promise<LockHolder[]> {
  return atEdgeAsync(lockHolders, async () => {
    const path = filePath(file);
    await stat(path);
    try {
      return platform().holders(path, true);
    } catch (error) {
      throw toOpenError({ path }, error);
    }
  });
}

/** Formats holders for a message: `" by process 4711 (node)"`, or `""`. */
export function describeHolders([first, ...others]: LockHolder[]): string {
  if (first === undefined) return "";
  const { pid, command } = first;
  const name = `${pid === process.pid ? "this " : ""}process ${pid}` +
    (command === undefined ? "" : ` (${formatName(command)})`);
  const otherPids = new Set(others.map((holder) => holder.pid));
  otherPids.delete(pid);
  const rest = otherPids.size === 0 ? "" : ` and ${otherPids.size} more`;
  return ` by ${name}${rest}`;
}

/** Drops the entries of this process, unless all entries are its own. */
export function excludeSelf(holders: LockHolder[]): LockHolder[] {
  const others = holders.filter(({ pid }) => pid !== process.pid);
  return others.length > 0 ? others : holders;
}
