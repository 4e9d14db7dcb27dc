/** A `node:fs` descriptor with the locks of an {@linkcode OsLocks}. */

import * as fs from "node:fs";
import { serializeAppends } from "../windows/append_queue.ts";
import { fileInfo } from "./file_info.ts";
import { isMissing } from "./no_follow.ts";
import { FLOCK } from "../types.ts";
import type {
  FileInfo,
  FileName,
  Locker,
  LockerSettings,
  LockIdentity,
  OsLocks,
  PlatformFile,
  Watch,
} from "../types.ts";

/** Larger transfers in one call fail on at least one of the runtimes. */
const MAX_TRANSFER = 2 ** 30;

/** To free the blocks of a larger file may block for a while. In bytes. */
const MAX_SMALL_FILE = 2 ** 20;

/** Turns the functions of a promise into a callback of `node:fs`. */
export function toCallback<T>(
  resolve: (value: T) => void,
  reject: (error: Error) => void,
): (error: Error | null, value?: T) => void {
  return (error, value) => error ? reject(error) : resolve(value as T);
}

/** Makes a call on this thread. The promise rejects if it throws. */
// deno-lint-ignore require-await -- an error must not be thrown at once
async function settle<T>(call: () => T): Promise<T> {
  return call();
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
  /** The path by which the file was opened. */
  readonly path?: string;
  /** Whether the file is on a file system of this machine, if known. */
  readonly isLocal?: boolean | undefined;
  /** Whether each write goes to the end. */
  readonly append?: boolean;
}

/** An open descriptor. */
export class FdFile implements PlatformFile {
  readonly fd: number;
  readonly #os: OsLocks;
  readonly #locker: Locker;
  readonly #settings: LockerSettings | undefined;
  readonly #path: string | undefined;
  /** The key of the file, once it is known. An open file keeps its inode. */
  #fileKey: string | undefined;
  #isLocal: boolean | undefined;
  readonly #close: (() => void) | undefined;
  /** Writes to the end, if the file is not opened with `O_APPEND`. */
  readonly #append: ((data: Uint8Array) => number) | undefined;
  /** Whether writes go to the position, although the file appends. */
  #overwriting = false;
  /** Whether the file was opened for appending. */
  readonly #appends: boolean;
  /** {@linkcode FdFile.#append} as an asynchronous write. */
  readonly #appendAsync: ((data: Uint8Array) => Promise<number>) | undefined;

  /** `close` is called to close the descriptor, instead of close(2). */
  constructor(
    os: OsLocks,
    fd: number,
    init: FdFileInit,
    close?: () => void,
  ) {
    this.fd = fd;
    this.#os = os;
    this.#locker = init.locker;
    this.#settings = init.settings;
    this.#path = init.path;
    this.#isLocal = init.isLocal;
    this.#close = close;
    this.#appends = init.append ?? false;
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
    return this.#key() + lockKeySuffix(this.#settings);
  }

  #key(): string {
    return this.#fileKey ??= this.#os.lockKey(this.fd);
  }

  identity(): LockIdentity {
    const locker = this.#settings ?? FLOCK;
    return { file: this.#key(), open: this.fd, locker };
  }

  isLocked(): boolean | null {
    return this.#os.isLocked(this.fd, (this.#settings ?? FLOCK).name);
  }

  watchClose(onClose: () => void): Watch | null {
    return this.#os.watchClose(this.fd, onClose);
  }

  wakeWatchers(): void {
    this.#os.wakeWatchers(this.fd);
  }

  read(into: Uint8Array): Promise<number> {
    if (this.#locker.endsWithAsyncCalls) {
      return settle(() => this.readSync(into));
    }
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
    if (this.#locker.endsWithAsyncCalls) {
      return settle(() => this.writeSync(piece));
    }
    if (this.#appendAsync && !this.#overwriting) {
      return this.#appendAsync(piece);
    }
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
    return this.#append && !this.#overwriting
      ? this.#append(piece)
      : fs.writeSync(this.fd, piece, 0, piece.length, null);
  }

  overwrite(): () => void {
    if (!this.#appends) return () => {};
    this.#overwriting = true;
    this.#os.setAppend?.(this.fd, false);
    return () => {
      this.#overwriting = false;
      this.#os.setAppend?.(this.fd, true);
    };
  }

  seek(offset: number, whence: number): number {
    return this.#os.seek(this.fd, offset, whence);
  }

  truncate(length: number): void | Promise<void> {
    if (this.#locker.endsWithAsyncCalls) return this.truncateSync(length);
    if (this.#isLocal && fs.fstatSync(this.fd).size <= MAX_SMALL_FILE) {
      return this.truncateSync(length);
    }
    return new Promise((resolve, reject) =>
      fs.ftruncate(this.fd, length, toCallback(resolve, reject))
    );
  }

  truncateSync(length: number): void {
    fs.ftruncateSync(this.fd, length);
  }

  sync(dataOnly: boolean): Promise<void> {
    if (this.#locker.endsWithAsyncCalls) {
      return settle(() => this.syncSync(dataOnly));
    }
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
    if (this.#locker.endsWithAsyncCalls) return settle(() => this.statSync());
    return new Promise<fs.Stats>((resolve, reject) =>
      fs.fstat(this.fd, toCallback(resolve, reject))
    ).then(fileInfo);
  }

  statSync(): FileInfo {
    return fileInfo(fs.fstatSync(this.fd));
  }

  isStillAt(path: string): boolean {
    return this.nameAtSync(path, true) !== null;
  }

  nameAt(
    path: string,
    noFollow: boolean,
  ): FileName | null | Promise<FileName | null> {
    if (this.#isLocal) return this.nameAtSync(path, noFollow);
    const stat = noFollow ? fs.lstat : fs.stat;
    return new Promise<fs.BigIntStats | undefined>((resolve, reject) =>
      stat(path, { bigint: true }, (error, name) => {
        if (error && !isMissing(error)) reject(error);
        else resolve(error ? undefined : name);
      })
    ).then((name) => this.#nameOf(name));
  }

  nameAtSync(path: string, noFollow: boolean): FileName | null {
    const stat = noFollow ? fs.lstatSync : fs.statSync;
    return this.#nameOf(stat(path, { bigint: true, throwIfNoEntry: false }));
  }

  isAt(path: string, noFollow: boolean): boolean | Promise<boolean> {
    if (this.#isLocal) return this.isAtSync(path, noFollow);
    const name = this.nameAt(path, noFollow);
    return name instanceof Promise
      ? name.then((found) => found !== null)
      : name !== null;
  }

  isAtSync(path: string, noFollow: boolean): boolean {
    const { lockKeyAt } = this.#os;
    return lockKeyAt
      ? lockKeyAt(path, noFollow) === this.#key()
      : this.nameAtSync(path, noFollow) !== null;
  }

  #nameOf(name: fs.BigIntStats | undefined): FileName | null {
    if (name === undefined || !this.#os.isFile(this.fd, name)) return null;
    return { isFile: name.isFile(), nlink: Number(name.nlink) || null };
  }

  watchName(onChange: () => void): (() => void) | null {
    return this.#os.watchName(this.fd, onChange);
  }

  unlink(path: string): void {
    this.#os.unlink(path);
  }

  close(): void | Promise<void> {
    this.#isLocal ??= this.#findOutIfLocal();
    if (this.#isLocal || this.#close) return this.closeSync();
    return new Promise((resolve, reject) =>
      fs.close(this.fd, toCallback(resolve, reject))
    );
  }

  #findOutIfLocal(): boolean {
    const { isLocal, localPaths } = this.#os;
    if (isLocal) return isLocal(this.fd);
    return this.#path !== undefined && localPaths !== undefined &&
      localPaths.hasFile(this.#path, { exclusive: false });
  }

  closeSync(): void {
    if (this.#close) this.#close();
    else fs.closeSync(this.fd);
  }
}
