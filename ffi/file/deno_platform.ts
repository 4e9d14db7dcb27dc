/**
 * Deno without FFI. `Deno.FsFile` opens and locks the files, by flock(2) or
 * `LockFileEx`, and needs only the permission to read or write them.
 */

import * as fs from "node:fs";
import { constants as fsConstants } from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { serializeAppends } from "../windows/append_queue.ts";
import { denoIdentity, denoLocks } from "./deno_locks.ts";
import { isMissing, rejectSymlink, throwIfSymlink } from "./no_follow.ts";
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

/** How a file is opened to write at any position. */
const OVERWRITE: DenoOpenOptions = {
  read: false,
  write: true,
  append: false,
  create: false,
  createNew: false,
};

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
        "update to 2.8 or newer",
    );
  }
  return {
    async open(path, mode, creationMode, locker) {
      rejectRecordLocks(locker, onWindows);
      const stats = await deno.stat(path).catch((error: Error) => error);
      if (mustProbeFifo(deno, mode, stats)) await probeFifo(path);
      const attempts = new OpenAttempts(
        mode,
        openOptions(mode, creationMode, onWindows),
      );
      for (const options of attempts) {
        try {
          if (mode.noFollow && !options.create) await rejectSymlink(path);
          const file = await deno.open(path, options);
          return denoFile(file, deno, path, mode, onWindows);
        } catch (error) {
          attempts.rethrowUnlessRace(options, error);
        }
      }
      throw attempts.error;
    },
    openSync(path, mode, creationMode, locker) {
      rejectRecordLocks(locker, onWindows);
      if (mustProbeFifo(deno, mode, statOrError(deno, path))) {
        probeFifoSync(path);
      }
      const attempts = new OpenAttempts(
        mode,
        openOptions(mode, creationMode, onWindows),
      );
      for (const options of attempts) {
        try {
          if (mode.noFollow && !options.create) throwIfSymlink(path);
          const file = deno.openSync(path, options);
          return denoFile(file, deno, path, mode, onWindows);
        } catch (error) {
          attempts.rethrowUnlessRace(options, error);
        }
      }
      throw attempts.error;
    },
    isLocalDirectory: () => false,
    // See proc(5): a PID may belong to another namespace.
    holders: () => process.platform === "linux" ? [] : null,
    // To ask for it requires permissions for which Deno would prompt.
    machineId: () => null,
    ...process.platform === "linux" ? { hidesAccessLists: true } : {},
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
  readonly #mode: OpenMode;
  readonly #options: DenoOpenOptions;

  constructor(mode: OpenMode, options: DenoOpenOptions) {
    this.#mode = mode;
    this.#options = options;
  }

  *[Symbol.iterator](): Generator<DenoOpenOptions> {
    const { create, exclusive, noFollow = false } = this.#mode;
    for (let i = 0; i < MAX_ATTEMPTS; i++) {
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
 * not offer `O_NONBLOCK`. Returns whether only opening it finds out.
 */
function mustProbeFifo(
  deno: DenoApi,
  mode: OpenMode,
  stats: { isFifo: boolean | null } | Error,
): boolean {
  if (stats instanceof Error) {
    // stat(2) needs the read permission of Deno; open(2) for writing does not.
    return !mode.read && stats instanceof deno.errors.NotCapable;
  }
  if (!stats.isFifo) return false;
  throw new Unsupported(
    "it is a FIFO, which Deno opens without blocking only with FFI; " +
      "pass --allow-ffi",
  );
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

/** With these flags, open(2) fails with `ENXIO` for a FIFO without a reader. */
const PROBE_FLAGS = fsConstants.O_WRONLY | (fsConstants.O_NONBLOCK ?? 0);

async function probeFifo(path: string): Promise<void> {
  try {
    await (await fs.promises.open(path, PROBE_FLAGS)).close();
  } catch (error) {
    if (errorCode(error) === "ENXIO") throw error;
  }
}

/** {@linkcode probeFifo}, blocking the thread. */
function probeFifoSync(path: string): void {
  try {
    fs.closeSync(fs.openSync(path, PROBE_FLAGS));
  } catch (error) {
    if (errorCode(error) === "ENXIO") throw error;
  }
}

/** See {@linkcode PlatformFile.nameAt}. */
function nameOf(
  file: DenoFile,
  path: string,
  noFollow: boolean,
): FileName | null {
  const stat = noFollow ? fs.lstatSync : fs.statSync;
  return describeName(file, stat(path, { throwIfNoEntry: false }));
}

function describeName(
  file: DenoFile,
  name: fs.Stats | undefined,
): FileName | null {
  const { dev, ino } = file.statSync();
  if (name?.dev !== dev || name.ino !== ino) return null;
  // Deno on Windows does not count hard links.
  return { isFile: name.isFile(), nlink: name.nlink || null };
}

/** {@linkcode nameOf}, in the thread pool. */
async function nameOfAsync(
  file: DenoFile,
  path: string,
  noFollow: boolean,
): Promise<FileName | null> {
  try {
    // The file system answers the second call at once.
    return describeName(
      file,
      await fs.promises[noFollow ? "lstat" : "stat"](path),
    );
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/**
 * Opens a file again to write at any position, because Deno cannot clear
 * `O_APPEND`. To close it releases no lock of flock(2).
 *
 * @throws With code `ESTALE` if the path does not name the file.
 */
function openAgain(deno: DenoApi, path: string, file: DenoFile): DenoFile {
  // To open a FIFO would block.
  if (nameOf(file, path, false) !== null) {
    const again = deno.openSync(path, OVERWRITE);
    const { dev, ino } = file.statSync();
    const { dev: device, ino: inode } = again.statSync();
    if (dev === device && ino === inode) return again;
    again.close();
  }
  throw Object.assign(
    new Error(
      "the path names another file or none, and Deno overwrites a file that " +
        'was opened in mode "a" only by its path; use mode "r+", or pass ' +
        "--allow-ffi",
    ),
    { code: "ESTALE", errno: constants.errno.ESTALE, syscall: "open", path },
  );
}

function denoFile(
  file: DenoFile,
  deno: DenoApi,
  path: string,
  { append }: OpenMode,
  onWindows: boolean,
): PlatformFile {
  /** The file to write to and to seek in. */
  let target = file;
  let appends = append && onWindows;
  const writeSync = (data: Uint8Array) => {
    if (appends) target.seekSync(0, 2);
    return target.writeSync(data);
  };
  const appendAsync = serializeAppends(writeSync);
  return {
    fd: null,
    ...denoLocks(file, onWindows),
    lockKey: () => denoIdentity(file)?.file ?? null,
    identity: () => denoIdentity(file),
    watchClose: () => null,
    wakeWatchers() {},
    read: async (into) => (await file.read(into)) ?? 0,
    readSync: (into) => file.readSync(into) ?? 0,
    write: (data) => appends ? appendAsync(data) : target.write(data),
    writeSync,
    overwrite() {
      if (!append) return () => {};
      if (onWindows) {
        appends = false;
        return () => void (appends = true);
      }
      target = openAgain(deno, path, file);
      return () => {
        file.seekSync(target.seekSync(0, 1), 0);
        target.close();
        target = file;
      };
    },
    seek: (offset, whence) => target.seekSync(offset, whence),
    truncate: (length) => file.truncate(length),
    truncateSync: (length) => file.truncateSync(length),
    sync: (dataOnly) => dataOnly ? file.syncData() : file.sync(),
    syncSync: (dataOnly) => dataOnly ? file.syncDataSync() : file.syncSync(),
    stat: () => file.stat(),
    statSync: () => file.statSync(),
    isStillAt: (path) => nameOf(file, path, true) !== null,
    nameAt: (path, noFollow) => nameOfAsync(file, path, noFollow),
    nameAtSync: (path, noFollow) => nameOf(file, path, noFollow),
    isAt: async (path, noFollow) =>
      (await nameOfAsync(file, path, noFollow)) !== null,
    isAtSync: (path, noFollow) => nameOf(file, path, noFollow) !== null,
    watchName: () => null,
    unlink: onWindows ? renameAndUnlink : fs.unlinkSync,
    close: () => file.close(),
    closeSync: () => file.close(),
  };
}
