/** A `node:fs` descriptor with the locks of an {@linkcode OsLocks}. */

import * as fs from "node:fs";
import { serializeAppends } from "../windows/append_queue.ts";
import { fileInfo } from "./file_info.ts";
import type {
  FileInfo,
  FileName,
  Locker,
  LockerSettings,
  OsLocks,
  PlatformFile,
  Watch,
} from "../types.ts";

/** Larger transfers in one call fail on at least one of the runtimes. */
const MAX_TRANSFER = 2 ** 30;

/** Turns the functions of a promise into a callback of `node:fs`. */
export function toCallback<T>(
  resolve: (value: T) => void,
  reject: (error: Error) => void,
): (error: Error | null, value?: T) => void {
  return (error, value) => error ? reject(error) : resolve(value as T);
}

/** Gives locks of one file different keys if they need separate queues. */
function lockKeySuffix(settings: LockerSettings | undefined): string {
  if (!settings || settings.name === "flock") return "";
  const { name, range } = settings;
  return range ? `:${name}:${range.start}+${range.length}` : `:${name}`;
}

/** What is known about an {@linkcode FdFile} when it is opened. */
export interface FdFileInit {
  /** The {@linkcode Locker} for `settings`. */
  readonly locker: Locker;
  /** @default flock(2) */
  readonly settings?: LockerSettings | undefined;
  /**
   * Whether the file is on a file system of this machine.
   *
   * @default null, for unknown
   */
  readonly isLocal?: boolean | null;
  /** Whether each write goes to the end. */
  readonly append?: boolean;
}

/** An open descriptor. */
export class FdFile implements PlatformFile {
  readonly fd: number;
  readonly #os: OsLocks;
  readonly #locker: Locker;
  readonly #settings: LockerSettings | undefined;
  #isLocal: boolean | null;
  readonly #beforeClose: (() => void) | undefined;
  /** Writes to the end, if the file is not opened with `O_APPEND`. */
  readonly #append: ((data: Uint8Array) => number) | undefined;
  /** {@linkcode FdFile.#append} as an asynchronous write. */
  readonly #appendAsync: ((data: Uint8Array) => Promise<number>) | undefined;

  /** `beforeClose` is called before the file is closed. */
  constructor(
    os: OsLocks,
    fd: number,
    init: FdFileInit,
    beforeClose?: () => void,
  ) {
    this.fd = fd;
    this.#os = os;
    this.#locker = init.locker;
    this.#settings = init.settings;
    this.#isLocal = init.isLocal ?? null;
    this.#beforeClose = beforeClose;
    if (init.append && os.append) {
      this.#append = os.append.bind(os, fd);
      this.#appendAsync = serializeAppends(this.#append);
    }
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

  get upgradeIsAtomic(): boolean {
    return this.#locker.upgradeIsAtomic;
  }

  lockKey(): string {
    return this.#os.lockKey(this.fd) + lockKeySuffix(this.#settings);
  }

  watchClose(onClose: () => void): Watch | null {
    return this.#os.watchClose(this.fd, onClose);
  }

  wakeWatchers(): void {
    this.#os.wakeWatchers(this.fd);
  }

  read(into: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) =>
      fs.read(
        this.fd,
        into,
        0,
        Math.min(into.length, MAX_TRANSFER),
        null,
        toCallback(resolve, reject),
      )
    );
  }

  readSync(into: Uint8Array): number {
    const length = Math.min(into.length, MAX_TRANSFER);
    return fs.readSync(this.fd, into, 0, length, null);
  }

  write(data: Uint8Array): Promise<number> {
    const piece = data.subarray(0, MAX_TRANSFER);
    if (this.#appendAsync) return this.#appendAsync(piece);
    return new Promise((resolve, reject) =>
      fs.write(
        this.fd,
        piece,
        0,
        piece.length,
        null,
        toCallback(resolve, reject),
      )
    );
  }

  writeSync(data: Uint8Array): number {
    const piece = data.subarray(0, MAX_TRANSFER);
    return this.#append
      ? this.#append(piece)
      : fs.writeSync(this.fd, piece, 0, piece.length, null);
  }

  seek(offset: number, whence: number): number {
    return this.#os.seek(this.fd, offset, whence);
  }

  truncate(length: number): Promise<void> {
    return new Promise((resolve, reject) =>
      fs.ftruncate(this.fd, length, toCallback(resolve, reject))
    );
  }

  truncateSync(length: number): void {
    fs.ftruncateSync(this.fd, length);
  }

  sync(dataOnly: boolean): Promise<void> {
    const call = dataOnly ? fs.fdatasync : fs.fsync;
    return new Promise((resolve, reject) =>
      call(this.fd, toCallback(resolve, reject))
    );
  }

  syncSync(dataOnly: boolean): void {
    if (dataOnly) fs.fdatasyncSync(this.fd);
    else fs.fsyncSync(this.fd);
  }

  stat(): Promise<FileInfo> {
    return new Promise<fs.Stats>((resolve, reject) =>
      fs.fstat(this.fd, toCallback(resolve, reject))
    ).then(fileInfo);
  }

  statSync(): FileInfo {
    return fileInfo(fs.fstatSync(this.fd));
  }

  isStillAt(path: string): boolean {
    return this.nameAt(path) !== null;
  }

  nameAt(path: string): FileName | null {
    const name = fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
    if (name === undefined || !this.#os.isFile(this.fd, name)) return null;
    return { isFile: name.isFile(), nlink: Number(name.nlink) || null };
  }

  unlink(path: string): void {
    this.#os.unlink(path);
  }

  close(): void | Promise<void> {
    this.#isLocal ??= this.#os.isLocal(this.fd);
    if (this.#isLocal) return this.closeSync();
    this.#beforeClose?.();
    return new Promise((resolve, reject) =>
      fs.close(this.fd, toCallback(resolve, reject))
    );
  }

  closeSync(): void {
    this.#beforeClose?.();
    fs.closeSync(this.fd);
  }
}
