/** `lockAll`: locks several files, or none of them. */

import * as fs from "node:fs";
import { basename, dirname, isAbsolute, join } from "node:path";
import { FileTarget } from "../target/file_target.ts";
import { aggregateReleaseErrors, suppressedError } from "../core/errors.ts";
import { atEdge, atEdgeAsync, callerError } from "../core/stack.ts";
import { LockBase } from "./lock_base.ts";
import { closeAll, closeAllSync } from "../file/locked_file.ts";
import type { LockedFile } from "../file/locked_file.ts";
import { filePath, throwInvalid } from "../options/validate.ts";
import { resolveLockOptions } from "../options/lock_options.ts";
import type { LockOptions, LockSettings } from "../options/lock_options.ts";
import { op, runAsync, runSync, yieldToEventLoop } from "../core/gensync.ts";
import type { Gen, Op } from "../core/gensync.ts";
import { Busy } from "../wait/busy.ts";
import { Deadline, now } from "../wait/deadline.ts";
import { inTime, runInTime } from "../wait/in_time.ts";
import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import { absolute, childPath } from "../core/paths.ts";

/** The open, locked files that {@linkcode lockAll} returns. */
export class LockedFiles
  implements AsyncDisposable, Disposable, Iterable<LockedFile> {
  readonly #files: readonly LockedFile[];

  /** @ignore Called by {@linkcode lockAll}. */
  constructor(files: readonly LockedFile[]) {
    this.#files = files;
  }

  /** The number of paths. */
  get length(): number {
    return this.#files.length;
  }

  /**
   * Returns the file of one path, by the index of the path. Paths of the same
   * file have the same object.
   */
  at(index: number): LockedFile | undefined {
    return this.#files.at(index);
  }

  /** Iterates over the files, in the order of the paths. */
  [Symbol.iterator](): Iterator<LockedFile> {
    return this.#files[Symbol.iterator]();
  }

  /**
   * Releases all locks and closes all files. Does nothing the second time.
   *
   * @throws {AggregateError} If the system refuses and the locks were made with
   * `throwOnReleaseError`. The locks are released anyway.
   */
  close(): Promise<void> {
    return atEdgeAsync(LockedFiles.prototype.close, () => this.#close());
  }

  /**
   * {@linkcode LockedFiles.close}, blocking the thread.
   *
   * @throws What {@linkcode LockedFiles.close} throws.
   */
  closeSync(): void {
    return atEdge(LockedFiles.prototype.closeSync, () => this.#closeSync());
  }

  /** {@linkcode LockedFiles.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return atEdgeAsync(
      LockedFiles.prototype[Symbol.asyncDispose],
      () => this.#close(),
    );
  }

  /** {@linkcode LockedFiles.closeSync}. */
  [Symbol.dispose](): void {
    return atEdge(
      LockedFiles.prototype[Symbol.dispose],
      () => this.#closeSync(),
    );
  }

  async #close(): Promise<void> {
    throwAll(await closeAll(new Set(this.#files)));
  }

  #closeSync(): void {
    throwAll(closeAllSync(new Set(this.#files)));
  }
}

/**
 * Locks several files: all of them, or none if one cannot be locked in time.
 *
 * It locks the files in the order of their real paths, so that two processes
 * that list the same files in different orders do not deadlock. A file that is
 * listed twice, or through a symbolic link, is locked once. Two hard links of
 * one file are not recognized. In the modes `"w"` and `"w+"`, the files are
 * truncated after all of them are locked. Files that it created stay, also if
 * another file cannot be locked.
 *
 * @example Lock two accounts
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
 * @param options How to open each file, and how long to wait for all of them.
 * @returns The files. Closing or disposing the object releases all locks.
 * @throws {AlreadyLocked} If another holder still has one of the locks when the
 * wait times out.
 * @throws {TypeError} If an option or a path has the wrong type, or an option is
 * unknown.
 * @throws {RangeError} If an option or a path is out of range.
 * @throws What {@linkcode Lock.acquire} throws.
 */
export function lockAll(
  paths: Iterable<string | URL>,
  options?: LockOptions,
): Promise<LockedFiles> {
  return atEdgeAsync(lockAll, () => lockPaths(paths, options));
}

async function lockPaths(
  paths: Iterable<string | URL>,
  options: LockOptions | undefined,
): Promise<LockedFiles> {
  const settings = resolveLockOptions(options);
  const names = pathList(paths).map((path) => filePath(path));
  // Created before the first wait, in which the current directory may change.
  const locks = names.map((name) => new MemberLock(name, settings));
  const absolutePaths = names.map(absolute);
  const deadline = new Deadline(settings.wait);
  const real: string[] = [];
  for (const path of absolutePaths) {
    real.push(await inPool(path, realPath, deadline));
  }
  const held = new Map<string, LockedFile>();
  try {
    for (const path of await lockOrder(real, settings, deadline)) {
      const lock = locks[real.indexOf(path)]!;
      held.set(path, await lock.acquireSince(deadline.start));
    }
    if (settings.mode.truncate) {
      deadline.throwIfAborted();
      await inTime(truncateAll(held.values()), {
        deadline,
        abortable: false,
        subject: { path: names[0] },
      });
    }
  } catch (error) {
    // A file is closed after the operations on it that have not ended.
    const closing = closeAll(held.values());
    const closed = await deadline.settlesInTime(closing).catch(() => false);
    const errors = closed ? await closing : [];
    if (errors.length === 0) throw error;
    throw suppressedError(aggregateReleaseErrors(errors), error);
  }
  return new LockedFiles(real.map((path) => held.get(path)!));
}

/** One of the files. It is not truncated before all files are locked. */
class MemberLock extends LockBase {
  constructor(path: string, settings: LockSettings) {
    const mode = { ...settings.mode, truncate: false };
    super(new FileTarget(path, { ...settings, mode }), settings.wait);
  }

  /** Acquires the lock. All files have one deadline. */
  async acquireSince(start: number): Promise<LockedFile> {
    await yieldToEventLoop(now());
    const deadline = this.startDeadline(undefined, undefined, start);
    const held = await this.attemptAsync(deadline);
    return held instanceof Busy ? this.throwBusy(held, deadline) : held;
  }
}

async function truncateAll(files: Iterable<LockedFile>): Promise<void> {
  for (const file of files) await file.truncate();
}

function pathList(paths: Iterable<string | URL>): (string | URL)[] {
  const several = typeof paths === "object" && paths !== null &&
    Symbol.iterator in paths;
  if (!several) {
    throwInvalid("paths", "an iterable of paths", paths);
  }
  try {
    return [...paths];
  } catch (error) {
    throw callerError(error);
  }
}

/** Returns the order in which every process locks the files. */
async function lockOrder(
  paths: string[],
  { mode }: LockSettings,
  deadline: Deadline,
): Promise<Set<string>> {
  const sorted = [...new Set(paths)].sort();
  const failing: string[] = [];
  // With `"x"`, a file that exists fails before other files are created.
  for (const path of mode.exclusive ? sorted : []) {
    if (await inPool(path, exists, deadline)) failing.push(path);
  }
  return new Set([...failing, ...sorted]);
}

/** Runs an operation on a path, in the thread pool unless the path is local. */
function inPool<T>(
  path: string,
  operation: (path: string) => Gen<T>,
  deadline: Deadline,
): T | Promise<T> {
  return isLocal(path)
    ? runSync(operation(path))
    : runAsync(runInTime(operation(path), { deadline, subject: { path } }));
}

function isLocal(path: string): boolean {
  try {
    return platform().isLocalDirectory(path);
  } catch {
    // The first lock throws the error.
    return true;
  }
}

function* exists(path: string): Gen<boolean> {
  return (yield* orUndefined({
    async: () => fs.promises.lstat(path),
    sync: () => fs.lstatSync(path),
  })) !== undefined;
}

/** Resolves symbolic links, also in the path of a file that does not exist. */
function* realPath(path: string): Gen<string> {
  for (let whole = absolute(path);;) {
    try {
      return yield* resolveLinks(whole);
    } catch (error) {
      // Opening the file fails with the same error.
      if (errorCode(error) !== "ENOENT") return whole;
    }
    let folder: string;
    try {
      folder = yield* resolveLinks(dirname(whole));
    } catch {
      return whole;
    }
    const name = join(folder, basename(whole));
    const target = yield* orUndefined({
      async: () => fs.promises.readlink(name),
      sync: () => fs.readlinkSync(name),
    });
    if (target === undefined) return name;
    whole = isAbsolute(target) ? target : childPath(folder, target);
  }
}

/** realpath(3) follows links by hand, also those that the kernel refuses. */
function resolveLinks(path: string): Gen<string> {
  return op({
    // The promises of Bun 1.2's file system are not instances of `Promise`.
    async: async () => {
      await fs.promises.stat(path);
      return await fs.promises.realpath(path);
    },
    sync: () => {
      fs.statSync(path);
      return fs.realpathSync.native(path);
    },
  });
}

function* orUndefined<T>({ async, sync }: Op<T>): Gen<T | undefined> {
  try {
    return yield* op({ async: async () => await async(), sync });
  } catch {
    return undefined;
  }
}

function throwAll(errors: unknown[]): void {
  if (errors.length > 0) throw aggregateReleaseErrors(errors);
}
