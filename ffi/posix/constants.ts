/**
 * Constants that differ between POSIX systems, each with its header. The command
 * reads them before it loads a module of `node:`, so `process` is the global.
 */

import { littleEndian } from "../runtime/memory.ts";

/** The constants of one system. */
export interface PosixConstants {
  /** The name by which the dynamic loader finds the C library. */
  libc: string;
  /** errno.h: the function behind the macro `errno`. */
  errnoLocation: string;
  /** string.h: the POSIX form of `strerror_r`, which returns an int. */
  strerror: string;
  /** sys/stat.h: the function that fills a `struct stat`. */
  fstat: string;
  /** sys/mount.h: the function that fills a `struct statfs`. */
  fstatfs?: string;
  /** errno.h */
  EINTR: number;
  /** errno.h: the same number as EAGAIN on both systems. */
  EWOULDBLOCK: number;
  /** errno.h: fcntl(2) may fail with it instead of EAGAIN. */
  EACCES: number;
  /** fcntl.h: the flag of an open file whose writes go to its end. */
  O_APPEND: number;
  /** fcntl.h: record locks. */
  recordLocks: RecordConstants;
  /**
   * How many arguments to insert before the variadic argument of `fcntl`. The
   * arm64 convention of Apple passes variadic arguments on the stack. A caller
   * with a fixed signature reaches the stack once all registers are filled.
   */
  variadicPadding: number;
  /** Whether the system has inotify(7) and proc(5). */
  linux: boolean;
  /** Reads the device number out of a `struct stat` of a 64-bit system. */
  device(stat: DataView): bigint;
  /** Reads the inode number out of a `struct stat`. */
  inode(stat: DataView): bigint;
  /**
   * Reads out of a `struct statfs` whether the file system is local. Absent if
   * the system has a mount table.
   */
  isLocal?(statfs: DataView): boolean;
}

/** fcntl.h: the commands and the struct of record locks. */
export interface RecordConstants {
  /** Locks of the process: F_SETLK, and F_SETLKW, which blocks. */
  lockf: { set: number; wait: number };
  /** Locks of the open file description: the same, and F_OFD_GETLK. */
  ofd: { set: number; wait: number; get: number };
  F_RDLCK: number;
  F_WRLCK: number;
  F_UNLCK: number;
  /** The offsets of the fields of a `struct flock`, in bytes. */
  offsets: { type: number; whence: number; start: number; length: number };
}

/** fcntl.h, the same on Linux and macOS. */
export const F_GETFL = 3;
/** fcntl.h */
export const F_SETFL = 4;

/** sys/file.h, the same on every system that has flock(2). */
export const LOCK_SH = 1;
/** sys/file.h */
export const LOCK_EX = 2;
/** sys/file.h */
export const LOCK_NB = 4;

/** signal.h, the same on Linux and macOS. */
export const SIG_DFL = 0n;
export const SIG_IGN = 1n;

/** Large enough for a `struct sigaction`, which begins with the handler. */
export const SIGACTION_SIZE = 256;
/** sys/file.h */
export const LOCK_UN = 8;

/** sys/mount.h (macOS): the file system is stored locally. */
const MNT_LOCAL = 0x1000;

const linux: PosixConstants = {
  EACCES: 13,
  // asm-generic/fcntl.h
  O_APPEND: 0o2000,
  // asm-generic/fcntl.h
  recordLocks: {
    lockf: { set: 6, wait: 7 },
    ofd: { set: 37, wait: 38, get: 36 },
    F_RDLCK: 0,
    F_WRLCK: 1,
    F_UNLCK: 2,
    offsets: { type: 0, whence: 2, start: 8, length: 16 },
  },
  variadicPadding: 0,
  // The loader of musl resolves each name that begins with "libc." to musl, so
  // the name of glibc finds both.
  libc: "libc.so.6",
  errnoLocation: "__errno_location",
  strerror: "__xpg_strerror_r",
  fstat: "fstat",
  EINTR: 4,
  EWOULDBLOCK: 11,
  linux: true,
  device: (stat) => stat.getBigUint64(0, littleEndian),
  inode: (stat) => stat.getBigUint64(8, littleEndian),
};

const darwin: PosixConstants = {
  EACCES: 13,
  // sys/fcntl.h
  O_APPEND: 0x8,
  // sys/fcntl.h
  recordLocks: {
    lockf: { set: 8, wait: 9 },
    ofd: { set: 90, wait: 91, get: 92 },
    F_RDLCK: 1,
    F_WRLCK: 3,
    F_UNLCK: 2,
    offsets: { type: 20, whence: 22, start: 0, length: 8 },
  },
  variadicPadding: 0,
  libc: "/usr/lib/libSystem.B.dylib",
  errnoLocation: "__error",
  strerror: "strerror_r",
  fstat: "fstat",
  fstatfs: "fstatfs",
  EINTR: 4,
  EWOULDBLOCK: 35,
  linux: false,
  device: (stat) => BigInt(stat.getInt32(0, littleEndian)),
  inode: (stat) => stat.getBigUint64(8, littleEndian),
  isLocal: (statfs) => (statfs.getUint32(64, littleEndian) & MNT_LOCAL) !== 0,
};

/** Macs with Apple silicon. */
const darwinArm64: PosixConstants = { ...darwin, variadicPadding: 6 };

/**
 * Macs with Intel processors. There, the plain names fill structs with 32-bit
 * inode numbers, for programs from before 2007: see `__DARWIN_INODE64` in
 * sys/cdefs.h.
 */
const darwinX64: PosixConstants = {
  ...darwin,
  fstat: "fstat$INODE64",
  fstatfs: "fstatfs$INODE64",
};

/** 32-bit architectures, whose structs have other layouts. */
const ARCHITECTURES_32_BIT = ["arm", "ia32", "mips", "mipsel"];

/** Returns whether pointers have 32 bits. */
export function is32Bit(arch: string = globalThis.process.arch): boolean {
  return ARCHITECTURES_32_BIT.includes(arch);
}

/** Returns the constants of a system, or `null` if it is not supported. */
export function posixConstants(
  platform: string = globalThis.process.platform,
  arch: string = globalThis.process.arch,
): PosixConstants | null {
  if (is32Bit(arch)) return null;
  if (platform === "linux") return linux;
  if (platform === "darwin") return arch === "x64" ? darwinX64 : darwinArm64;
  return null;
}

/**
 * Returns where the C library may be: on Debian and Ubuntu, on Fedora, Arch and
 * SUSE, and on others.
 */
export function libcPaths(
  { libc, linux }: PosixConstants,
  arch: string = globalThis.process.arch,
): string[] {
  if (!linux) return [libc];
  const processor = arch === "arm64" ? "aarch64" : "x86_64";
  const directories = [`/lib/${processor}-linux-gnu`, "/lib64", "/lib"];
  return [...directories, ...directories.map((path) => `/usr${path}`)]
    .map((directory) => `${directory}/${libc}`);
}
