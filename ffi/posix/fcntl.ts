/** Record locks, which fcntl(2) takes on bytes of a file. */

import { littleEndian } from "./constants.ts";
import type { PosixConstants } from "./constants.ts";
import type {
  CFunction,
  CValue,
  FfiRuntime,
  Locker,
  LockerSettings,
  SystemError,
} from "../types.ts";

/** Larger than `struct flock` of any 64-bit system. */
const STRUCT_SIZE = 64;

/** Makes an error of the number that a call has left. */
export type Failure = (syscall: string, code: number) => SystemError;

/** What a system does with record locks. */
export interface RecordLocks {
  locker(name: "ofd" | "lockf", range: LockerSettings["range"]): Locker;
  /**
   * Whether anybody, be it this process, has record locks on the file, but for
   * those that belong to the open file of the descriptor itself.
   */
  present(fd: number): boolean;
}

/** Binds fcntl(2) when it is needed. */
export function recordLocks(
  runtime: FfiRuntime,
  system: PosixConstants,
  errno: () => number,
  failure: Failure,
): RecordLocks {
  const { recordLocks: records } = system;
  const { offsets, F_RDLCK, F_WRLCK, F_UNLCK } = records;
  const struct = new Uint8Array(STRUCT_SIZE);
  const view = new DataView(struct.buffer);
  let fcntl: ((fd: number, command: number) => number) | undefined;

  /** Returns the errno, or 0; a signal's interruption is not an answer. */
  function call(
    fd: number,
    command: number,
    type: number,
    range: LockerSettings["range"],
  ): number {
    fcntl ??= bindFcntl(runtime, system, struct);
    for (;;) {
      // The whole of it: l_whence is SEEK_SET, and l_pid must be 0 for OFD. A
      // length of 0 goes to the end of the file, wherever that will be.
      struct.fill(0);
      view.setInt16(offsets.type, type, littleEndian);
      const { start = 0, length = 0 } = range ?? {};
      view.setBigInt64(offsets.start, BigInt(start), littleEndian);
      view.setBigInt64(offsets.length, BigInt(length), littleEndian);
      if (fcntl(fd, command) !== -1) return 0;
      const code = errno();
      if (code !== system.EINTR) return code;
    }
  }

  const kind = (exclusive: boolean) => exclusive ? F_WRLCK : F_RDLCK;

  return {
    locker(name, range) {
      const { set, wait } = records[name];
      const must = (code: number) => {
        if (code !== 0) throw failure("fcntl", code);
      };
      return {
        tryLock(fd, exclusive) {
          const code = call(fd, set, kind(exclusive), range);
          if (code === system.EWOULDBLOCK || code === system.EACCES) {
            return false;
          }
          must(code);
          return true;
        },
        lock: (fd, exclusive) => must(call(fd, wait, kind(exclusive), range)),
        unlock: (fd) => must(call(fd, set, F_UNLCK, range)),
      };
    },
    present(fd) {
      // A kernel that cannot tell may have some.
      return call(fd, records.ofd.get, F_WRLCK, undefined) !== 0 ||
        view.getInt16(offsets.type, littleEndian) !== F_UNLCK;
    },
  };
}

/** `fcntl` is variadic: {@linkcode PosixConstants.variadicPadding}. */
function bindFcntl(
  runtime: FfiRuntime,
  { libc, variadicPadding: registersToFill }: PosixConstants,
  struct: Uint8Array,
): (fd: number, command: number) => number {
  const fill: CValue[] = Array(registersToFill).fill(0n);
  const types = fill.map(() => "i64" as const);
  const { fcntl }: Record<"fcntl", CFunction> = runtime.bind(libc, {
    fcntl: { parameters: ["i32", "i32", ...types, "buffer"], result: "i32" },
  });
  return (fd, command) => Number(fcntl(fd, command, ...fill, struct));
}
