/**
 * Constants of Linux, each with its header.
 *
 * They are equal on every 64-bit architecture that the runtimes support. Others
 * differ between arm64 and x64 (`O_DIRECTORY`, `O_NOFOLLOW`, `O_DIRECT`); those
 * come from `node:fs`.
 */

/** fcntl.h */
export const O_NONBLOCK = 0o4000;
/** fcntl.h */
export const O_CLOEXEC = 0o2000000;
/** fcntl.h */
export const O_PATH = 0o10000000;

/** linux/limits.h */
export const PATH_MAX = 4096;

/** sys/inotify.h: the metadata changed, such as the number of names. */
export const IN_ATTRIB = 0x04;
/** sys/inotify.h: the file was renamed. */
export const IN_MOVE_SELF = 0x800;
/** sys/inotify.h: the file was deleted. */
export const IN_DELETE_SELF = 0x400;
/** sys/inotify.h: a file was closed that was open for writing, or was not. */
export const IN_CLOSE: number = 0x08 | 0x10;
/** sys/inotify.h */
export const IN_Q_OVERFLOW = 0x4000;
/** sys/inotify.h */
export const IN_NONBLOCK: number = O_NONBLOCK;
/** sys/inotify.h */
export const IN_CLOEXEC: number = O_CLOEXEC;

/** sys/inotify.h: offsets of the fields of a `struct inotify_event`. */
export const INOTIFY_EVENT = { wd: 0, mask: 4, length: 12, name: 16 } as const;

/** poll.h */
export const POLLIN = 1;
