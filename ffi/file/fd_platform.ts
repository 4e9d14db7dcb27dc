/** Files over `node:fs` descriptors, locked by a {@linkcode OsLocks}. */

import * as fs from "node:fs";
import { dirname } from "node:path";
import { FdFile, LockableFd, toCallback } from "./fd_file.ts";
import { throwIfSymlink } from "./no_follow.ts";
import type { CloseOnThreadExit } from "../posix/close_on_thread_exit.ts";
import { errorCode, Unsupported } from "../types.ts";
import type { LockerSettings, OpenMode, OsLocks, Platform } from "../types.ts";

/** So many paths are remembered as local; then the memory starts anew. */
const MAX_REMEMBERED_PATHS = 10_000;

/**
 * The {@linkcode Platform} of every runtime that has descriptors and FFI.
 * `closeWithThread` is given where the runtime does not see to that.
 */
export function fdPlatform(
  system: OsLocks,
  closeOnThreadExit: CloseOnThreadExit = () => () => {},
): Platform {
  const verify = fdVerifier(system);
  // A pool thread's round trip costs ten times the lock itself, so a file is
  // opened and closed on the calling thread once its path is known to lie on
  // a file system that answers from this machine. Elsewhere (NFS, FUSE) a
  // server must not stand still while somebody else's disk thinks.
  const localPaths = new Set<string>();
  // The same of directories in which files were made.
  const localDirectories = new Set<string>();

  function remember(path: string, mode: OpenMode): void {
    const [paths, one] = mode.exclusive
      ? [localDirectories, dirname(path)]
      : [localPaths, path];
    if (paths.size >= MAX_REMEMBERED_PATHS) paths.clear();
    paths.add(one);
  }

  /** A file must not be made whose locks the system does not have. */
  function checkBeforeOpen(
    path: string,
    mode: OpenMode,
    locker: LockerSettings | undefined,
  ): void {
    if (locker) system.locker(locker);
    if (mode.noFollow && system.followsLinks) throwIfSymlink(path);
  }

  function openSync(
    path: string,
    mode: OpenMode,
    creationMode: number,
    locker?: LockerSettings,
  ) {
    checkBeforeOpen(path, mode, locker);
    const isLocal = localPaths.has(path) ||
      mode.exclusive && localDirectories.has(dirname(path)) || null;
    const opening = (mode: OpenMode) =>
      fs.openSync(path, openFlags(mode, system), creationMode);
    return wrapVerified(
      openOrRetryExisting(mode, opening),
      mode,
      isLocal,
      locker,
    );
  }

  function wrapVerified(
    fd: number,
    mode: OpenMode,
    isLocal: boolean | null,
    locker: LockerSettings | undefined,
  ): FdFile {
    try {
      verify(fd);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
    return new FdFile(system, fd, {
      locker,
      localPaths: isLocal,
      closing: closeOnThreadExit(fd),
      appends: mode.append,
    });
  }

  return {
    openSync,
    open(path, mode, creationMode, locker) {
      checkBeforeOpen(path, mode, locker);
      if (
        localPaths.has(path) ||
        mode.exclusive && localDirectories.has(dirname(path))
      ) {
        return openSync(path, mode, creationMode, locker);
      }
      const opening = (mode: OpenMode) =>
        new Promise<number>((resolve, reject) =>
          fs.open(
            path,
            openFlags(mode, system),
            creationMode,
            toCallback(resolve, reject),
          )
        );
      return opening(mode).catch((error) => {
        if (!isProtectedRegular(mode, error)) throw error;
        return opening({ ...mode, create: false }).catch(() => {
          throw error;
        });
      }).then((fd) => {
        const isLocal = system.isLocal(fd);
        if (isLocal) remember(path, mode);
        return wrapVerified(fd, mode, isLocal, locker);
      });
    },
    fromFd(fd) {
      verify(fd);
      return new LockableFd(system, fd);
    },
    isLocalDirectory: (directory) => localDirectories.has(directory),
    holders: system.holders,
  };
}

/**
 * Old versions of Deno number the files of `node:fs` themselves; to the system
 * the same number names another file, or none. So one descriptor must name the
 * same inode to the runtime and to the system before any is locked. The
 * numbers 0 to 2 mean the same everywhere and prove nothing about the others.
 */
function fdVerifier(system: OsLocks): (fd: number) => void {
  let wrapVerified = false;
  return (fd) => {
    if (wrapVerified || !system.inode) return;
    const { ino } = fs.fstatSync(fd, { bigint: true });
    // Bun 1.2.0 gives a number all the same.
    if (system.inode(fd) !== BigInt(ino)) {
      throw new Unsupported(
        "the descriptors of this runtime are not the system's; update it",
      );
    }
    wrapVerified = fd > 2;
  };
}

/**
 * `O_NONBLOCK` keeps a FIFO from waiting for its other end and means nothing
 * to a regular file that nobody has a lease on. All three runtimes add `O_CLOEXEC` themselves.
 */
function openFlags(mode: OpenMode, system: OsLocks): number {
  const { constants: c } = fs;
  const access = mode.read && mode.write
    ? c.O_RDWR
    : mode.write
    ? c.O_WRONLY
    : c.O_RDONLY;
  return access |
    (mode.append && !system.append ? c.O_APPEND : 0) |
    (mode.create ? c.O_CREAT : 0) |
    (mode.exclusive ? c.O_EXCL : 0) |
    (mode.noFollow && !system.followsLinks ? c.O_NOFOLLOW : 0) |
    (c.O_NONBLOCK ?? 0) | (c.O_NOCTTY ?? 0);
}

/**
 * In a sticky directory that all may write to, `O_CREAT` fails even for a file
 * that exists and could be opened, if it is another user's: proc_sys_fs(5),
 * protected_regular.
 */
function isProtectedRegular(mode: OpenMode, error: unknown): boolean {
  return errorCode(error) === "EACCES" && mode.create && !mode.exclusive;
}

function openOrRetryExisting(
  mode: OpenMode,
  open: (mode: OpenMode) => number,
): number {
  try {
    return open(mode);
  } catch (error) {
    if (!isProtectedRegular(mode, error)) throw error;
    try {
      return open({ ...mode, create: false });
    } catch {
      throw error;
    }
  }
}
