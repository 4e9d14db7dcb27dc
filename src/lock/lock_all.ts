/** `lockAll`: several files at once, or none. */

import { lstatSync, readlinkSync, realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { inspect } from "node:util";
import { FileTarget } from "../target/file_target.ts";
import { aggregateReleaseErrors } from "../core/errors.ts";
import { LockBase } from "./lock_base.ts";
import { closeAll, closeAllSync } from "../file/locked_file.ts";
import type { LockedFile } from "../file/locked_file.ts";
import { filePath } from "../options/validate.ts";
import { resolveLockOptions } from "../options/lock_options.ts";
import type { LockOptions, LockSettings } from "../options/lock_options.ts";
import { now } from "../wait/deadline.ts";
import { errorCode } from "../../ffi/types.ts";

/** The open, locked files of {@linkcode lockAll}. */
export class LockedFiles
  implements AsyncDisposable, Disposable, Iterable<LockedFile> {
  readonly #files: readonly LockedFile[];

  /** @ignore Made by {@linkcode lockAll}. */
  constructor(files: readonly LockedFile[]) {
    this.#files = files;
  }

  /** How many paths were given. */
  get length(): number {
    return this.#files.length;
  }

  /**
   * The file of one path, counted as the paths were given. Paths of the same
   * file give the same object.
   */
  at(index: number): LockedFile | undefined {
    return this.#files.at(index);
  }

  /** The files in the order in which their paths were given. */
  [Symbol.iterator](): Iterator<LockedFile> {
    return this.#files[Symbol.iterator]();
  }

  /**
   * Releases all locks and closes all files. Doing so again does nothing.
   *
   * @throws {AggregateError} If the system refuses and the locks were made with
   * `throwOnReleaseError`. The locks are gone all the same.
   */
  async close(): Promise<void> {
    throwAll(await closeAll(new Set(this.#files)));
  }

  /** {@linkcode LockedFiles.close}, blocking the thread. */
  closeSync(): void {
    throwAll(closeAllSync(new Set(this.#files)));
  }

  /** Does what {@linkcode LockedFiles.close} does. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Does what {@linkcode LockedFiles.closeSync} does. */
  [Symbol.dispose](): void {
    this.closeSync();
  }
}

/**
 * Locks several files: all of them, or none if one cannot be had in time.
 *
 * They are locked one after the other in the order of their real paths, so two
 * who name the same files in different orders do not wait for each other for
 * ever. A file that is named twice, or through a symbolic link, is locked once;
 * two hard links of one file are not recognized. In the modes `"w"` and `"w+"`
 * the files are emptied once all of them are locked. Files that were created
 * stay, also when others cannot be locked.
 *
 * @example
 * ```ts
 * import { lockAll } from "jsr:@x/portalock";
 *
 * await using files = await lockAll(["from.account", "to.account"], {
 *   mode: "a+",
 * });
 * for (const file of files) console.log(file.path, await file.readText());
 * ```
 *
 * @param paths The files to lock.
 * @param options How to open each of them, and how long to wait for all.
 * @returns The files. Closing or disposing it releases all locks.
 * @throws {AlreadyLocked} If somebody else holds one of them when the wait is
 * over.
 * @throws {TypeError} If an option or a path is of the wrong type, or the
 * option unknown.
 * @throws {RangeError} If an option or a path has an impossible value.
 * @throws What {@linkcode Lock.acquire} throws besides.
 */
export async function lockAll(
  paths: Iterable<string | URL>,
  options?: LockOptions,
): Promise<LockedFiles> {
  const settings = resolveLockOptions(options);
  const names = pathList(paths);
  const real = names.map(realPath);
  const end = now() + settings.wait.timeout;
  const held = new Map<string, LockedFile>();
  try {
    for (const path of lockOrder(real, settings)) {
      const timeout = Math.max(0, end - now());
      const name = names[real.indexOf(path)];
      held.set(path, await new MemberLock(name, settings).acquire({ timeout }));
    }
    if (settings.mode.truncate) {
      for (const file of held.values()) await file.truncate();
    }
  } catch (error) {
    await closeAll(held.values());
    throw error;
  }
  return new LockedFiles(real.map((path) => held.get(path)!));
}

/** One of the files; it is not emptied before the others are locked, too. */
class MemberLock extends LockBase {
  constructor(path: string, settings: LockSettings) {
    const mode = { ...settings.mode, truncate: false };
    super(new FileTarget(path, { ...settings, mode }), settings.wait);
  }
}

function pathList(paths: Iterable<string | URL>): string[] {
  const several = typeof paths === "object" && paths !== null &&
    Symbol.iterator in paths;
  if (several) return Array.from(paths, (path) => filePath(path));
  throw new TypeError(`paths must be several, not ${inspect(paths)}`);
}

/** The same order for everybody, so that none wait for each other. */
function lockOrder(paths: string[], { mode }: LockSettings): Set<string> {
  const sorted = [...new Set(paths)].sort();
  // A file that may not exist but does fails before others are created.
  const failing = mode.exclusive ? sorted.filter(exists) : [];
  return new Set([...failing, ...sorted]);
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** The path without symbolic links, also of a file that is yet to be made. */
function realPath(path: string): string {
  for (let whole = resolve(path);;) {
    try {
      return realpathSync.native(whole);
    } catch (error) {
      // Opening will tell.
      if (errorCode(error) !== "ENOENT") return whole;
    }
    const folder = orUndefined(() => realpathSync.native(dirname(whole)));
    if (folder === undefined) return whole;
    const name = join(folder, basename(whole));
    const target = orUndefined(() => readlinkSync(name));
    if (target === undefined) return name;
    whole = resolve(folder, target);
  }
}

function orUndefined<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch {
    return undefined;
  }
}

function throwAll(errors: unknown[]): void {
  if (errors.length > 0) throw aggregateReleaseErrors(errors);
}
