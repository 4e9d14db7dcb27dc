/**
 * `updateFile`, which reads, changes and replaces a file under a lock.
 *
 * The lock is on another file, `PATH.lock`, which stays. A lock on the file
 * itself would not exclude, because replacing the file changes its inode:
 *
 * - P.1 The first process locks `a.json`, inode 1, and reads it.
 * - Q.2 The second process waits for the lock of inode 1.
 * - P.3 The first process replaces `a.json`, which is inode 2 now.
 * - R.4 The third process locks inode 2, and reads it.
 * - P.5 The first process releases the lock of inode 1.
 * - Q.6 The second process acquires that lock, and reads `a.json`, too. Both Q
 *   and R replace the file, and one of the updates is lost.
 *
 * All tasks of a thread share one `Lock` object for a file, so only one of them
 * has the lock file open.
 *
 * @module
 */

import { constants, isUtf8 } from "node:buffer";
import { platform, shared } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { findDestination, makeDirectories } from "./destination.ts";
import {
  acquireLockFile,
  LockFileDenied,
  lockFileOf,
  newSharedLock,
} from "./lock_file.ts";
import type { SharedLock } from "./lock_file.ts";
import { resolveAtomicOptions } from "./options.ts";
import type { AtomicOptions } from "./options.ts";
import { write } from "./atomic_file.ts";
import { Irreplaceable, irreplaceable, lockForUpdate } from "./in_place.ts";
import {
  FileTooLarge,
  formatSubject,
  LockException,
  toOpenError,
} from "../core/errors.ts";
import { readAll, sizeOf } from "../file/file_io.ts";
import { MAX_TEXT_BYTES } from "../file/open_file.ts";
import type { LockedFile } from "../file/locked_file.ts";
import { Deadline } from "../wait/deadline.ts";
import { runInTime } from "../wait/in_time.ts";
import {
  ACQUIRE_OPTIONS,
  DEFAULT_TIMEOUT,
  resolveAcquireOptions,
  WAIT_FOREVER,
} from "../options/acquire_options.ts";
import {
  checkFunction,
  filePath,
  formatValue,
  rejectUnknownOptions,
} from "../options/validate.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import { parseMode } from "../options/open_mode.ts";
import { atEdgeAsync, isCallerError, runCallback } from "../core/stack.ts";
import { op, runAsync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

/**
 * Options for {@linkcode updateFile}: how to wait for the lock, and how to
 * write the file. An option that is `undefined` is treated as absent.
 */
export interface UpdateOptions
  extends AcquireOptions, Omit<AtomicOptions, "replace"> {
  /**
   * The encoding of the content. If `null`, the content is a `Uint8Array`
   * instead of a string.
   *
   * @default {"utf8"}
   */
  encoding?: "utf8" | null | undefined;
}

const UPDATE_OPTIONS: Record<keyof UpdateOptions, true> = {
  ...ACQUIRE_OPTIONS,
  encoding: true,
  creationMode: true,
  durable: true,
  inPlace: true,
};

const READ = parseMode("r");

/** The locks that tasks of this thread hold or wait for, by path. */
const activeLocks = shared("updates", () => new Map<string, SharedLock>());

/**
 * Updates a file under a lock: reads it, calls a function with the content, and
 * atomically replaces the file with the result.
 *
 * If several processes and tasks update the same file, no update is lost. A
 * reader without a lock reads the complete old or new content. If the process
 * crashes, the file has the old or the new content. If the function throws, or
 * returns the same string, the file is not changed.
 *
 * The lock is a {@linkcode Lock} on another file, whose path is that of the
 * file with `.lock` appended. If the path is a symbolic link, it is that of the
 * target. The lock file is not removed. Programs in any language that change
 * the file by other means should hold this lock.
 *
 * If the name would have more than 255 bytes as UTF-8, the lock file is named
 * after the name in lower case and the normalization form NFC: as many of its
 * characters as fit, a dot, the first 16 hexadecimal digits of its SHA-256, and
 * `.lock`.
 *
 * A new lock file gets the owner of the file, and permits reading and writing
 * to the users who may change the file. These may write it, or belong to a
 * group that may read it and replace it in its directory. The lock file of a
 * file of root that all users may read belongs to the owner of the directory. A
 * lock file that exists keeps its rights. To lock it, the permission to read it
 * is enough, except on NFS. Deno without FFI cannot read access lists, so there
 * the group of the file may lock it only if all users may.
 *
 * With `inPlace`, a file that cannot be replaced is overwritten instead. Its
 * directory may not permit a lock file, and containers that share a mounted
 * file do not share its directory. So the file itself is locked, too. All
 * programs that update the file should pass the option then. A program must not
 * lock the file and update it at the same time.
 *
 * Do not update the same file from inside of the function: the inner call waits
 * for the outer one until it times out.
 *
 * @example Increment a counter
 * ```ts
 * import { updateFile } from "jsr:@x/portalock";
 *
 * await updateFile("visits.json", (text) => {
 *   const { visits } = JSON.parse(text || '{ "visits": 0 }');
 *   return JSON.stringify({ visits: visits + 1 });
 * });
 * ```
 *
 * @param path The path of the file. If the file or its parent directories do
 * not exist, they are created.
 * @param change The function that gets the content, or `""` if the file does
 * not exist, and returns the new content or a promise of it. The lock is held
 * until the promise is settled.
 * @param options How long to wait for the lock, and how to write the file.
 * @throws {AlreadyLocked} If another holder still has the lock when the wait is
 * over.
 * @throws {LockException} If the file is not valid UTF-8, or the system refuses
 * the lock, or the path is not a regular file.
 * @throws {FileTooLarge} If the content does not fit in a string, or with
 * `encoding: null` in a `Uint8Array`.
 * @throws {LockUnsupported} If the runtime or the file system cannot lock.
 * @throws {TypeError} If an argument, an option or the new content is of the
 * wrong type, or an option is unknown.
 * @throws {RangeError} If the path or an option has an invalid value, or the
 * new content contains a lone surrogate.
 * @throws {Error} If `change` throws, or a system call fails: that error. If
 * `signal` is aborted: its reason.
 */
export function updateFile(
  path: string | URL,
  change: (content: string) => string | Promise<string>,
  options?: UpdateOptions & { encoding?: "utf8" | undefined },
): Promise<void>;
/**
 * Updates a file of bytes under a lock. See {@linkcode updateFile}.
 *
 * @example Append a byte
 * ```ts
 * import { updateFile } from "jsr:@x/portalock";
 *
 * await updateFile("flags.bin", (bytes) => Uint8Array.of(...bytes, 1), {
 *   encoding: null,
 * });
 * ```
 *
 * @param path The path of the file. If the file or its parent directories do
 * not exist, they are created.
 * @param change The function that gets the content, empty if the file does not
 * exist, and returns the new content or a promise of it. The file is always
 * replaced, because the function may return the array that it got.
 * @param options How long to wait for the lock, and how to write the file.
 */
export function updateFile(
  path: string | URL,
  change: (content: Uint8Array) => Uint8Array | Promise<Uint8Array>,
  options: UpdateOptions & { encoding: null },
): Promise<void>;
export function updateFile(
  path: string | URL,
  change: (content: never) => unknown,
  options: UpdateOptions = {},
): Promise<void> {
  return atEdgeAsync(updateFile, () => update(path, change, options));
}

async function update(
  path: string | URL,
  change: (content: never) => unknown,
  options: UpdateOptions,
): Promise<void> {
  const name = filePath(path);
  rejectUnknownOptions(options, UPDATE_OPTIONS);
  const { encoding = "utf8", creationMode, durable, inPlace, ...acquire } =
    options;
  if (encoding !== "utf8" && encoding !== null) {
    throw new RangeError(
      `encoding must be "utf8" or null, not ${formatValue(encoding)}`,
    );
  }
  const text = encoding !== null;
  const writing = resolveAtomicOptions({
    creationMode,
    durable,
    inPlace,
    replace: true,
  });
  const wait = resolveAcquireOptions(acquire, {
    ...WAIT_FOREVER,
    timeout: DEFAULT_TIMEOUT,
  });
  checkFunction("change", change);
  const deadline = new Deadline(wait);
  const step = { deadline, subject: { path: name } };
  const destination = await runAsync(
    runInTime(findDestination(name, true), step),
  );
  const { path: target, directory } = destination;
  await runAsync(
    runInTime(makeDirectories(directory, writing.durable), step),
  );
  // The steps above have taken a part of the time.
  const timeout = deadline.remaining > 0 ? deadline.remaining : wait.timeout;
  const waiting = { ...acquire, timeout };
  const acquireLock = (shared: SharedLock) =>
    acquireLockFile(shared, waiting, destination, {
      creationMode: writing.creationMode,
      step,
    });
  const apply = async (held: LockedFile | null) => {
    const bytes = await (held?.readBytes() ??
      runAsync(readContent(name, target, text)));
    const old = text ? decodeText(name, bytes) : bytes;
    const next = await runCallback(() => change(old as never));
    checkContent(next, text);
    // `change` may have modified the bytes and returned the same array.
    if (text && next === old) return;
    await runAsync(write(target, next, writing, held));
  };
  let denied: unknown;
  await withFileLock(lockFileOf(target), acquireLock, async (lockFile) => {
    if (!writing.inPlace) return await apply(null);
    const rest = { ...acquire, timeout: Math.max(0, deadline.remaining) };
    const alone = lockFile === null;
    const held = await runAsync(lockForUpdate(target, rest, alone));
    // Without a file, nothing is locked.
    if (alone && held === null) throw denied;
    try {
      await apply(held);
    } finally {
      await held?.close();
    }
  }, async (error) => {
    if (isCallerError(error)) throw error;
    const reported = await runAsync(irreplaceable(destination, error));
    if (!(reported instanceof Irreplaceable)) throw error;
    if (!writing.inPlace) {
      throw error instanceof LockFileDenied ? error : reported;
    }
    denied = error;
    return null;
  });
}

/**
 * Runs a function under the lock that the tasks of this thread share. If the
 * lock cannot be acquired, `failed` may throw another error, or return `null`
 * to run the function without it.
 */
async function withFileLock(
  path: string,
  acquire: (shared: SharedLock) => Promise<LockedFile>,
  body: (lockFile: LockedFile | null) => Promise<void>,
  failed: (error: unknown) => Promise<null>,
): Promise<void> {
  const active = activeLocks.get(path) ?? newSharedLock(path);
  activeLocks.set(path, active);
  active.users++;
  try {
    const file = await acquire(active).catch(failed);
    try {
      await body(file);
    } finally {
      await file?.close();
    }
  } finally {
    if (--active.users === 0) activeLocks.delete(path);
  }
}

function* readContent(
  name: string,
  path: string,
  text: boolean,
): Gen<Uint8Array> {
  let file: PlatformFile;
  try {
    const system = platform();
    file = yield* op({
      async: () => system.open(path, READ, 0),
      sync: () => system.openSync(path, READ, 0),
    });
  } catch (error) {
    if (errorCode(error) === "ENOENT") return new Uint8Array();
    throw toOpenError({ path }, error, "write");
  }
  try {
    const size = sizeOf(file);
    if (size > (text ? MAX_TEXT_BYTES : constants.MAX_LENGTH)) {
      throw tooLarge(name, size, text);
    }
    return yield* readAll(file);
  } finally {
    yield* op({ async: () => file.close(), sync: () => file.closeSync() });
  }
}

/** Throws for invalid UTF-8, which would not be written back unchanged. */
function decodeText(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
      .decode(bytes);
  } catch (cause) {
    // Only a long text may be valid. To check that takes as long as to decode.
    if (bytes.length > constants.MAX_STRING_LENGTH && isUtf8(bytes)) {
      throw tooLarge(path, bytes.length, true, cause);
    }
    throw new LockException(
      `Cannot update ${
        formatSubject({ path })
      }: not valid UTF-8; pass encoding: null to update bytes`,
      { path, code: "EILSEQ", cause },
    );
  }
}

function tooLarge(
  path: string,
  size: number,
  text: boolean,
  cause?: unknown,
): FileTooLarge {
  return new FileTooLarge(
    `Cannot update ${formatSubject({ path })}: ${size} bytes are more than ` +
      (text
        ? "fit in a string; pass encoding: null to update bytes"
        : "fit in a Uint8Array"),
    { path, cause },
  );
}

function checkContent(
  content: unknown,
  text: boolean,
): asserts content is string | Uint8Array {
  if (text ? typeof content === "string" : content instanceof Uint8Array) {
    return;
  }
  const expected = text ? "a string" : "a Uint8Array";
  throw new TypeError(
    `change must return ${expected}, not ${formatValue(content)}`,
  );
}
