/** Constants of Windows, each with its header. */

/** minwinbase.h */
export const LOCKFILE_FAIL_IMMEDIATELY = 1;
/** minwinbase.h */
export const LOCKFILE_EXCLUSIVE_LOCK = 2;

/** handleapi.h: `uv_get_osfhandle` returns it for an invalid descriptor. */
export const INVALID_HANDLE_VALUE = -1n;

/** wdm.h: the class `FileFsDeviceInformation`. */
export const FILE_FS_DEVICE_INFORMATION = 4;
/** wdm.h: the file system is on another machine. */
export const FILE_REMOTE_DEVICE = 0x10;

/** fileapi.h: offsets of the fields of a `BY_HANDLE_FILE_INFORMATION`. */
export const FILE_INFORMATION = {
  volume: 28,
  indexHigh: 44,
  indexLow: 48,
  size: 52,
} as const;

/** minwinbase.h: offset of a field of an `OVERLAPPED`, and its size. */
export const OVERLAPPED = { offset: 16, size: 32 } as const;

/** fileapi.h, remarks of `WriteFile`: the offset that means the end. */
export const END_OF_FILE = -1n;

/** A range of bytes of a file. */
export interface ByteRange {
  readonly start: bigint;
  readonly length: bigint;
}

/**
 * The range that Python's portalocker locks through pywin32, from the start of
 * the file at any position. Its alternative, `msvcrt.locking`, locks the first
 * 64 KiB, so the two conflict.
 */
export const WHOLE_FILE: ByteRange = {
  start: 0n,
  length: 0xffff0000_00000000n,
};

/**
 * Error names that differ from those of libuv. For these calls, error 1
 * (invalid function) means that the file system or the device does not have the
 * function. libuv names it `EISDIR`.
 */
export const ERROR_NAMES: Record<string, Record<number, string>> = {
  LockFileEx: { 1: "ENOTSUP" },
  UnlockFileEx: { 1: "ENOTSUP" },
  SetFilePointerEx: { 1: "ESPIPE", 131: "EINVAL" },
};
