/** `LockFileEx` and related calls on the handles of descriptors: Windows. */

import { hostname } from "node:os";
import {
  ERROR_LOCK_VIOLATION,
  ERROR_NOT_LOCKED,
  replaceable,
} from "./stacked_locks.ts";
import { Unsupported } from "../types.ts";
import type { FfiRuntime, Locker, OsLocks } from "../types.ts";
import { windowsCalls } from "./calls.ts";
import { renameAndUnlink } from "./unlink.ts";
import {
  END_OF_FILE,
  FILE_FS_DEVICE_INFORMATION,
  FILE_INFORMATION,
  FILE_REMOTE_DEVICE,
  LOCKFILE_EXCLUSIVE_LOCK,
  LOCKFILE_FAIL_IMMEDIATELY,
  OVERLAPPED,
  WHOLE_FILE,
} from "./constants.ts";
import type { ByteRange } from "./constants.ts";

/** Larger than any struct in this file. */
const STRUCT_SIZE = 64;

/** How often a failed call without an error number is repeated. */
const MAX_CLEARED_ERRORS = 10;

/** Returns the {@linkcode OsLocks} of Windows. */
export function windows(runtime: FfiRuntime): OsLocks {
  const { kernel, handle, lastError, createError } = windowsCalls(runtime);
  const buffer = new Uint8Array(STRUCT_SIZE);
  const view = new DataView(buffer.buffer);

  /**
   * Calls a function. Returns its error number, or `null` if it succeeds.
   *
   * Code of the runtime that runs after the call may clear the number, as
   * `TlsGetValue` does. The call is then repeated: it fails again, or it
   * succeeds.
   */
  function errorOf(call: () => unknown): number | null {
    for (let cleared = 0; cleared < MAX_CLEARED_ERRORS; cleared++) {
      if (call()) return null;
      const error = lastError();
      if (error !== 0) return error;
    }
    return 0;
  }

  function locker({ start, length }: ByteRange): Locker {
    const overlapped = overlappedAt(start);
    const size = [
      Number(BigInt.asIntN(32, length)),
      Number(BigInt.asIntN(32, length >> 32n)),
    ];

    function push(fd: number, flags: number): boolean {
      const file = handle(fd);
      const error = errorOf(() =>
        kernel.LockFileEx(file, flags, 0, ...size, overlapped)
      );
      if (error === null) return true;
      if (error === ERROR_LOCK_VIOLATION) return false;
      throw createError("LockFileEx", error);
    }

    const lockFlags = (exclusive: boolean) =>
      exclusive ? LOCKFILE_EXCLUSIVE_LOCK : 0;
    const { tryLock, unlock } = replaceable<number>({
      push: (fd, exclusive) =>
        push(fd, lockFlags(exclusive) | LOCKFILE_FAIL_IMMEDIATELY),
      pop(fd) {
        const file = handle(fd);
        const error = errorOf(() =>
          kernel.UnlockFileEx(file, 0, ...size, overlapped)
        );
        if (error === null) return true;
        if (error === ERROR_NOT_LOCKED || error === ERROR_LOCK_VIOLATION) {
          return false;
        }
        throw createError("UnlockFileEx", error);
      },
    });
    return {
      tryLock,
      unlock,
      lock(fd, exclusive) {
        // A failed tryLock() leaves the file without a lock. A blocking call
        // that held one would wait for itself.
        if (!tryLock(fd, exclusive)) push(fd, lockFlags(exclusive));
      },
      upgradeIsAtomic: false,
    };
  }

  /** Returns an `OVERLAPPED` with an offset. */
  function overlappedAt(offset: bigint): Uint8Array {
    const overlapped = new Uint8Array(OVERLAPPED.size);
    const view = new DataView(overlapped.buffer);
    view.setBigInt64(OVERLAPPED.offset, offset, true);
    return overlapped;
  }

  /** Returns the number of the volume, and that of the file on it. */
  function fileId(fd: number): { volume: bigint; index: bigint } {
    if (!kernel.GetFileInformationByHandle(handle(fd), buffer)) {
      throw createError("GetFileInformationByHandle", lastError());
    }
    const field = (at: number) => BigInt(view.getUint32(at, true));
    const { volume, indexHigh, indexLow } = FILE_INFORMATION;
    return {
      volume: field(volume),
      index: field(indexHigh) << 32n | field(indexLow),
    };
  }

  const wholeFile = locker(WHOLE_FILE);
  return {
    ...wholeFile,
    locker({ name, range }) {
      if (name !== "flock") {
        throw new Unsupported(
          `the locker "${name}" does not exist on Windows; use "flock"`,
        );
      }
      if (!range) return wholeFile;
      const { start, length } = range;
      return locker({ start: BigInt(start), length: BigInt(length) });
    },
    seek(fd, offset, whence) {
      const moved = kernel.SetFilePointerEx(
        handle(fd),
        BigInt(offset),
        buffer,
        whence,
      );
      if (!moved) throw createError("SetFilePointerEx", lastError());
      return Number(view.getBigInt64(0, true));
    },
    isLocal(fd) {
      const status = kernel.NtQueryVolumeInformationFile(
        handle(fd),
        buffer.subarray(0, 16),
        buffer.subarray(16),
        8,
        FILE_FS_DEVICE_INFORMATION,
      );
      return status === 0 && !(view.getUint32(20, true) & FILE_REMOTE_DEVICE);
    },
    lockKey(fd) {
      const { volume, index } = fileId(fd);
      return `${volume}:${index}`;
    },
    isFile(fd, { dev, ino }) {
      const { volume, index } = fileId(fd);
      // For paths, libuv 1.49 and 1.50 return the 64-bit number of the volume.
      return volume === BigInt.asUintN(32, dev) && index === ino;
    },
    append(fd, data) {
      // The runtimes do not pass an address for an empty array.
      if (data.length === 0) return 0;
      const overlapped = overlappedAt(END_OF_FILE);
      const { length } = data;
      if (!kernel.WriteFile(handle(fd), data, length, buffer, overlapped)) {
        throw createError("WriteFile", lastError());
      }
      return view.getUint32(0, true);
    },
    followsLinks: true,
    unlink: renameAndUnlink,
    watchClose: () => null,
    watchName: () => null,
    wakeWatchers() {},
    holders: () => null,
    // Windows does not have an id of the boot. The machine that has the file
    // manages the locks of LockFileEx, also on network drives.
    machineId: () => hostname() || null,
    isLocked: () => null,
  };
}
