/**
 * Deno without FFI: files that Deno opens and locks itself, with flock(2) or
 * LockFileEx underneath. Needs read or write permission and nothing else.
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
  LockerSettings,
  OpenMode,
  Platform,
  PlatformFile,
} from "../types.ts";

/** A file that comes and goes so often between two looks is not to be had. */
const MAX_ATTEMPTS = 1000;

/**
 * The {@linkcode Platform} of a Deno that may not call C, or runs on Windows:
 * there no function tells the handles of its descriptors.
 */
export function denoPlatform(
  deno: DenoApi,
  onWindows: boolean = process.platform === "win32",
): Platform {
  if (!("tryLockSync" in deno.FsFile.prototype)) {
    throw new Unsupported(
      `Deno ${deno.version.deno} has no file locks of its own; ` +
        (onWindows
          ? "update to 2.8 or newer"
          : "pass --allow-ffi or update to 2.8 or newer"),
    );
  }
  return {
    async open(path, mode, creationMode, locker) {
      rejectRecordLocks(locker, onWindows);
      const seen = await deno.stat(path).catch((error: Error) => error);
      rejectFifo(deno, path, mode, seen);
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
    holders: () => [],
    fromFd() {
      throw new Unsupported(
        onWindows
          ? "on Windows Deno cannot lock a descriptor by its number; " +
            "pass a Deno.FsFile"
          : "without FFI Deno cannot lock a descriptor by its number; " +
            "pass --allow-ffi or a Deno.FsFile",
      );
    },
  };
}

/**
 * How to open a file, one way after the other. A file that exists is opened as
 * one that does: a link that takes its place meanwhile makes no file, and one
 * of another user can be had where `O_CREAT` could not have it
 * (proc_sys_fs(5), protected_regular).
 */
class OpenAttempts {
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

  /** Throws what no other way could help against. */
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
  // What Windows appends to by itself can be neither locked nor cut off:
  // https://github.com/denoland/deno/issues/26774
  const append = mode.append && !onWindows;
  return {
    read: mode.read,
    write: mode.write && !append,
    append,
    create: mode.create,
    createNew: mode.exclusive,
    // Windows has no permission bits and Deno refuses them there.
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

/** Opening a FIFO would wait for its other end, and Deno has no way out. */
function rejectFifo(
  deno: DenoApi,
  path: string,
  mode: OpenMode,
  seen: { isFifo: boolean | null } | Error,
): void {
  if (seen instanceof Error) {
    // Without read permission only opening tells; a FIFO that nobody reads
    // fails with ENXIO instead of waiting.
    if (!mode.read && seen instanceof deno.errors.NotCapable) probeFifo(path);
  } else if (seen.isFifo) {
    throw new Unsupported(
      "it is a FIFO, which Deno cannot open without waiting; pass --allow-ffi",
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
    isStillAt(path) {
      const name = lstatSync(path, { throwIfNoEntry: false });
      const { dev, ino } = file.statSync();
      return name !== undefined && name.dev === dev && name.ino === ino;
    },
    unlink: onWindows ? renameAndUnlink : unlinkSync,
    close: () => file.close(),
    closeSync: () => file.close(),
  };
}
