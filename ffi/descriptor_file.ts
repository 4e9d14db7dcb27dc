/** Files over `node:fs` descriptors, locked by a {@linkcode System}. */

import * as fs from "node:fs";
import { dirname } from "node:path";
import type { CloseWithThread } from "./thread_end.ts";
import { Unsupported } from "./types.ts";
import type {
  FileInfo,
  Lockable,
  Locker,
  LockerSettings,
  Native,
  NativeFile,
  OpenMode,
  System,
  Watch,
} from "./types.ts";

/** More than that in one call is an error on one runtime or another. */
const LARGEST_TRANSFER = 2 ** 30;

/** So many paths are remembered as local; then the memory starts anew. */
const REMEMBERED_PATHS = 10_000;

/**
 * The {@linkcode Native} of every runtime that has descriptors and FFI.
 * `closeWithThread` is given where the runtime does not see to that.
 */
export function descriptors(
  system: System,
  closeWithThread: CloseWithThread = () => () => {},
): Native {
  const prove = prover(system);
  // A pool thread's round trip costs ten times the lock itself, so a file is
  // opened and closed on the calling thread once its path is known to lie on
  // a file system that answers from this machine. Elsewhere (NFS, FUSE) a
  // server must not stand still while somebody else's disk thinks.
  const local = new Set<string>();
  // The same of directories in which files were made.
  const near = new Set<string>();

  function remember(path: string, mode: OpenMode): void {
    const [paths, one] = mode.exclusive ? [near, dirname(path)] : [local, path];
    if (paths.size >= REMEMBERED_PATHS) paths.clear();
    paths.add(one);
  }

  function openSync(
    path: string,
    mode: OpenMode,
    creationMode: number,
    locker?: LockerSettings,
  ) {
    const isLocal = local.has(path) ||
      mode.exclusive && near.has(dirname(path)) || null;
    const opening = (mode: OpenMode) =>
      fs.openSync(path, openFlags(mode), creationMode);
    return proven(openExisting(mode, opening), isLocal, locker);
  }

  function proven(
    fd: number,
    isLocal: boolean | null,
    locker: LockerSettings | undefined,
  ): DescriptorFile {
    try {
      prove(fd);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
    return new DescriptorFile(system, fd, locker, isLocal, closeWithThread(fd));
  }

  return {
    openSync,
    open(path, mode, creationMode, locker) {
      if (local.has(path) || mode.exclusive && near.has(dirname(path))) {
        return openSync(path, mode, creationMode, locker);
      }
      const opening = (mode: OpenMode) =>
        new Promise<number>((resolve, reject) =>
          fs.open(path, openFlags(mode), creationMode, settle(resolve, reject))
        );
      return opening(mode).catch((error) => {
        if (!mayExist(mode, error)) throw error;
        return opening({ ...mode, create: false }).catch(() => {
          throw error;
        });
      }).then((fd) => {
        const isLocal = system.isLocal(fd);
        if (isLocal) remember(path, mode);
        return proven(fd, isLocal, locker);
      });
    },
    descriptor(fd) {
      prove(fd);
      return new Descriptor(system, fd);
    },
    isNear: (directory) => near.has(directory),
    holders: system.holders,
  };
}

/**
 * Old versions of Deno number the files of `node:fs` themselves; to the system
 * the same number names another file, or none. So one descriptor must name the
 * same inode to the runtime and to the system before any is locked. The
 * numbers 0 to 2 mean the same everywhere and prove nothing about the others.
 */
function prover(system: System): (fd: number) => void {
  let proven = false;
  return (fd) => {
    if (proven) return;
    const { ino } = fs.fstatSync(fd, { bigint: true });
    // Bun 1.2.0 gives a number all the same.
    if (system.inode(fd) !== BigInt(ino)) {
      throw new Unsupported(
        "the descriptors of this runtime are not the system's; update it",
      );
    }
    proven = fd > 2;
  };
}

/**
 * `O_NONBLOCK` keeps a FIFO from waiting for its other end and means nothing
 * to a regular file. All three runtimes add `O_CLOEXEC` themselves.
 */
function openFlags(mode: OpenMode): number {
  const { constants: c } = fs;
  const access = mode.read && mode.write
    ? c.O_RDWR
    : mode.write
    ? c.O_WRONLY
    : c.O_RDONLY;
  return access |
    (mode.append ? c.O_APPEND : 0) |
    (mode.create ? c.O_CREAT : 0) |
    (mode.exclusive ? c.O_EXCL : 0) |
    (mode.noFollow ? c.O_NOFOLLOW ?? 0 : 0) |
    (c.O_NONBLOCK ?? 0) | (c.O_NOCTTY ?? 0);
}

/**
 * In a sticky directory that all may write to, `O_CREAT` fails even for a file
 * that exists and could be opened, if it is another user's: proc_sys_fs(5),
 * protected_regular.
 */
function mayExist(mode: OpenMode, error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "EACCES" && mode.create && !mode.exclusive;
}

function openExisting(
  mode: OpenMode,
  open: (mode: OpenMode) => number,
): number {
  try {
    return open(mode);
  } catch (error) {
    if (!mayExist(mode, error)) throw error;
    try {
      return open({ ...mode, create: false });
    } catch {
      throw error;
    }
  }
}

/** Turns a promise's two ends into the callback that `node:fs` takes. */
function settle<T>(
  resolve: (value: T) => void,
  reject: (error: Error) => void,
): (error: Error | null, value?: T) => void {
  return (error, value) => error ? reject(error) : resolve(value as T);
}

/** Tells locks of one file apart that do not wait for each other's turn. */
function waysApart(locker: LockerSettings | undefined): string {
  if (!locker || locker.name === "flock") return "";
  const { name, range } = locker;
  return range ? `:${name}:${range.start}+${range.length}` : `:${name}`;
}

class Descriptor implements Lockable {
  readonly fd: number;
  protected readonly system: System;
  readonly #locker: Locker;
  readonly #settings: LockerSettings | undefined;

  constructor(system: System, fd: number, settings?: LockerSettings) {
    this.system = system;
    this.fd = fd;
    this.#locker = settings ? system.locker(settings) : system;
    this.#settings = settings;
  }

  tryLock(exclusive: boolean): boolean {
    return this.#locker.tryLock(this.fd, exclusive);
  }

  lock(exclusive: boolean): void {
    this.#locker.lock(this.fd, exclusive);
  }

  unlock(): void {
    this.#locker.unlock(this.fd);
  }

  identity(): string {
    return this.system.identity(this.fd) + waysApart(this.#settings);
  }

  watch(closed: () => void): Watch | null {
    return this.system.watch(this.fd, closed);
  }

  announce(): void {
    this.system.announce(this.fd);
  }
}

class DescriptorFile extends Descriptor implements NativeFile {
  /** `null` until somebody needs to know. */
  #local: boolean | null;
  /** Called before it is closed. */
  readonly #closing: () => void;

  constructor(
    system: System,
    fd: number,
    locker: LockerSettings | undefined,
    local: boolean | null,
    closing: () => void,
  ) {
    super(system, fd, locker);
    this.#local = local;
    this.#closing = closing;
  }

  read(into: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) =>
      fs.read(
        this.fd,
        into,
        0,
        Math.min(into.length, LARGEST_TRANSFER),
        null,
        settle(resolve, reject),
      )
    );
  }

  readSync(into: Uint8Array): number {
    const length = Math.min(into.length, LARGEST_TRANSFER);
    return fs.readSync(this.fd, into, 0, length, null);
  }

  write(data: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) =>
      fs.write(
        this.fd,
        data,
        0,
        Math.min(data.length, LARGEST_TRANSFER),
        null,
        settle(resolve, reject),
      )
    );
  }

  writeSync(data: Uint8Array): number {
    const length = Math.min(data.length, LARGEST_TRANSFER);
    return fs.writeSync(this.fd, data, 0, length, null);
  }

  seek(offset: number, whence: number): number {
    return this.system.seek(this.fd, offset, whence);
  }

  truncate(length: number): Promise<void> {
    return new Promise((resolve, reject) =>
      fs.ftruncate(this.fd, length, settle(resolve, reject))
    );
  }

  truncateSync(length: number): void {
    fs.ftruncateSync(this.fd, length);
  }

  sync(dataOnly: boolean): Promise<void> {
    const call = dataOnly ? fs.fdatasync : fs.fsync;
    return new Promise((resolve, reject) =>
      call(this.fd, settle(resolve, reject))
    );
  }

  syncSync(dataOnly: boolean): void {
    if (dataOnly) fs.fdatasyncSync(this.fd);
    else fs.fsyncSync(this.fd);
  }

  stat(): Promise<FileInfo> {
    return new Promise<fs.Stats>((resolve, reject) =>
      fs.fstat(this.fd, settle(resolve, reject))
    ).then(fileInfo);
  }

  statSync(): FileInfo {
    return fileInfo(fs.fstatSync(this.fd));
  }

  isAt(path: string): boolean {
    const name = fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
    return name !== undefined &&
      this.system.identity(this.fd) === `${name.dev}:${name.ino}`;
  }

  close(): void | Promise<void> {
    this.#local ??= this.system.isLocal(this.fd);
    if (this.#local) return this.closeSync();
    this.#closing();
    return new Promise((resolve, reject) =>
      fs.close(this.fd, settle(resolve, reject))
    );
  }

  closeSync(): void {
    this.#closing();
    fs.closeSync(this.fd);
  }
}

function fileInfo(stats: fs.Stats): FileInfo {
  const { size, mtime, atime, birthtime, dev, ino, mode, nlink, uid, gid } =
    stats;
  return {
    isFile: stats.isFile(),
    isDirectory: stats.isDirectory(),
    size,
    mtime,
    atime,
    birthtime,
    dev,
    ino,
    mode,
    nlink,
    uid,
    gid,
  };
}
