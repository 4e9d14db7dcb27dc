/** Opens files over `node:fs`, with the locks of an {@linkcode OsLocks}. */

import * as fs from "node:fs";
import { FdFile, toCallback } from "./fd_file.ts";
import type { FdFileInit } from "./fd_file.ts";
import { throwIfSymlink } from "./no_follow.ts";
import { OpenedPaths } from "./opened_paths.ts";
import { errorCode, Unsupported } from "../types.ts";
import type {
  CloseOnThreadExit,
  LockerSettings,
  OpenMode,
  OsLocks,
  Platform,
} from "../types.ts";

/**
 * Returns the {@linkcode Platform} of a runtime that has descriptors and FFI.
 *
 * A round trip to a pool thread costs ten times as much as the lock. So a file
 * whose path is known to be on a file system of this machine is opened and
 * closed on the calling thread. Other files (NFS, FUSE) are opened and closed
 * in the pool, so that a slow server does not block the event loop.
 *
 * @param closeOnThreadExit Given if the runtime leaves files open when a worker
 * ends.
 */
export function fdPlatform(
  os: OsLocks,
  closeOnThreadExit?: CloseOnThreadExit,
): Platform {
  let verified = os.inode === undefined;
  const localPaths = os.localPaths ?? new OpenedPaths();

  /** Checks everything that open(2) does not, before it can create a file. */
  function prepareOpen(
    path: string,
    mode: OpenMode,
    settings: LockerSettings | undefined,
    isLocal?: true,
  ): FdFileInit {
    const locker = settings ? os.locker(settings) : os;
    if (mode.noFollow && os.followsLinks) throwIfSymlink(path);
    return { locker, settings, path, isLocal, append: mode.append };
  }

  function verify(fd: number): void {
    verifyFd(os, fd);
    // The numbers 0 to 2 are equal everywhere, so they prove nothing.
    verified = fd > 2;
  }

  function verifyOrClose(fd: number): void {
    try {
      verify(fd);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  function toFile(fd: number, init: FdFileInit): FdFile {
    if (!closeOnThreadExit) return new FdFile(os, fd, init);
    let owned;
    try {
      owned = closeOnThreadExit(fd);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
    return new FdFile(os, owned.fd, init, owned.close);
  }

  function openBlocking(
    path: string,
    mode: OpenMode,
    creationMode: number,
    init: FdFileInit,
  ): FdFile {
    let fd: number;
    try {
      fd = fs.openSync(path, openFlags(mode, os), creationMode);
    } catch (error) {
      if (!isProtectedRegular(mode, error)) throw error;
      try {
        const existing = openFlags({ ...mode, create: false }, os);
        fd = fs.openSync(path, existing, creationMode);
      } catch {
        throw error;
      }
    }
    if (!verified) verifyOrClose(fd);
    return toFile(fd, init);
  }

  return {
    open(path, mode, creationMode, settings) {
      if (localPaths.hasFile(path, mode)) {
        const init = prepareOpen(path, mode, settings, true);
        return openBlocking(path, mode, creationMode, init);
      }
      const init = prepareOpen(path, mode, settings);
      const open = (mode: OpenMode) =>
        new Promise<number>((resolve, reject) =>
          fs.open(
            path,
            openFlags(mode, os),
            creationMode,
            toCallback(resolve, reject),
          )
        );
      return open(mode).catch((error) => {
        if (!isProtectedRegular(mode, error)) throw error;
        return open({ ...mode, create: false }).catch(() => {
          throw error;
        });
      }).then((fd) => {
        if (!verified) verifyOrClose(fd);
        const isLocal = os.isLocal?.(fd) ?? false;
        if (isLocal) localPaths.remember?.(path, mode);
        return toFile(fd, { ...init, isLocal });
      });
    },
    openSync(path, mode, creationMode, settings) {
      const init = prepareOpen(path, mode, settings);
      return openBlocking(path, mode, creationMode, init);
    },
    fromFd(fd, settings) {
      if (!verified) verify(fd);
      const locker = settings ? os.locker(settings) : os;
      return new FdFile(os, fd, { locker, settings });
    },
    isLocalDirectory: (directory) => localPaths.hasDirectory(directory),
    holders: os.holders,
    machineId: os.machineId,
    ...os.lockStates ? { lockStates: os.lockStates } : {},
    ...os.attributes ? { attributes: os.attributes } : {},
    ...os.readProcFile ? { readProcFile: os.readProcFile } : {},
  };
}

/**
 * Checks that a descriptor names the same inode to `node:fs` and to the system.
 *
 * Deno before 2.8 numbers the files of `node:fs` itself. To the system, such a
 * number names another file, or none. One verified descriptor verifies the
 * others, because a runtime numbers all of them in the same way.
 *
 * @throws {Unsupported} If it does not.
 * @throws {SystemError} If the system does not know the descriptor.
 */
function verifyFd(os: OsLocks, fd: number): void {
  const inode = os.inode?.(fd);
  let ino: bigint;
  try {
    ({ ino } = fs.fstatSync(fd, { bigint: true }));
  } catch (error) {
    // The system knows the descriptor. Deno knows only those that it opened,
    // and not one that the process inherited.
    if (errorCode(error) === "EBADF") return;
    throw error;
  }
  // Bun 1.2.0 returns a number despite `bigint`.
  if (inode !== BigInt(ino)) {
    throw new Unsupported(
      "the file descriptors of this runtime are not those of the system; " +
        "update the runtime",
    );
  }
}

/**
 * Returns the flags for open(2).
 *
 * With `O_NONBLOCK`, opening a FIFO does not block until its other end is open.
 * On a regular file, it has an effect only while a process holds a lease on it:
 * see fcntl(2). All three runtimes add `O_CLOEXEC`.
 */
function openFlags(mode: OpenMode, os: OsLocks): number {
  const { constants: c } = fs;
  const access = mode.read && mode.write
    ? c.O_RDWR
    : mode.write
    ? c.O_WRONLY
    : c.O_RDONLY;
  return access |
    (mode.append && !os.append ? c.O_APPEND : 0) |
    (mode.create ? c.O_CREAT : 0) |
    (mode.exclusive ? c.O_EXCL : 0) |
    (mode.noFollow && !os.followsLinks ? c.O_NOFOLLOW : 0) |
    (c.O_NONBLOCK ?? 0) | (c.O_NOCTTY ?? 0);
}

/**
 * Returns whether to retry without `O_CREAT`.
 *
 * In a world-writable sticky directory, `O_CREAT` fails for an existing file of
 * another user, even if the file could be opened. See `protected_regular` in
 * proc_sys_fs(5).
 */
function isProtectedRegular(mode: OpenMode, error: unknown): boolean {
  return errorCode(error) === "EACCES" && mode.create && !mode.exclusive;
}
