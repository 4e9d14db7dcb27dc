/**
 * The faces behind which runtimes and operating systems are told apart.
 *
 * `src/` sees {@linkcode Platform} and nothing else. A {@linkcode FfiRuntime} calls
 * C, a {@linkcode OsLocks} locks descriptors; neither knows the other's other
 * half.
 */

/** A parameter or a result of a C function. `usize` is a `size_t`. */
export type CType = "i32" | "i64" | "usize" | "buffer";

/** The type of one C function, without variadic arguments. */
export interface Signature {
  parameters: readonly CType[];
  result: "i32" | "i64";
}

/** What a bound C function takes: `i64` and `usize` are bigints. */
export type CValue = number | bigint | Uint8Array;

/** A bound C function: `i32` comes back as a number, `i64` as either. */
export type CFunction = (...values: CValue[]) => number | bigint;

/** The runtime axis: how this runtime calls C. Knows no operating system. */
export interface FfiRuntime {
  /** Binds functions of a library; throws when one is missing. */
  bind<Name extends string>(
    library: string,
    functions: Record<Name, Signature>,
  ): Record<Name, CFunction>;

  /**
   * Makes a function that reads `errno` as the last bound call left it.
   * `locator` is the C function that returns its address: one a thread, so it
   * is asked for once.
   */
  errno(library: string, locator: string): () => number;

  /**
   * Hands over what arrives at a pipe, on the event loop and without keeping
   * the process alive. Only where the runtime can do so without a thread.
   */
  readStream?(pipe: number, arrived: (bytes: Uint8Array) => void): void;

  /**
   * Settles when `read(2)` of a single byte returns, whatever it says. Parks a
   * thread and keeps the process alive until then. Only where {@linkcode
   * Runtime.stream} is missing and a parked thread can do no harm.
   */
  waitReadable?(library: string, fd: number): Promise<void>;
}

/** Which locks to take, and on what of the file. */
export interface LockerSettings {
  /**
   * flock(2), or fcntl(2)'s record locks: those that belong to the open file
   * (`"ofd"`) or those that belong to the process (`"lockf"`).
   */
  readonly name: "flock" | "ofd" | "lockf";
  /**
   * Bytes of the file, for record locks and on Windows; without it, and for
   * flock(2), the whole file.
   */
  readonly range?: { readonly start: number; readonly length: number };
}

/** One way to lock descriptors. */
export interface Locker {
  /** One attempt. `false` when another holder excludes it. */
  tryLock(fd: number, exclusive: boolean): boolean;
  /** Blocks the calling thread until the lock is held. */
  lock(fd: number, exclusive: boolean): void;
  /** Unlocking what is not locked is no error. */
  unlock(fd: number): void;
  /** {@linkcode Lockable.gapInUpgrade} */
  readonly gapInUpgrade?: true;
}

/**
 * The system axis: what an operating system does with a descriptor. It is
 * itself the {@linkcode Locker} of flock(2).
 */
export interface OsLocks extends Locker {
  /** The way to lock that the settings name. */
  locker(settings: LockerSettings): Locker;
  /** Moves the position; `whence` is 0 start, 1 current, 2 end. Never waits. */
  seek(fd: number, offset: number, whence: number): number;
  /** Whether the file sits on a file system that answers from this machine. */
  isLocal(fd: number): boolean;
  /**
   * The inode that the system itself sees behind the descriptor. Missing where
   * the runtime itself tells what the system calls it.
   */
  inode?(fd: number): bigint;
  /** {@linkcode Lockable.lockKey} */
  lockKey(fd: number): string;
  /** Whether what `node:fs` knows of a path is this file. */
  isFile(fd: number, name: { dev: bigint; ino: bigint }): boolean;
  /**
   * Writes at the end, perhaps less than everything. Where a file that the
   * system appends to by itself could be neither locked nor cut off.
   */
  append?(fd: number, data: Uint8Array): number;
  /** Where there is no `O_NOFOLLOW`. */
  readonly followsLinks?: true;
  /** {@linkcode PlatformFile.unlink} */
  unlink(path: string): void;
  /** {@linkcode Lockable.watchClose} */
  watchClose(fd: number, closed: () => void): Watch | null;
  /** {@linkcode Lockable.wakeWatchers} */
  wakeWatchers(fd: number): void;
  /** {@linkcode Platform.holders} */
  holders: Platform["holders"];
}

/** How a file is opened. */
export interface OpenMode {
  readonly read: boolean;
  readonly write: boolean;
  readonly append: boolean;
  readonly create: boolean;
  /** With `create`: the file must not exist yet. */
  readonly exclusive: boolean;
  /** Fails with `ELOOP` if the path is a symbolic link. */
  readonly noFollow?: boolean;
}

/** Something that can be locked. Errors are {@linkcode SystemError}s. */
export interface Lockable {
  /** One attempt. `false` when another holder excludes it. */
  tryLock(exclusive: boolean): boolean;
  /** Blocks the calling thread until the lock is held. */
  lock(exclusive: boolean): void;
  /** Unlocking what is not locked is no error. */
  unlock(): void;
  /** Whether somebody may come in when a shared lock becomes exclusive. */
  readonly gapInUpgrade?: true;
  /**
   * Equal for equal files, however they were opened, that are locked in the
   * same way; `null` if unknown.
   */
  lockKey(): string | null;
  /**
   * Calls back after any process has closed the file, which releases its lock:
   * perhaps a moment before the lock is gone, perhaps once for several closes.
   * `null` where nobody tells.
   */
  watchClose(closed: () => void): Watch | null;
  /**
   * Makes every {@linkcode Lockable.watchClose} on the file call back, unless that
   * could cost somebody a lock.
   */
  wakeWatchers(): void;
}

/** The way to be called back. Nothing is missed from its start to its end. */
export interface Watch {
  /** Lets the event loop call back, and keeps it alive until the end. */
  listen(): void;
  /** Blocks the thread until something happened to any file that is watched. */
  block(milliseconds: number): void;
  end(): void;
}

/** A process that holds a lock. */
export interface LockHolder {
  /** Number of the process. */
  readonly pid: number;
  /** Name of its program, where the system tells. */
  readonly command?: string;
  /** Whether others may hold the lock beside it. */
  readonly mode: "exclusive" | "shared";
}

/** What every runtime can tell of an open file. Times may be unknown. */
export interface FileInfo {
  /** Whether it is a regular file. */
  isFile: boolean;
  /** Whether it is a directory. */
  isDirectory: boolean;
  /** Size in bytes. */
  size: number;
  /** Time of the last modification. */
  mtime: Date | null;
  /** Time of the last access. */
  atime: Date | null;
  /** Time of creation. */
  birthtime: Date | null;
  /** Device that holds the file. */
  dev: number;
  /** Inode number. */
  ino: number | null;
  /** Type and permission bits. */
  mode: number | null;
  /** Number of hard links. */
  nlink: number | null;
  /** User id of the owner. */
  uid: number | null;
  /** Group id of the owner. */
  gid: number | null;
}

/** An open file. Closing it twice is the caller's mistake. */
export interface PlatformFile extends Lockable {
  /** The system's descriptor, `null` where the runtime hides it. */
  readonly fd: number | null;
  /** Reads at the position; 0 at the end of the file. */
  read(into: Uint8Array): Promise<number>;
  readSync(into: Uint8Array): number;
  /** Writes at the position, perhaps less than everything. */
  write(data: Uint8Array): Promise<number>;
  writeSync(data: Uint8Array): number;
  /** Moves the position; `whence` is 0 start, 1 current, 2 end. Never waits. */
  seek(offset: number, whence: number): number;
  truncate(length: number): Promise<void>;
  truncateSync(length: number): void;
  /** Hands the content to the disk; `dataOnly` leaves out times and the like. */
  sync(dataOnly: boolean): Promise<void>;
  syncSync(dataOnly: boolean): void;
  stat(): Promise<FileInfo>;
  statSync(): FileInfo;
  /** Whether a path is a name of this file, and no link to it. */
  isStillAt(path: string): boolean;
  /** Removes a name of this file at once, whoever has it open. */
  unlink(path: string): void;
  /** Closes; a promise only where closing may have to wait. */
  close(): void | Promise<void>;
  closeSync(): void;
}

/** A file as low-level callers name it: a descriptor, or an object over one. */
export type FileArgument =
  | number
  | { readonly fd: number }
  | SelfLockingFile;

/** A file that brings its own locking, as `Deno.FsFile` does. */
export interface SelfLockingFile {
  /** Locks, blocking the thread. */
  lockSync(exclusive?: boolean): void;
  /** One attempt, `false` when somebody else holds the lock. */
  tryLockSync(exclusive?: boolean): boolean;
  /** Unlocks. */
  unlockSync(): void;
}

/** What `src/` knows of the machine that it runs on. */
export interface Platform {
  /**
   * Opens a file without truncating it. Returns a promise only where opening
   * may have to wait; errors are the runtime's own. Without `locker` the file
   * is locked by flock(2).
   */
  open(
    path: string,
    mode: OpenMode,
    creationMode: number,
    locker?: LockerSettings,
  ): PlatformFile | Promise<PlatformFile>;
  openSync(
    path: string,
    mode: OpenMode,
    creationMode: number,
    locker?: LockerSettings,
  ): PlatformFile;
  /**
   * Whether a directory is known to lie on a file system of this machine, which
   * answers in microseconds. Known is what something was opened in.
   */
  isLocalDirectory(directory: string): boolean;
  /** A descriptor that the caller opened, once proven to be the system's. */
  fromFd(fd: number): Lockable;
  /**
   * Who holds locks on a file, given by path or descriptor; empty where the
   * system cannot tell. `search` takes its time to find even those whom the
   * system does not name at once. With `locker` only those are listed whose
   * locks such a lock could meet.
   */
  holders(
    file: string | number,
    search: boolean,
    locker?: LockerSettings,
  ): LockHolder[];
}

/** What the system said: name, number and words of its error. */
export interface SystemError extends Error {
  /** Name of the error, such as `"EBADF"`. */
  code: string;
  /** Number of the error as in errno(3): positive. */
  errno: number;
  /** The call that failed, such as `"flock"`. */
  syscall: string;
}

/** Thrown where nothing can lock. The message says what to pass or install. */
export class Unsupported extends Error {
  override name = "Unsupported";
}

/**
 * Returns the name that the system or the runtime gave to an error, such as
 * `"ENOENT"`, or `undefined` if it has none. Anything can be thrown.
 */
export function errorCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}
