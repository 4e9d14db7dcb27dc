/**
 * Deno without FFI: files that Deno opens and locks itself, with flock(2) or
 * LockFileEx underneath. Needs read or write permission and nothing else.
 */

import { closeSync, constants, lstatSync, openSync } from "node:fs";
import { constants as osConstants } from "node:os";
import process from "node:process";
import { Unsupported } from "./types.ts";
import type { DenoApi, DenoFile, DenoOpenOptions } from "./deno_api.ts";
import type { LockerSettings, Native, NativeFile, OpenMode } from "./types.ts";

/** The {@linkcode Native} of a Deno that may not call C. */
export function denoFiles(deno: DenoApi): Native {
  if (!("tryLockSync" in deno.FsFile.prototype)) {
    throw new Unsupported(
      `Deno ${deno.version.deno} has no file locks of its own; ` +
        "pass --allow-ffi or update to 2.8 or newer",
    );
  }
  return {
    async open(path, mode, creationMode, locker) {
      refuseRecordLocks(locker);
      const seen = await deno.stat(path).catch((error: Error) => error);
      refuseFifo(deno, path, mode, seen);
      if (mode.noFollow) refuseLink(path);
      const options = openOptions(mode, creationMode);
      return denoFile(await deno.open(path, options));
    },
    openSync(path, mode, creationMode, locker) {
      refuseRecordLocks(locker);
      refuseFifo(deno, path, mode, look(deno, path));
      if (mode.noFollow) refuseLink(path);
      return denoFile(deno.openSync(path, openOptions(mode, creationMode)));
    },
    isNear: () => false,
    holders: () => [],
    descriptor() {
      throw new Unsupported(
        "without FFI Deno cannot lock a descriptor by its number; " +
          "pass --allow-ffi or a Deno.FsFile",
      );
    },
  };
}

function openOptions(mode: OpenMode, creationMode: number): DenoOpenOptions {
  return {
    read: mode.read,
    write: mode.write && !mode.append,
    append: mode.append,
    create: mode.create,
    createNew: mode.exclusive,
    // Windows has no permission bits and Deno refuses them there.
    ...process.platform === "win32" ? {} : { mode: creationMode },
  };
}

function refuseRecordLocks(locker: LockerSettings | undefined): void {
  if (!locker || locker.name === "flock") return;
  throw new Unsupported(
    `the locker "${locker.name}" ` +
      (process.platform === "win32"
        ? 'does not exist on Windows; use "flock"'
        : "needs FFI; pass --allow-ffi to Deno 2.8 or newer"),
  );
}

/** Opening a FIFO would wait for its other end, and Deno has no way out. */
function refuseFifo(
  deno: DenoApi,
  path: string,
  mode: OpenMode,
  seen: { isFifo: boolean | null } | Error,
): void {
  if (seen instanceof Error) {
    // Without read permission only opening tells; a FIFO that nobody reads
    // fails with ENXIO instead of waiting.
    if (!mode.read && seen instanceof deno.errors.NotCapable) probe(path);
  } else if (seen.isFifo) {
    throw new Unsupported(
      "it is a FIFO, which Deno cannot open without waiting; pass --allow-ffi",
    );
  }
}

/** A link that is made between this and opening is found out by `isAt`. */
function refuseLink(path: string): void {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) return;
  throw Object.assign(
    new Error(`ELOOP: too many symbolic links encountered, open '${path}'`),
    { code: "ELOOP", errno: osConstants.errno.ELOOP, syscall: "open", path },
  );
}

function look(deno: DenoApi, path: string): { isFifo: boolean | null } | Error {
  try {
    return deno.statSync(path);
  } catch (error) {
    return error as Error;
  }
}

function probe(path: string): void {
  try {
    closeSync(openSync(path, constants.O_WRONLY | (constants.O_NONBLOCK ?? 0)));
  } catch (error) {
    if ((error as { code?: string }).code === "ENXIO") throw error;
  }
}

function denoFile(file: DenoFile): NativeFile {
  return {
    fd: null,
    tryLock: (exclusive) => file.tryLockSync(exclusive),
    lock: (exclusive) => file.lockSync(exclusive),
    unlock: () => file.unlockSync(),
    identity() {
      const { dev, ino } = file.statSync();
      return ino === null ? null : `${dev}:${ino}`;
    },
    watch: () => null,
    announce() {},
    read: async (into) => (await file.read(into)) ?? 0,
    readSync: (into) => file.readSync(into) ?? 0,
    write: (data) => file.write(data),
    writeSync: (data) => file.writeSync(data),
    seek: (offset, whence) => file.seekSync(offset, whence),
    truncate: (length) => file.truncate(length),
    truncateSync: (length) => file.truncateSync(length),
    sync: (dataOnly) => dataOnly ? file.syncData() : file.sync(),
    syncSync: (dataOnly) => dataOnly ? file.syncDataSync() : file.syncSync(),
    stat: () => file.stat(),
    statSync: () => file.statSync(),
    isAt(path) {
      const name = lstatSync(path, { throwIfNoEntry: false });
      const { dev, ino } = file.statSync();
      return name !== undefined && name.dev === dev && name.ino === ino;
    },
    close: () => file.close(),
    closeSync: () => file.close(),
  };
}
