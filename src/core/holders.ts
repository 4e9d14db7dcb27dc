/**
 * Finds the processes that hold locks on a file.
 *
 * @module
 */

import { promises } from "node:fs";
import process from "node:process";
import { setImmediate } from "node:timers";
import { platform } from "../../ffi/mod.ts";
import type { LockerSettings, LockHolder } from "../../ffi/types.ts";
import { atEdgeAsync } from "./stack.ts";
import { toOpenError } from "./errors.ts";
import { absolute } from "./paths.ts";
import { filePath, formatName } from "../options/validate.ts";

/**
 * Finds the processes that hold locks on a file, of any type.
 *
 * Only Linux reports holders. On other systems, and on Deno without
 * `--allow-ffi`, the list is empty. It contains only processes that the kernel
 * confirms: those of other containers and machines are missing. A process of
 * another user, whose descriptors cannot be read, is the one that took the
 * lock. The list may be outdated when the promise resolves, so do not use it to
 * decide whether to lock.
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
    const absolutePath = absolute(path);
    await promises.stat(absolutePath);
    try {
      return askSystem([absolutePath], true);
    } catch (error) {
      throw toOpenError({ path }, error);
    }
  });
}

type Files = readonly (string | number)[];

/** A search of all processes takes milliseconds. Its result is not older. */
const MAX_AGE_MS = 50;

/** The last search, until the event loop turns. */
let lastSearch:
  | { key: string; time: number; holders: LockHolder[] }
  | undefined;

/**
 * Returns the holders of several files, by path or descriptor. See
 * {@linkcode Platform.holders}. Of waiters that time out together, only the
 * first one searches.
 */
export function findHolders(
  files: Files,
  search: boolean,
  locker: LockerSettings,
): LockHolder[] {
  if (!search) return askSystem(files, false, locker);
  const key = JSON.stringify([files, locker]);
  const age = performance.now() - (lastSearch?.time ?? 0);
  if (lastSearch?.key === key && age < MAX_AGE_MS) return lastSearch.holders;
  const holders = askSystem(files, true, locker);
  lastSearch = { key, time: performance.now(), holders };
  setImmediate(() => lastSearch = undefined);
  return holders;
}

function askSystem(
  files: Files,
  search: boolean,
  locker?: LockerSettings,
): LockHolder[] {
  const system = platform();
  return files.flatMap((file) => system.holders(file, search, locker) ?? []);
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
