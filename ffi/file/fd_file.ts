/** One `node:fs` descriptor, locked by a {@linkcode System}. */

import * as fs from "node:fs";
import { appending } from "../windows/append_queue.ts";
import { fileInfo } from "./file_info.ts";
import type {
  FileInfo,
  Lockable,
  Locker,
  LockerSettings,
  NativeFile,
  System,
  Watch,
} from "../types.ts";

/** More than that in one call is an error on one runtime or another. */
const LARGEST_TRANSFER = 2 ** 30;

/** Turns a promise's two ends into the callback that `node:fs` takes. */
export function settle<T>(
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

/** A descriptor that the caller opened. */
export class Descriptor implements Lockable {
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

  get gapInUpgrade(): true | undefined {
    return this.#locker.gapInUpgrade;
  }

  watch(closed: () => void): Watch | null {
    return this.system.watch(this.fd, closed);
  }

  announce(): void {
    this.system.announce(this.fd);
  }
}

/** What is known of a file that was opened here. */
export interface DescriptorFileInit {
  readonly locker: LockerSettings | undefined;
  /** Whether it answers from this machine, `null` if nobody knows yet. */
  readonly local: boolean | null;
  /** Called before it is closed. */
  readonly closing: () => void;
  /** Whether everything goes to the end. */
  readonly appends: boolean;
}

/** A file that was opened here. */
export class DescriptorFile extends Descriptor implements NativeFile {
  /** `null` until somebody needs to know. */
  #local: boolean | null;
  /** Called before it is closed. */
  readonly #closing: () => void;
  /** Appends where opening could not be told to. */
  readonly #append: ((data: Uint8Array) => Promise<number>) | undefined;

  constructor(system: System, fd: number, init: DescriptorFileInit) {
    super(system, fd, init.locker);
    this.#local = init.local;
    this.#closing = init.closing;
    if (init.appends && system.append) {
      this.#append = appending((data) => system.append!(fd, data));
    }
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
    const most = data.subarray(0, LARGEST_TRANSFER);
    if (this.#append) return this.#append(most);
    return new Promise((resolve, reject) =>
      fs.write(this.fd, most, 0, most.length, null, settle(resolve, reject))
    );
  }

  writeSync(data: Uint8Array): number {
    const most = data.subarray(0, LARGEST_TRANSFER);
    return this.#append
      ? this.system.append!(this.fd, most)
      : fs.writeSync(this.fd, most, 0, most.length, null);
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
      fs.close(this.fd, settle(resolve, reject))
    );
  }

  closeSync(): void {
    this.#closing();
    fs.closeSync(this.fd);
  }
}
