/**
 * Deno without FFI. `Deno.FsFile` opens and locks the files, by flock(2) or
 * `LockFileEx`, and needs only the permission to read or write them.
 */

import { closeSync, constants, lstatSync, openSync, unlinkSync } from "node:fs";
import process from "node:process";
import { serializeAppends } from "../windows/append_queue.ts";
import { denoLocks } from "./deno_locks.ts";
import { throwIfSymlink } from "./no_follow.ts";
import { errorCode, Unsupported } from "../types.ts";
import { renameAndUnlink } from "../windows/unlink.ts";
import type {
  DenoApi,
  DenoFile,
  DenoOpenOptions,
} from "../runtime/deno_api.ts";
import type {
  FileName,
  LockerSettings,
  OpenMode,
  Platform,
  PlatformFile,
} from "../types.ts";

/** How often a file may be created or unlinked between two attempts to open. */
const MAX_ATTEMPTS = 1000;

/**
 * Returns the {@linkcode Platform} of a Deno that may not call C, or that runs
 * on Windows. There, Deno does not expose the handles of its descriptors.
 *
 * @throws {Unsupported} If this Deno does not have file locks.
 */
export function denoPlatform(
  deno: DenoApi,
  onWindows: boolean = process.platform === "win32",
): Platform {
  if (!("tryLockSync" in deno.FsFile.prototype)) {
    throw new Unsupported(
      `Deno ${deno.version.deno} does not have built-in file locks; ` +
        (onWindows
          ? "update to 2.8 or newer"
          : "pass --allow-ffi or update to 2.8 or newer"),
    );
  }
  return {
    async open(path, mode, creationMode, locker) {
      rejectRecordLocks(locker, onWindows);
      const stats = await deno.stat(path).catch((error: Error) => error);
      rejectFifo(deno, path, mode, stats);
      const attempts = new OpenAttempts(
        path,
        mode,
        openOptions(mode, creationMode, onWindows),
      );
      for (const options of attempts) {
        try {
          return denoFile(await deno.open(path, options), mode, onWindows);
        } catch (error) {
          attempts.rethrowUnlessRace(options, error);
        }
      }
      throw attempts.error;
    },
    openSync(path, mode, creationMode, locker) {
      rejectRecordLocks(locker, onWindows);
      rejectFifo(deno, path, mode, statOrError(deno, path));
      const attempts = new OpenAttempts(
        path,
        mode,
        openOptions(mode, creationMode, onWindows),
      );
      for (const options of attempts) {
        try {
          return denoFile(deno.openSync(path, options), mode, onWindows);
        } catch (error) {
          attempts.rethrowUnlessRace(options, error);
        }
      }
      throw attempts.error;
    },
    isLocalDirectory: () => false,
    // See proc(5): a PID may belong to another namespace.
    holders: () => process.platform === "linux" ? [] : null,
    fromFd() {
      throw new Unsupported(
        onWindows
          ? "Deno cannot lock a file descriptor by its number on Windows; " +
            "pass a Deno.FsFile"
          : "Deno cannot lock a file descriptor by its number without FFI; " +
            "pass --allow-ffi or a Deno.FsFile",
      );
    },
  };
}

/**
 * Yields the options with which to open a file, one attempt after the other.
 *
 * With `create`, each attempt first opens an existing file, and then creates
 * it. So a symbolic link that replaces the file does not create its target. And
 * a file of another user can be opened where `O_CREAT` fails: see
 * `protected_regular` in proc_sys_fs(5).
 */
class OpenAttempts {
  /** The error of the last attempt. */
  error: unknown;
  readonly #path: string;
  readonly #mode: OpenMode;
  readonly #options: DenoOpenOptions;

  constructor(path: string, mode: OpenMode, options: DenoOpenOptions) {
    this.#path = path;
    this.#mode = mode;
    this.#options = options;
  }

  *[Symbol.iterator](): Generator<DenoOpenOptions> {
    const { create, exclusive, noFollow = false } = this.#mode;
    for (let i = 0; i < MAX_ATTEMPTS; i++) {
      if (noFollow) throwIfSymlink(this.#path);
      if (!create || exclusive) return yield this.#options;
      yield { ...this.#options, create: false };
      yield { ...this.#options, createNew: noFollow };
    }
  }

  /** Rethrows an error, unless the file was just created or unlinked. */
  rethrowUnlessRace(options: DenoOpenOptions, error: unknown): void {
    const code = errorCode(error);
    if (code !== (options.create ? "EEXIST" : "ENOENT")) throw error;
    this.error = error;
  }
}

function openOptions(
  mode: OpenMode,
  creationMode: number,
  onWindows: boolean,
): DenoOpenOptions {
  // On Windows, a file that is opened for appending can be neither locked nor
  // truncated: https://github.com/denoland/deno/issues/26774
  const append = mode.append && !onWindows;
  return {
    read: mode.read,
    write: mode.write && !append,
    append,
    create: mode.create,
    createNew: mode.exclusive,
    // Windows does not have permission bits, and Deno rejects them there.
    ...onWindows ? {} : { mode: creationMode },
  };
}

function rejectRecordLocks(
  locker: LockerSettings | undefined,
  onWindows: boolean,
): void {
  if (!locker || locker.name === "flock") return;
  throw new Unsupported(
    `the locker "${locker.name}" ` +
      (onWindows
        ? 'does not exist on Windows; use "flock"'
        : "needs FFI; pass --allow-ffi to Deno 2.8 or newer"),
  );
}

/**
 * Rejects FIFOs. To open one blocks until its other end is open, and Deno does
 * not offer `O_NONBLOCK`.
 */
function rejectFifo(
  deno: DenoApi,
  path: string,
  mode: OpenMode,
  stats: { isFifo: boolean | null } | Error,
): void {
  if (stats instanceof Error) {
    // stat(2) needs the read permission of Deno; open(2) for writing does not.
    if (!mode.read && stats instanceof deno.errors.NotCapable) probeFifo(path);
  } else if (stats.isFifo) {
    throw new Unsupported(
      "it is a FIFO, which Deno opens without blocking only with FFI; " +
        "pass --allow-ffi",
    );
  }
}

function statOrError(
  deno: DenoApi,
  path: string,
): { isFifo: boolean | null } | Error {
  try {
    return deno.statSync(path);
  } catch (error) {
    return error as Error;
  }
}

/** Throws `ENXIO`, as open(2) does for a FIFO without a reader. */
function probeFifo(path: string): void {
  try {
    closeSync(openSync(path, constants.O_WRONLY | (constants.O_NONBLOCK ?? 0)));
  } catch (error) {
    if (errorCode(error) === "ENXIO") throw error;
  }
}

function denoFile(
  file: DenoFile,
  { append }: OpenMode,
  onWindows: boolean,
): PlatformFile {
  const appends = append && onWindows;
  const writeSync = (data: Uint8Array) => {
    if (appends) file.seekSync(0, 2);
    return file.writeSync(data);
  };
  function nameAt(path: string): FileName | null {
    const name = lstatSync(path, { throwIfNoEntry: false });
    const { dev, ino } = file.statSync();
    if (name?.dev !== dev || name.ino !== ino) return null;
    // Deno on Windows does not count hard links.
    return { isFile: name.isFile(), nlink: name.nlink || null };
  }
  return {
    fd: null,
    ...denoLocks(file, onWindows),
    lockKey() {
      const { dev, ino } = file.statSync();
      return ino === null ? null : `${dev}:${ino}`;
    },
    watchClose: () => null,
    wakeWatchers() {},
    read: async (into) => (await file.read(into)) ?? 0,
    readSync: (into) => file.readSync(into) ?? 0,
    write: appends ? serializeAppends(writeSync) : (data) => file.write(data),
    writeSync,
    seek: (offset, whence) => file.seekSync(offset, whence),
    truncate: (length) => file.truncate(length),
    truncateSync: (length) => file.truncateSync(length),
    sync: (dataOnly) => dataOnly ? file.syncData() : file.sync(),
    syncSync: (dataOnly) => dataOnly ? file.syncDataSync() : file.syncSync(),
    stat: () => file.stat(),
    statSync: () => file.statSync(),
    isStillAt: (path) => nameAt(path) !== null,
    nameAt,
    unlink: onWindows ? renameAndUnlink : unlinkSync,
    close: () => file.close(),
    closeSync: () => file.close(),
  };
}
