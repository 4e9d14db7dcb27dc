/** Files over `node:fs` descriptors, locked by a {@linkcode System}. */

import * as fs from "node:fs";
import { dirname } from "node:path";
import { Descriptor, DescriptorFile, settle } from "./fd_file.ts";
import { refuseLink } from "./no_follow.ts";
import type { CloseWithThread } from "../posix/close_on_thread_exit.ts";
import { Unsupported } from "../types.ts";
import type { LockerSettings, Native, OpenMode, System } from "../types.ts";

/** So many paths are remembered as local; then the memory starts anew. */
const REMEMBERED_PATHS = 10_000;

/**
 * The {@linkcode Native} of every runtime that has descriptors and FFI.
 * `closeWithThread` is given where the runtime does not see to that.
 */
export function descriptors(
  system: System,
  closeWithThread: CloseWithThread = () => () => {},
): Native {
  const prove = prover(system);
  // A pool thread's round trip costs ten times the lock itself, so a file is
  // opened and closed on the calling thread once its path is known to lie on
  // a file system that answers from this machine. Elsewhere (NFS, FUSE) a
  // server must not stand still while somebody else's disk thinks.
  const local = new Set<string>();
  // The same of directories in which files were made.
  const near = new Set<string>();

  function remember(path: string, mode: OpenMode): void {
    const [paths, one] = mode.exclusive ? [near, dirname(path)] : [local, path];
    if (paths.size >= REMEMBERED_PATHS) paths.clear();
    paths.add(one);
  }

  /** A file must not be made whose locks the system does not have. */
  function refuse(
    path: string,
    mode: OpenMode,
    locker: LockerSettings | undefined,
  ): void {
    if (locker) system.locker(locker);
    if (mode.noFollow && system.followsLinks) refuseLink(path);
  }

  function openSync(
    path: string,
    mode: OpenMode,
    creationMode: number,
    locker?: LockerSettings,
  ) {
    refuse(path, mode, locker);
    const isLocal = local.has(path) ||
      mode.exclusive && near.has(dirname(path)) || null;
    const opening = (mode: OpenMode) =>
      fs.openSync(path, openFlags(mode, system), creationMode);
    return proven(openExisting(mode, opening), mode, isLocal, locker);
  }

  function proven(
    fd: number,
    mode: OpenMode,
    isLocal: boolean | null,
    locker: LockerSettings | undefined,
  ): DescriptorFile {
    try {
      prove(fd);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
    return new DescriptorFile(system, fd, {
      locker,
      local: isLocal,
      closing: closeWithThread(fd),
      appends: mode.append,
    });
  }

  return {
    openSync,
    open(path, mode, creationMode, locker) {
      refuse(path, mode, locker);
      if (local.has(path) || mode.exclusive && near.has(dirname(path))) {
        return openSync(path, mode, creationMode, locker);
      }
      const opening = (mode: OpenMode) =>
        new Promise<number>((resolve, reject) =>
          fs.open(
            path,
            openFlags(mode, system),
            creationMode,
            settle(resolve, reject),
          )
        );
      return opening(mode).catch((error) => {
        if (!mayExist(mode, error)) throw error;
        return opening({ ...mode, create: false }).catch(() => {
          throw error;
        });
      }).then((fd) => {
        const isLocal = system.isLocal(fd);
        if (isLocal) remember(path, mode);
        return proven(fd, mode, isLocal, locker);
      });
    },
    descriptor(fd) {
      prove(fd);
      return new Descriptor(system, fd);
    },
    isNear: (directory) => near.has(directory),
    holders: system.holders,
  };
}

/**
 * Old versions of Deno number the files of `node:fs` themselves; to the system
 * the same number names another file, or none. So one descriptor must name the
 * same inode to the runtime and to the system before any is locked. The
 * numbers 0 to 2 mean the same everywhere and prove nothing about the others.
 */
function prover(system: System): (fd: number) => void {
  let proven = false;
  return (fd) => {
    if (proven || !system.inode) return;
    const { ino } = fs.fstatSync(fd, { bigint: true });
    // Bun 1.2.0 gives a number all the same.
    if (system.inode(fd) !== BigInt(ino)) {
      throw new Unsupported(
        "the descriptors of this runtime are not the system's; update it",
      );
    }
    proven = fd > 2;
  };
}

/**
 * `O_NONBLOCK` keeps a FIFO from waiting for its other end and means nothing
 * to a regular file that nobody has a lease on. All three runtimes add `O_CLOEXEC` themselves.
 */
function openFlags(mode: OpenMode, system: System): number {
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
function mayExist(mode: OpenMode, error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "EACCES" && mode.create && !mode.exclusive;
}

function openExisting(
  mode: OpenMode,
  open: (mode: OpenMode) => number,
): number {
  try {
    return open(mode);
  } catch (error) {
    if (!mayExist(mode, error)) throw error;
    try {
      return open({ ...mode, create: false });
    } catch {
      throw error;
    }
  }
}
