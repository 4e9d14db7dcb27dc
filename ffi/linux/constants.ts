/**
 * Numbers of Linux alone, each with its header. They are the same on every
 * architecture of 64 bits that runtimes run on; arm64 and x64 differ in others
 * (`O_DIRECTORY`, `O_NOFOLLOW`, `O_DIRECT`), which `node:fs` knows.
 */

/** fcntl.h */
export const O_NONBLOCK = 0o4000;
/** fcntl.h */
export const O_CLOEXEC = 0o2000000;
/** fcntl.h */
export const O_PATH = 0o10000000;

/** sys/inotify.h: closed, whether it was open for writing or not. */
export const IN_CLOSE: number = 0x08 | 0x10;
/** sys/inotify.h */
export const IN_Q_OVERFLOW = 0x4000;
/** sys/inotify.h */
export const IN_NONBLOCK: number = O_NONBLOCK;
/** sys/inotify.h */
export const IN_CLOEXEC: number = O_CLOEXEC;

/** Where fields of a `struct inotify_event` begin: sys/inotify.h. */
export const INOTIFY_EVENT = { wd: 0, mask: 4, length: 12, name: 16 } as const;

/** poll.h */
export const POLLIN = 1;
