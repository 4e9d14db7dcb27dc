/** fcntl(2): record locks, which lock bytes of a file, and `O_APPEND`. */

import { littleEndian } from "../runtime/memory.ts";
import { F_GETFL, F_SETFL } from "./constants.ts";
import type { PosixConstants } from "./constants.ts";
import type {
  CFunction,
  CType,
  CValue,
  FfiRuntime,
  Locker,
  LockerSettings,
  SystemError,
} from "../types.ts";

/** Larger than `struct flock` of any 64-bit system. */
const STRUCT_SIZE = 64;

/** Creates the error of a call from its errno. */
export type CreateError = (syscall: string, code: number) => SystemError;

/** The record locks of a system. */
export interface RecordLocks {
  locker(name: "ofd" | "lockf", range: LockerSettings["range"]): Locker;
  /**
   * Returns whether any process, this one included, holds record locks on the
   * file. Locks of the open file description itself do not count.
   */
  present(fd: number): boolean;
}

/** Returns the record locks of a system. Binds fcntl(2) at the first use. */
export function recordLocks(
  runtime: FfiRuntime,
  system: PosixConstants,
  errno: () => number,
  createError: CreateError,
): RecordLocks {
  const { recordLocks: constants } = system;
  const { offsets, F_RDLCK, F_WRLCK, F_UNLCK } = constants;
  const struct = new Uint8Array(STRUCT_SIZE);
  const view = new DataView(struct.buffer);
  let fcntl: Fcntl | undefined;

  /** Returns 0 or the errno. Repeats a call that a signal interrupted. */
  function call(
    fd: number,
    command: number,
    type: number,
    range: LockerSettings["range"],
  ): number {
    fcntl ??= bindFcntl(runtime, system, "buffer");
    for (;;) {
      // All fields: l_whence is SEEK_SET, and l_pid must be 0 for OFD locks. A
      // length of 0 means up to the end of the file, however large it grows.
      struct.fill(0);
      view.setInt16(offsets.type, type, littleEndian);
      const { start = 0, length = 0 } = range ?? {};
      view.setBigInt64(offsets.start, BigInt(start), littleEndian);
      view.setBigInt64(offsets.length, BigInt(length), littleEndian);
      if (fcntl(fd, command, struct) !== -1) return 0;
      const code = errno();
      if (code !== system.EINTR) return code;
    }
  }

  const lockType = (exclusive: boolean) => exclusive ? F_WRLCK : F_RDLCK;

  return {
    locker(name, range) {
      const { set, wait } = constants[name];
      const throwUnlessZero = (code: number) => {
        if (code !== 0) throw createError("fcntl", code);
      };
      return {
        tryLock(fd, exclusive) {
          const code = call(fd, set, lockType(exclusive), range);
          if (code === system.EWOULDBLOCK || code === system.EACCES) {
            return false;
          }
          throwUnlessZero(code);
          return true;
        },
        lock: (fd, exclusive) =>
          throwUnlessZero(call(fd, wait, lockType(exclusive), range)),
        unlock: (fd) => throwUnlessZero(call(fd, set, F_UNLCK, range)),
        // fcntl(2) keeps the old lock until it has the new one.
        upgradeIsAtomic: true,
        ...name === "lockf" && runtime.copiesDescriptors
          ? { endsWithAsyncCalls: true }
          : {},
      };
    },
    present(fd) {
      // If the call fails, there may be some.
      return call(fd, constants.ofd.get, F_WRLCK, undefined) !== 0 ||
        view.getInt16(offsets.type, littleEndian) !== F_UNLCK;
    },
  };
}

/**
 * Returns a function that sets or clears `O_APPEND` of an open file. Processes
 * that inherited the descriptor share the flag.
 */
export function appendFlag(
  runtime: FfiRuntime,
  system: PosixConstants,
  errno: () => number,
  createError: CreateError,
): (fd: number, append: boolean) => void {
  const { O_APPEND } = system;
  let fcntl: Fcntl | undefined;
  return (fd, append) => {
    fcntl ??= bindFcntl(runtime, system, "i64");
    const flags = fcntl(fd, F_GETFL, 0n);
    const changed = append ? flags | O_APPEND : flags & ~O_APPEND;
    if (flags === -1 || fcntl(fd, F_SETFL, BigInt(changed)) === -1) {
      throw createError("fcntl", errno());
    }
  };
}

type Fcntl = (fd: number, command: number, argument: CValue) => number;

/** Binds `fcntl`, which is variadic: see `variadicPadding`. */
function bindFcntl(
  runtime: FfiRuntime,
  { libc, variadicPadding }: PosixConstants,
  type: CType,
): Fcntl {
  const padding: CValue[] = Array(variadicPadding).fill(0n);
  const types = padding.map(() => "i64" as const);
  const { fcntl }: Record<"fcntl", CFunction> = runtime.bind(libc, {
    fcntl: { parameters: ["i32", "i32", ...types, type], result: "i32" },
  });
  return (fd, command, argument) =>
    Number(fcntl(fd, command, ...padding, argument));
}
