/** `LockFileEx` and its company over the handles of descriptors: Windows. */

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
import type { Bytes } from "./constants.ts";

/** Larger than every struct here. */
const ROOM = 64;

/** So many errors in a row cannot all have been cleared by accident. */
const MOST_LOST = 10;

/** The system axis for Windows. */
export function windows(runtime: FfiRuntime): OsLocks {
  const { kernel, handle, lastError, failure } = windowsCalls(runtime);
  const buffer = new Uint8Array(ROOM);
  const view = new DataView(buffer.buffer);

  /**
   * What went wrong, `null` if nothing did. Whatever the runtime does in
   * between may clear the number, as `TlsGetValue` does. Then the call is made
   * again: it would go wrong again, or it does what was to be done.
   */
  function errorOf(call: () => unknown): number | null {
    for (let lost = 0; lost < MOST_LOST; lost++) {
      if (call()) return null;
      const error = lastError();
      if (error !== 0) return error;
    }
    return 0;
  }

  function locker({ start, length }: Bytes): Locker {
    const overlapped = at(start);
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
      throw failure("LockFileEx", error);
    }

    const kind = (exclusive: boolean) =>
      exclusive ? LOCKFILE_EXCLUSIVE_LOCK : 0;
    const { tryLock, unlock } = replaceable<number>({
      push: (fd, exclusive) =>
        push(fd, kind(exclusive) | LOCKFILE_FAIL_IMMEDIATELY),
      pop(fd) {
        const file = handle(fd);
        const error = errorOf(() =>
          kernel.UnlockFileEx(file, 0, ...size, overlapped)
        );
        if (error === null) return true;
        if (error === ERROR_NOT_LOCKED || error === ERROR_LOCK_VIOLATION) {
          return false;
        }
        throw failure("UnlockFileEx", error);
      },
    });
    return {
      tryLock,
      unlock,
      // Only what has no lock of its own can wait for those of others.
      lock(fd, exclusive) {
        if (!tryLock(fd, exclusive)) push(fd, kind(exclusive));
      },
      gapInUpgrade: true,
    };
  }

  /** An `OVERLAPPED` for what begins at an offset. */
  function at(offset: bigint): Uint8Array {
    const overlapped = new Uint8Array(OVERLAPPED.size);
    const view = new DataView(overlapped.buffer);
    view.setBigInt64(OVERLAPPED.offset, offset, true);
    return overlapped;
  }

  /** The volume and the number of the file on it. */
  function fileId(fd: number): { volume: bigint; index: bigint } {
    if (!kernel.GetFileInformationByHandle(handle(fd), buffer)) {
      throw failure("GetFileInformationByHandle", lastError());
    }
    const field = (at: number) => BigInt(view.getUint32(at, true));
    const { volume, indexHigh, indexLow } = FILE_INFORMATION;
    return {
      volume: field(volume),
      index: field(indexHigh) << 32n | field(indexLow),
    };
  }

  const whole = locker(WHOLE_FILE);
  return {
    ...whole,
    locker({ name, range }) {
      if (name !== "flock") {
        throw new Unsupported(
          `the locker "${name}" does not exist on Windows; use "flock"`,
        );
      }
      if (!range) return whole;
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
      if (!moved) throw failure("SetFilePointerEx", lastError());
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
      // libuv 1.49 and 1.50 give the volume's longer number to paths alone.
      return volume === BigInt.asUintN(32, dev) && index === ino;
    },
    append(fd, data) {
      // No runtime has an address for nothing.
      if (data.length === 0) return 0;
      const overlapped = at(END_OF_FILE);
      const { length } = data;
      if (!kernel.WriteFile(handle(fd), data, length, buffer, overlapped)) {
        throw failure("WriteFile", lastError());
      }
      return view.getUint32(0, true);
    },
    followsLinks: true,
    unlink: renameAndUnlink,
    watchClose: () => null,
    wakeWatchers() {},
    holders: () => [],
  };
}
