/**
 * The interfaces between the library, the runtimes and the operating systems.
 *
 * `src/` calls the system only through {@linkcode Platform}. An
 * {@linkcode FfiRuntime} calls C functions, and an {@linkcode OsLocks} locks
 * descriptors with them. Neither depends on an implementation of the other.
 */

import { constants } from "node:os";

/** The type of a parameter or a result of a C function. `usize` is `size_t`. */
export type CType = "i32" | "i64" | "usize" | "buffer";

/** The type of one C function, without variadic arguments. */
export interface Signature {
  parameters: readonly CType[];
  result: "i32" | "i64";
}

/** An argument of a bound C function. `i64` and `usize` take bigints. */
export type CValue = number | bigint | Uint8Array;

/**
 * A bound C function. It returns a number for `i32`, and a number or a bigint
 * for `i64`.
 */
export type CFunction = (...values: CValue[]) => number | bigint;

/** How a runtime calls C. Independent of the operating system. */
export interface FfiRuntime {
  /** What calls C, such as `"node:ffi"`. */
  readonly name: string;

  /**
   * Binds functions of a library.
   *
   * @throws If the library or one of the functions does not exist.
   */
  bind<Name extends string>(
    library: string,
    functions: Record<Name, Signature>,
  ): Record<Name, CFunction>;

  /**
   * Returns a function that reads `errno` as the last bound call left it.
   *
   * `locator` is the C function that returns the address of `errno`. The
   * address is constant for a thread, so `locator` is called once.
   */
  errno(library: string, locator: string): () => number;

  /**
   * Set if the runtime copies a descriptor for each asynchronous call of
   * `node:fs`, and closes the copy. Any close releases the record locks of a
   * process, as fcntl(2) says.
   */
  readonly copiesDescriptors?: true;

  /**
   * Set if a file that `node:fs` opens in a worker is closed when the worker
   * ends, and `node:fs` needs no permission for /proc that FFI does not need.
   */
  readonly closesFilesOfWorkers?: true;

  /**
   * Passes the bytes that arrive at a pipe to `arrived`, on the event loop and
   * without keeping the process alive. Absent if the runtime needs a thread
   * for that.
   */
  readStream?(pipe: number, arrived: (bytes: Uint8Array) => void): void;

  /**
   * Like {@linkcode FfiRuntime.readStream}, for a descriptor of any type, which
   * `open` opens. If this worker is terminated, whenever that is, the runtime
   * closes the descriptor.
   *
   * @returns The descriptor, or -1 if `open` fails or the runtime cannot.
   */
  openStream?(open: () => number, arrived: (bytes: Uint8Array) => void): number;

  /**
   * Resolves when `read(2)` of a single byte returns, with success or with an
   * error. Blocks a pool thread and keeps the process alive until then. Absent
   * if {@linkcode FfiRuntime.readStream} exists, or if a blocked pool thread
   * could delay or outlive other workers.
   */
  waitReadable?(library: string, fd: number): Promise<void>;
}

/** Which kind of lock to use, and on which part of the file. */
export interface LockerSettings {
  /**
   * The kind of lock: flock(2), or a record lock of fcntl(2) that belongs to
   * the open file description (`"ofd"`) or to the process (`"lockf"`).
   */
  readonly name: "flock" | "ofd" | "lockf";
  /**
   * The bytes to lock, for record locks and on Windows. flock(2) always locks
   * the whole file.
   *
   * @default The whole file
   */
  readonly range?: { readonly start: number; readonly length: number };
}

/** One way to lock descriptors. */
export interface Locker {
  /** Attempts once. Returns `false` if another holder excludes the lock. */
  tryLock(fd: number, exclusive: boolean): boolean;
  /** Blocks the calling thread until it holds the lock. */
  lock(fd: number, exclusive: boolean): void;
  /** Unlocks. Does nothing if the descriptor is not locked. */
  unlock(fd: number): void;
  /** See {@linkcode Lockable.upgradeIsAtomic}. */
  readonly upgradeIsAtomic: boolean;
  /** Set if an asynchronous call of `node:fs` on the file releases the lock. */
  readonly endsWithAsyncCalls?: true;
}

/**
 * What an operating system does with descriptors. It is itself the
 * {@linkcode Locker} of flock(2).
 */
export interface OsLocks extends Locker {
  /**
   * Returns the {@linkcode Locker} for the settings.
   *
   * @throws {Unsupported} If the system does not have such locks.
   */
  locker(settings: LockerSettings): Locker;
  /**
   * Moves the position without blocking. `whence` is 0 for the start, 1 for
   * the current position, and 2 for the end.
   */
  seek(fd: number, offset: number, whence: number): number;
  /** Absent if only {@linkcode OsLocks.isLocal} finds out. */
  readonly localPaths?: LocalPaths;
  /**
   * Returns whether the file is on a file system of this machine. Asks the file
   * system, which may block. Absent with {@linkcode OsLocks.localPaths}.
   */
  isLocal?(fd: number): boolean;
  /**
   * Returns the inode that the system sees behind the descriptor. Absent if
   * the descriptors of `node:fs` do not need to be verified.
   */
  inode?(fd: number): bigint;
  /** Returns a key that is equal for equal files. */
  lockKey(fd: number): string;
  /**
   * Returns the {@linkcode OsLocks.lockKey} of the file to which a path leads,
   * or `null`. Takes a tenth of the time of `node:fs`, in which a waiter that
   * has just been woken would keep others waiting. May be absent.
   */
  lockKeyAt?(path: string, noFollow: boolean): string | null;
  /**
   * Returns whether the descriptor has a lock of this kind, or `null` if the
   * system does not report it.
   */
  isLocked(fd: number, locker: LockerSettings["name"]): boolean | null;
  /** Returns whether the `node:fs` stats of a path describe this file. */
  isFile(fd: number, name: { dev: bigint; ino: bigint }): boolean;
  /**
   * Writes at the end, and returns how many bytes it wrote. Present if a file
   * that was opened for appending could be neither locked nor truncated.
   */
  append?(fd: number, data: Uint8Array): number;
  /**
   * Sets or clears `O_APPEND` of an open file. Absent if files are not opened
   * with it.
   */
  setAppend?(fd: number, append: boolean): void;
  /** Set if the system does not have `O_NOFOLLOW`. */
  readonly followsLinks?: true;
  /** See {@linkcode PlatformFile.unlink}. */
  unlink(path: string): void;
  /** See {@linkcode Lockable.watchClose}. */
  watchClose(fd: number, onClose: () => void): Watch | null;
  /** See {@linkcode PlatformFile.watchName}. */
  watchName(fd: number, onChange: () => void): (() => void) | null;
  /** See {@linkcode Lockable.wakeWatchers}. */
  wakeWatchers(fd: number): void;
  /** See {@linkcode Platform.holders}. */
  holders: Platform["holders"];
  /** See {@linkcode Platform.lockStates}. */
  readonly lockStates?: NonNullable<Platform["lockStates"]>;
  /** See {@linkcode Platform.machineId}. */
  machineId: Platform["machineId"];
  /** See {@linkcode Platform.attributes}. */
  readonly attributes?: FileAttributes;
  /** See {@linkcode Platform.readProcFile}. */
  readProcFile?(path: string): string | undefined;
}

/**
 * Which paths are on file systems of this machine, which answer in
 * microseconds. Its methods do not block, whatever the file systems do.
 */
export interface LocalPaths {
  /** Returns whether the file that open(2) would find is known to be local. */
  hasFile(path: string, mode: Pick<OpenMode, "exclusive">): boolean;
  /** Returns whether a directory is known to be local. */
  hasDirectory(path: string): boolean;
  /**
   * Remembers a file that turned out to be local. Absent if every local path is
   * known before.
   */
  remember?(path: string, mode: OpenMode): void;
}

/**
 * The extended attributes of files, as in xattr(7). Access lists are among
 * them. Blocks the thread, and throws {@linkcode SystemError}s.
 */
export interface FileAttributes {
  /** Returns the names. Does not follow symbolic links. */
  list(path: string): string[];
  /** Returns a value, or `null`. Does not follow symbolic links. */
  get(file: string | number, name: string): Uint8Array | null;
  /** Adds or replaces an attribute. */
  set(fd: number, name: string, value: Uint8Array): void;
  /** Removes an attribute. */
  remove(fd: number, name: string): void;
}

/**
 * Makes the system close a descriptor when the calling thread ends. Returns the
 * descriptor of the file afterwards, and the function that closes it.
 *
 * @throws {SystemError} `EMFILE` if the system cannot. The descriptor is
 * unchanged then.
 */
export type CloseOnThreadExit = (fd: number) => {
  readonly fd: number;
  readonly close: () => void;
};

/** How a file is opened. */
export interface OpenMode {
  readonly read: boolean;
  readonly write: boolean;
  readonly append: boolean;
  readonly create: boolean;
  /** With `create`: fails if the file exists. */
  readonly exclusive: boolean;
  /** Fails with `ELOOP` if the path is a symbolic link. */
  readonly noFollow?: boolean;
}

/** Which file is locked by which means. */
export interface LockIdentity {
  /** Equal for equal files, independent of how they were opened. */
  readonly file: string;
  /** The open file: its descriptor, or its `Deno.FsFile`. */
  readonly open: unknown;
  readonly locker: LockerSettings;
}

/** The {@linkcode LockerSettings} of flock(2). */
export const FLOCK: LockerSettings = { name: "flock" };

/** A file that can be locked. Its methods throw {@linkcode SystemError}s. */
export interface Lockable {
  /** Attempts once. Returns `false` if another holder excludes the lock. */
  tryLock(exclusive: boolean): boolean;
  /** Blocks the calling thread until it holds the lock. */
  lock(exclusive: boolean): void;
  /** Unlocks. Does nothing if the file is not locked. */
  unlock(): void;
  /**
   * Whether {@linkcode Lockable.tryLock} upgrades a shared lock to an exclusive
   * one without a gap in which another process could acquire the lock.
   */
  readonly upgradeIsAtomic: boolean;
  /**
   * Returns a key that is equal for equal files that are locked in the same
   * way, independent of how they were opened. Returns `null` if the file
   * cannot be identified.
   */
  lockKey(): string | null;
  /**
   * Returns what decides which locks conflict with those of this file, or
   * `null` if the file cannot be identified.
   */
  identity(): LockIdentity | null;
  /** Whether it is locked, or `null` if the system does not report it. */
  isLocked(): boolean | null;
  /**
   * Calls `onClose` after any process closed the file, which releases its
   * lock. The call may come a moment before the lock is released, and one call
   * may stand for several closes.
   *
   * @returns `null` if the system does not report closes.
   */
  watchClose(onClose: () => void): Watch | null;
  /**
   * Triggers each {@linkcode Lockable.watchClose} on the file, unless that
   * could release a record lock of this process.
   */
  wakeWatchers(): void;
}

/**
 * A running {@linkcode Lockable.watchClose}. It misses no close until its end.
 */
export interface Watch {
  /** Lets the event loop run the callback, and keeps it alive until the end. */
  listen(): void;
  /** Blocks the thread until an event on any watched file, or a timeout. */
  block(milliseconds: number): void;
  /** Ends the watch. */
  end(): void;
}

/** A process that holds a lock. */
export interface LockHolder {
  /** The process id. */
  readonly pid: number;
  /** The name of its program, if the system reports it. */
  readonly command?: string;
  /** Whether the lock is exclusive. A shared lock can have more holders. */
  readonly exclusive: boolean;
}

/** A process that waits for a lock. */
export interface LockWaiter {
  /** The process id, or `null`: Linux does not report it for OFD locks. */
  readonly pid: number | null;
  /** The name of its program, if the system reports it. */
  readonly command?: string;
  /** Whether the lock is exclusive, or `null` if the system does not report it. */
  readonly exclusive: boolean | null;
}

/** The processes that hold locks on a file, and those that wait for one. */
export interface LockState {
  readonly holders: readonly LockHolder[];
  readonly waiters: readonly LockWaiter[];
}

/** Information about an open file. Times are `null` if they are unknown. */
export interface FileInfo {
  /** Whether it is a regular file. */
  isFile: boolean;
  /** Whether it is a directory. */
  isDirectory: boolean;
  /** The size in bytes. */
  size: number;
  /** The time of the last modification. */
  mtime: Date | null;
  /** The time of the last access. */
  atime: Date | null;
  /** The time of creation. */
  birthtime: Date | null;
  /** The device that contains the file. */
  dev: number;
  /** The inode number. */
  ino: number | null;
  /** The file type and permission bits. */
  mode: number | null;
  /** The number of hard links. */
  nlink: number | null;
  /** The user id of the owner. */
  uid: number | null;
  /** The group id of the owner. */
  gid: number | null;
}

/** A name of an open file. */
export interface FileName {
  /** Whether it is a regular file. */
  readonly isFile: boolean;
  /** How many names the file has, or `null` if the runtime does not say. */
  readonly nlink: number | null;
}

/** An open file. Callers must close it exactly once. */
export interface PlatformFile extends Lockable {
  /** The descriptor, or `null` if the runtime does not expose it. */
  readonly fd: number | null;
  /** Reads at the position. Resolves to 0 at the end of the file. */
  read(into: Uint8Array): Promise<number>;
  readSync(into: Uint8Array): number;
  /** Writes at the position. Resolves to how many bytes it wrote. */
  write(data: Uint8Array): Promise<number>;
  writeSync(data: Uint8Array): number;
  /**
   * Makes writes go to the position in a file that was opened for appending.
   * Changes nothing if it was opened in another way.
   *
   * @returns A function that ends this, after the last write.
   */
  overwrite(): () => void;
  /**
   * Moves the position without blocking. `whence` is 0 for the start, 1 for
   * the current position, and 2 for the end.
   */
  seek(offset: number, whence: number): number;
  /** Returns a promise only if it may block. */
  truncate(length: number): void | Promise<void>;
  truncateSync(length: number): void;
  /** Flushes to the disk; with `dataOnly`, without times and the like. */
  sync(dataOnly: boolean): Promise<void>;
  syncSync(dataOnly: boolean): void;
  stat(): Promise<FileInfo>;
  statSync(): FileInfo;
  /** Returns whether the path is a name of this file, and not a link to it. */
  isStillAt(path: string): boolean;
  /**
   * Describes the file if the path leads to it, directly or by symbolic links.
   * Returns `null` if not. With `noFollow`, the last part of the path must not
   * be a link. Returns a promise only if it may block.
   */
  nameAt(
    path: string,
    noFollow: boolean,
  ): FileName | null | Promise<FileName | null>;
  nameAtSync(path: string, noFollow: boolean): FileName | null;
  /** Returns whether {@linkcode PlatformFile.nameAt} describes the file. */
  isAt(path: string, noFollow: boolean): boolean | Promise<boolean>;
  isAtSync(path: string, noFollow: boolean): boolean;
  /**
   * Calls `onChange` after a name of this file was removed, replaced or changed,
   * or its permissions were. Does not keep the process alive.
   *
   * @returns A function that ends this, or `null` if the system does not report
   * such changes.
   */
  watchName(onChange: () => void): (() => void) | null;
  /**
   * Frees a name of this file at once, even if other processes have it open.
   */
  unlink(path: string): void;
  /** Closes the file. Returns a promise only if closing may block. */
  close(): void | Promise<void>;
  closeSync(): void;
}

/** An open file of the caller: a descriptor, or an object with one. */
export type FileArgument =
  | number
  | { readonly fd: number }
  | SelfLockingFile;

/** A file with its own lock methods, such as a `Deno.FsFile`. */
export interface SelfLockingFile {
  /** Blocks the calling thread until it holds the lock. */
  lockSync(exclusive?: boolean): void;
  /** Attempts once. Returns `false` if another holder excludes the lock. */
  tryLockSync(exclusive?: boolean): boolean;
  /** Unlocks. */
  unlockSync(): void;
  /** Identifies the file. */
  statSync?(): { readonly dev: number; readonly ino: number | null };
}

/** The operating system and the runtime, as `src/` sees them. */
export interface Platform {
  /**
   * Opens a file without truncating it. Returns a promise only if opening may
   * block. Errors are those of the runtime.
   *
   * @param locker How the file is locked; flock(2) if absent.
   * @throws {Unsupported} If the runtime or the system cannot lock like that.
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
   * Returns whether a directory is known to be on a file system of this
   * machine, which answers in microseconds. Where the system does not list its
   * mounts, directories become known when a file is created in them.
   */
  isLocalDirectory(directory: string): boolean;
  /**
   * Makes the system unlink a file when this worker ends without running
   * JavaScript, while it still holds the exclusive lock of a descriptor. Absent
   * where the system cannot do that.
   *
   * @param path Of a file that only the holder unlinks or replaces.
   * @returns A function that cancels this, to call before the lock is released.
   */
  unlinkOnThreadExit?(fd: number, path: string): () => void;
  /**
   * Returns a descriptor of the caller as a {@linkcode Lockable}.
   *
   * @param locker How it is locked; flock(2) if absent.
   * @throws {Unsupported} If the number is not a descriptor of the system, or
   * the system cannot lock like that.
   */
  fromFd(fd: number, locker?: LockerSettings): Lockable;
  /**
   * Returns the processes that hold locks on a file, which is given by path or
   * by descriptor. A lock of this very descriptor is left out. What cannot be
   * verified is left out, too.
   *
   * Returns `null` if the system does not report holders and does not have PID
   * namespaces, so that a PID from another source names the same process.
   *
   * @param search Also searches all processes for holders that the system does
   * not name directly, which is slow.
   * @param locker Lists only holders whose locks conflict with this one.
   */
  holders(
    file: string | number,
    search: boolean,
    locker?: LockerSettings,
  ): LockHolder[] | null;
  /**
   * Returns the holders of the locks on each file, as {@linkcode holders} does
   * with `search`, and the processes that wait for one: those that block in the
   * kernel, and those that have the file open and watch it, as this package
   * does. Reads the descriptors of all processes once. The state of a file that
   * does not exist is empty. Returns `null`, or is absent, if the system does not
   * report waiters.
   */
  lockStates?(paths: readonly string[]): LockState[] | null;
  /**
   * Returns a text that identifies this machine, or `null` if it is unknown.
   * On Linux and macOS, another boot of the machine has another id.
   */
  machineId(): string | null;
  /** Absent if the system or the runtime does not offer extended attributes. */
  readonly attributes?: FileAttributes;
  /**
   * Returns the content of a file of proc(5), or `undefined` if it cannot be
   * read. Absent if the system does not have such files, or if the runtime
   * would ask the user for permissions.
   */
  readProcFile?(path: string): string | undefined;
  /**
   * Set if a file may have an access list that the runtime cannot read. The
   * group's permission bits of such a file are not those of its group: see
   * acl(5).
   */
  readonly hidesAccessLists?: true;
}

/** An error of a system call. */
export interface SystemError extends Error {
  /** The name of the error, such as `"EBADF"`. */
  code: string;
  /** The positive number of the error, as in errno(3). */
  errno: number;
  /** The call that failed, such as `"flock"`. */
  syscall: string;
}

/**
 * Thrown if locking is not available. The message says what to do. It continues
 * a sentence such as `Cannot lock a.lock: …`.
 */
export class Unsupported extends Error {
  override name = "Unsupported";
}

/**
 * Returns the name that the system or the runtime gave to an error, such as
 * `"ENOENT"`, or `undefined` for an error without a name. Accepts any thrown
 * value.
 */
export function errorCode(error: unknown): string | undefined {
  const { code, message } = (error ?? {}) as Record<string, unknown>;
  if (typeof code === "string") return code;
  return typeof message === "string" ? codeInMessage(message) : undefined;
}

/** How Rust ends the message of an error that has a number. */
const OS_ERROR = /\(os error (\d+)\)$/;

/** Deno does not set the code of every error, for example of `ENOSYS`. */
function codeInMessage(message: string): string | undefined {
  const number = Number(OS_ERROR.exec(message)?.[1]);
  if (Number.isNaN(number) || globalThis.process.platform === "win32") {
    return undefined;
  }
  return Object.entries(constants.errno)
    .find(([, value]) => value === number)?.[0];
}
