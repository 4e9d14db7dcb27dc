/** Numbers of Windows, each with its header. */

/** minwinbase.h */
export const LOCKFILE_FAIL_IMMEDIATELY = 1;
/** minwinbase.h */
export const LOCKFILE_EXCLUSIVE_LOCK = 2;

/** handleapi.h: what `uv_get_osfhandle` gives for what is no descriptor. */
export const INVALID_HANDLE_VALUE = -1n;

/** wdm.h: `FileFsDeviceInformation`, and its flag for other machines. */
export const FILE_FS_DEVICE_INFORMATION = 4;
/** wdm.h */
export const FILE_REMOTE_DEVICE = 0x10;

/** Where fields of a `BY_HANDLE_FILE_INFORMATION` begin: fileapi.h. */
export const FILE_INFORMATION = {
  volume: 28,
  indexHigh: 44,
  indexLow: 48,
  size: 52,
} as const;

/** Where fields of an `OVERLAPPED` begin: minwinbase.h. */
export const OVERLAPPED = { offset: 16, size: 32 } as const;

/** fileapi.h, `WriteFile`, remarks: an offset that stands for the end. */
export const END_OF_FILE = -1n;

/** Bytes of a file. */
export interface Bytes {
  readonly start: bigint;
  readonly length: bigint;
}

/**
 * What Python's portalocker locks by way of pywin32, from the start whatever
 * the position. Its other way, `msvcrt.locking`, takes the first 64 KiB: so
 * each keeps the other out.
 */
export const WHOLE_FILE: Bytes = { start: 0n, length: 0xffff0000_00000000n };

/**
 * Names that libuv gives to other things: an invalid function is one that the
 * file system or the device does not have, and a directory only to libuv.
 */
export const NAMES: Record<string, Record<number, string>> = {
  LockFileEx: { 1: "ENOTSUP" },
  UnlockFileEx: { 1: "ENOTSUP" },
  SetFilePointerEx: { 1: "ESPIPE", 131: "EINVAL" },
};
