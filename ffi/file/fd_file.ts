/** One `node:fs` descriptor, locked by a {@linkcode OsLocks}. */

import * as fs from "node:fs";
import { serializeAppends } from "../windows/append_queue.ts";
import { fileInfo } from "./file_info.ts";
import type {
  FileInfo,
  Lockable,
  Locker,
  LockerSettings,
  OsLocks,
  PlatformFile,
  Watch,
} from "../types.ts";

/** More than that in one call is an error on one runtime or another. */
const MAX_TRANSFER = 2 ** 30;

/** Turns a promise's two ends into the callback that `node:fs` takes. */
export function toCallback<T>(
  resolve: (value: T) => void,
  reject: (error: Error) => void,
): (error: Error | null, value?: T) => void {
  return (error, value) => error ? reject(error) : resolve(value as T);
}

/** Tells locks of one file apart that do not wait for each other's turn. */
function lockKeySuffix(locker: LockerSettings | undefined): string {
  if (!locker || locker.name === "flock") return "";
  const { name, range } = locker;
  return range ? `:${name}:${range.start}+${range.length}` : `:${name}`;
}

/** A descriptor that the caller opened. */
export class LockableFd implements Lockable {
  readonly fd: number;
  protected readonly system: OsLocks;
  readonly #locker: Locker;
  readonly #settings: LockerSettings | undefined;

  constructor(system: OsLocks, fd: number, settings?: LockerSettings) {
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

  lockKey(): string {
    return this.system.lockKey(this.fd) + lockKeySuffix(this.#settings);
  }

  get gapInUpgrade(): true | undefined {
    return this.#locker.gapInUpgrade;
  }

  watchClose(closed: () => void): Watch | null {
    return this.system.watchClose(this.fd, closed);
  }

  wakeWatchers(): void {
    this.system.wakeWatchers(this.fd);
  }
}

/** What is known of a file that was opened here. */
export interface FdFileInit {
  readonly locker: LockerSettings | undefined;
  /** Whether it answers from this machine, `null` if nobody knows yet. */
  readonly localPaths: boolean | null;
  /** Called before it is closed. */
  readonly closing: () => void;
  /** Whether everything goes to the end. */
  readonly appends: boolean;
}

/** A file that was opened here. */
export class FdFile extends LockableFd implements PlatformFile {
  /** `null` until somebody needs to know. */
  #local: boolean | null;
  /** Called before it is closed. */
  readonly #closing: () => void;
  /** Appends where opening could not be told to. */
  readonly #append: ((data: Uint8Array) => Promise<number>) | undefined;

  constructor(system: OsLocks, fd: number, init: FdFileInit) {
    super(system, fd, init.locker);
    this.#local = init.localPaths;
    this.#closing = init.closing;
    if (init.appends && system.append) {
      this.#append = serializeAppends((data) => system.append!(fd, data));
    }
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
    const most = data.subarray(0, MAX_TRANSFER);
    if (this.#append) return this.#append(most);
    return new Promise((resolve, reject) =>
      fs.write(this.fd, most, 0, most.length, null, toCallback(resolve, reject))
    );
  }

  writeSync(data: Uint8Array): number {
    const most = data.subarray(0, MAX_TRANSFER);
    return this.#append
      ? this.system.append!(this.fd, most)
      : fs.writeSync(this.fd, most, 0, most.length, null);
  }

  seek(offset: number, whence: number): number {
    return this.system.seek(this.fd, offset, whence);
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
    const name = fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
    return name !== undefined && this.system.isFile(this.fd, name);
  }

  unlink(path: string): void {
    this.system.unlink(path);
  }

  close(): void | Promise<void> {
    this.#local ??= this.system.isLocal(this.fd);
    if (this.#local) return this.closeSync();
    this.#closing();
    return new Promise((resolve, reject) =>
      fs.close(this.fd, toCallback(resolve, reject))
    );
  }

  closeSync(): void {
    this.#closing();
    fs.closeSync(this.fd);
  }
}
