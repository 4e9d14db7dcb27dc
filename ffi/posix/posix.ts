/** flock(2) and its company over bound C functions: Linux and macOS. */

import { unlinkSync } from "node:fs";
import { constants } from "node:os";
import { LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN } from "./constants.ts";
import type { PosixConstants } from "./constants.ts";
import { recordLocks } from "./fcntl.ts";
import type { Failure } from "./fcntl.ts";
import { linux, NO_EXTRAS } from "../linux/linux.ts";
import type { CFunction, FfiRuntime, Locker, OsLocks } from "../types.ts";

/** Larger than `struct stat` and `struct statfs` of any 64-bit system. */
const STRUCT_SIZE = 4096;

/** The system axis for systems with flock(2). */
export function posix(runtime: FfiRuntime, system: PosixConstants): OsLocks {
  const libc = runtime.bind(system.libc, {
    flock: { parameters: ["i32", "i32"], result: "i32" },
    lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
    [system.fstatfs]: { parameters: ["i32", "buffer"], result: "i32" },
    [system.strerror]: {
      parameters: ["i32", "buffer", "usize"],
      result: "i32",
    },
  });
  const errno = runtime.errno(system.libc, system.errnoLocation);
  const struct = new Uint8Array(STRUCT_SIZE);
  const view = new DataView(struct.buffer);

  const failure: Failure = (syscall, code) => {
    libc[system.strerror](code, struct, BigInt(STRUCT_SIZE));
    const words = new TextDecoder().decode(
      struct.subarray(0, struct.indexOf(0)),
    );
    return Object.assign(new Error(words), {
      code: errorName(code),
      errno: code,
      syscall,
    });
  };

  /** `false` when busy; a signal's interruption is not an answer. */
  function flock(fd: number, operation: number): boolean {
    while (libc.flock(fd, operation) !== 0) {
      const code = errno();
      if (code === system.EWOULDBLOCK && operation & LOCK_NB) return false;
      if (code !== system.EINTR) throw failure("flock", code);
    }
    return true;
  }

  const records = recordLocks(runtime, system, errno, failure);
  const flockLocker: Locker = {
    tryLock: (fd, exclusive) => flock(fd, kind(exclusive) | LOCK_NB),
    lock: (fd, exclusive) => void flock(fd, kind(exclusive)),
    unlock: (fd) => void flock(fd, LOCK_UN),
  };
  const kind = (exclusive: boolean) => exclusive ? LOCK_EX : LOCK_SH;

  let boundFstat: CFunction | undefined;
  function fstat(fd: number): DataView {
    boundFstat ??= bindFstat(runtime, system);
    if (boundFstat(fd, struct) !== 0) throw failure("fstat", errno());
    return view;
  }

  const inode = (fd: number) => system.inode(fstat(fd));

  function identity(fd: number): string {
    const stat = fstat(fd);
    return `${system.device(stat)}:${system.inode(stat)}`;
  }

  return {
    ...system.linux
      ? linux(runtime, system.libc, records.present, inode)
      : NO_EXTRAS,
    ...flockLocker,
    locker: ({ name, range }) =>
      name === "flock" ? flockLocker : records.locker(name, range),
    seek(fd, offset, whence) {
      const position = Number(libc.lseek(fd, BigInt(offset), whence));
      if (position < 0) throw failure("lseek", errno());
      return position;
    },
    isLocal: (fd) =>
      libc[system.fstatfs](fd, struct) === 0 && system.isLocal(view),
    inode,
    lockKey: identity,
    unlink: unlinkSync,
    isFile: (fd, { dev, ino }) => identity(fd) === `${dev}:${ino}`,
  };
}

/** fstat(2), which glibc before 2.33 exports under its inner name only. */
function bindFstat(
  runtime: FfiRuntime,
  { libc, fstat }: PosixConstants,
): CFunction {
  try {
    return runtime.bind(libc, {
      [fstat]: { parameters: ["i32", "buffer"], result: "i32" },
    })[fstat];
  } catch {
    const { __fxstat } = runtime.bind(libc, {
      __fxstat: { parameters: ["i32", "i32", "buffer"], result: "i32" },
    });
    // bits/stat.h: _STAT_VER_KERNEL, which every 64-bit system takes.
    return (fd, stat) => __fxstat(0, fd, stat);
  }
}

/** Names of two numbers that carry two: the one that flock(2) documents. */
const PREFERRED = ["EWOULDBLOCK", "EOPNOTSUPP"];

/** The name of an error number, such as `"EBADF"`. */
function errorName(errno: number): string {
  const names = Object.entries(constants.errno)
    .filter(([, value]) => value === errno)
    .map(([name]) => name);
  return names.find((name) => PREFERRED.includes(name)) ?? names[0] ??
    `errno ${errno}`;
}
