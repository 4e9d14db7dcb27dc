/** flock(2) and related calls of the C library: Linux and macOS. */

import { unlinkSync } from "node:fs";
import { constants } from "node:os";
import { cString } from "../runtime/memory.ts";
import { LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN } from "./constants.ts";
import type { PosixConstants } from "./constants.ts";
import { appendFlag, recordLocks } from "./fcntl.ts";
import type { CreateError } from "./fcntl.ts";
import { fileAttributes } from "../linux/attributes.ts";
import { linux, NO_EXTRAS } from "../linux/linux.ts";
import { bootSession } from "./boot_session.ts";
import type {
  CFunction,
  CloseOnThreadExit,
  FfiRuntime,
  Locker,
  OsLocks,
  Signature,
} from "../types.ts";

/** Larger than `struct stat` and `struct statfs` of any 64-bit system. */
const STRUCT_SIZE = 4096;

/** Returns the {@linkcode OsLocks} of a system with flock(2). */
export function posix(
  runtime: FfiRuntime,
  system: PosixConstants,
  closeOnThreadExit?: CloseOnThreadExit,
): OsLocks {
  const { libc } = system;
  const { flock, lseek } = runtime.bind(libc, {
    flock: { parameters: ["i32", "i32"], result: "i32" },
    lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  });
  const strerror = bindOne(runtime, libc, system.strerror, {
    parameters: ["i32", "buffer", "usize"],
    result: "i32",
  });
  const errno = runtime.errno(libc, system.errnoLocation);
  const struct = new Uint8Array(STRUCT_SIZE);
  const view = new DataView(struct.buffer);

  const createError: CreateError = (syscall, code) => {
    strerror(code, struct, BigInt(STRUCT_SIZE));
    const text = new TextDecoder().decode(
      struct.subarray(0, struct.indexOf(0)),
    );
    return Object.assign(new Error(text), {
      code: errorName(code),
      errno: code,
      syscall,
    });
  };

  /** Returns `false` if busy. Repeats a call that a signal interrupted. */
  function callFlock(fd: number, operation: number): boolean {
    while (flock(fd, operation) !== 0) {
      const code = errno();
      if (code === system.EWOULDBLOCK && operation & LOCK_NB) return false;
      if (code !== system.EINTR) throw createError("flock", code);
    }
    return true;
  }

  const records = recordLocks(runtime, system, errno, createError);
  const flockLocker: Locker = {
    tryLock: (fd, exclusive) =>
      callFlock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB),
    lock: (fd, exclusive) => void callFlock(fd, exclusive ? LOCK_EX : LOCK_SH),
    unlock: (fd) => void callFlock(fd, LOCK_UN),
    upgradeIsAtomic: true,
  };

  let fstat: CFunction | undefined;
  function stat(fd: number): DataView {
    fstat ??= bindStat(runtime, system, FSTAT);
    if (fstat(fd, struct) !== 0) throw createError("fstat", errno());
    return view;
  }

  const inode = (fd: number) => system.inode(stat(fd));

  function bindIsLocal(name: string): (fd: number) => boolean {
    const fstatfs = bindOne(runtime, libc, name, {
      parameters: ["i32", "buffer"],
      result: "i32",
    });
    return (fd) => fstatfs(fd, struct) === 0 && system.isLocal!(view);
  }

  const keyOf = (result: DataView) =>
    `${system.device(result)}:${system.inode(result)}`;

  let statPath: { follow: CFunction; noFollow: CFunction } | undefined;

  function lockKeyAt(path: string, noFollow: boolean): string | null {
    statPath ??= {
      follow: bindStat(runtime, system, STAT),
      noFollow: bindStat(runtime, system, LSTAT),
    };
    const call = noFollow ? statPath.noFollow : statPath.follow;
    if (call(cString(path), struct) === 0) return keyOf(view);
    const code = errno();
    const { ENOENT, ENOTDIR } = constants.errno;
    if (code === ENOENT || code === ENOTDIR) return null;
    throw createError(noFollow ? "lstat" : "stat", code);
  }

  return {
    ...system.linux
      ? {
        ...linux(runtime, libc, records.present, inode, closeOnThreadExit),
        attributes: fileAttributes(runtime, libc, errno, createError),
      }
      : { ...NO_EXTRAS, machineId: () => bootSession(runtime, libc) },
    ...flockLocker,
    locker: ({ name, range }) =>
      name === "flock" ? flockLocker : records.locker(name, range),
    seek(fd, offset, whence) {
      const position = Number(lseek(fd, BigInt(offset), whence));
      if (position < 0) throw createError("lseek", errno());
      return position;
    },
    ...system.fstatfs ? { isLocal: bindIsLocal(system.fstatfs) } : {},
    inode,
    lockKey: (fd) => keyOf(stat(fd)),
    lockKeyAt,
    unlink: unlinkSync,
    setAppend: appendFlag(runtime, system, errno, createError),
    isFile: (fd, { dev, ino }) => keyOf(stat(fd)) === `${dev}:${ino}`,
  };
}

/** Binds a function whose name depends on the system. */
function bindOne(
  runtime: FfiRuntime,
  library: string,
  name: string,
  signature: Signature,
): CFunction {
  return runtime.bind(library, { [name]: signature })[name] as CFunction;
}

/** Binds a form of stat(2), which glibc before 2.33 exports as `__xstat` only. */
function bindStat(
  runtime: FfiRuntime,
  { libc, fstat }: PosixConstants,
  [name, versioned]: readonly [name: string, versioned: string],
): CFunction {
  const file = name === "fstat" ? "i32" : "buffer";
  try {
    return bindOne(runtime, libc, fstat.replace("fstat", name), {
      parameters: [file, "buffer"],
      result: "i32",
    });
  } catch {
    const call = bindOne(runtime, libc, versioned, {
      parameters: ["i32", file, "buffer"],
      result: "i32",
    });
    // bits/stat.h: _STAT_VER_KERNEL, which every 64-bit system accepts.
    return (file, stat) => call(0, file, stat);
  }
}

const FSTAT = ["fstat", "__fxstat"] as const;
const STAT = ["stat", "__xstat"] as const;
const LSTAT = ["lstat", "__lxstat"] as const;

/** The preferred names of numbers that have two: those of flock(2). */
const PREFERRED_NAMES = ["EWOULDBLOCK", "EOPNOTSUPP"];

/** Returns the name of an error number, such as `"EBADF"`. */
function errorName(errno: number): string {
  const names = Object.entries(constants.errno)
    .filter(([, value]) => value === errno)
    .map(([name]) => name);
  return names.find((name) => PREFERRED_NAMES.includes(name)) ?? names[0] ??
    `errno ${errno}`;
}
