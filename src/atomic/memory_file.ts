/**
 * A temporary file in memory, for a file whose directory is not writable. It is
 * overwritten in place when the content is complete.
 */

import type { FileInfo, PlatformFile } from "../../ffi/types.ts";

/** The first capacity of a file that is written to, in bytes. */
const MIN_CAPACITY = 4096;

/** Content that grows, and a position. */
class Memory {
  #buffer = new Uint8Array(0);
  #size = 0;
  #position = 0;

  get size(): number {
    return this.#size;
  }

  read(into: Uint8Array): number {
    const end = Math.min(this.#size, this.#position + into.length);
    const piece = this.#buffer.subarray(this.#position, end);
    into.set(piece);
    this.#position += piece.length;
    return piece.length;
  }

  write(data: Uint8Array): number {
    const end = this.#position + data.length;
    if (end > this.#size) this.truncate(end);
    this.#buffer.set(data, this.#position);
    this.#position = end;
    return data.length;
  }

  seek(offset: number, whence: number): number {
    const base = [0, this.#position, this.#size][whence] ?? 0;
    if (base + offset < 0) {
      throw Object.assign(new Error("EINVAL: invalid argument, seek"), {
        code: "EINVAL",
      });
    }
    return this.#position = base + offset;
  }

  truncate(length: number): void {
    if (length > this.#buffer.length) this.#grow(length);
    // What is cut off must not appear again if the file grows.
    if (length < this.#size) this.#buffer.fill(0, length, this.#size);
    this.#size = length;
  }

  #grow(length: number): void {
    const doubled = Math.max(length, 2 * this.#buffer.length, MIN_CAPACITY);
    const larger = new Uint8Array(doubled);
    larger.set(this.#buffer.subarray(0, this.#size));
    this.#buffer = larger;
  }
}

/** Creates an empty file in memory. No other process can see or lock it. */
export function memoryFile(): PlatformFile {
  const memory = new Memory();
  const created = new Date();
  const statSync = (): FileInfo => ({
    isFile: true,
    isDirectory: false,
    size: memory.size,
    mtime: null,
    atime: null,
    birthtime: created,
    dev: 0,
    ino: null,
    mode: null,
    nlink: null,
    uid: null,
    gid: null,
  });
  return {
    fd: null,
    tryLock: () => true,
    lock() {},
    unlock() {},
    upgradeIsAtomic: true,
    lockKey: () => null,
    identity: () => null,
    isLocked: () => null,
    watchClose: () => null,
    wakeWatchers() {},
    read: (into) => settled(() => memory.read(into)),
    readSync: (into) => memory.read(into),
    write: (data) => settled(() => memory.write(data)),
    writeSync: (data) => memory.write(data),
    seek: (offset, whence) => memory.seek(offset, whence),
    truncate: (length) => settled(() => memory.truncate(length)),
    truncateSync: (length) => memory.truncate(length),
    sync: () => Promise.resolve(),
    syncSync() {},
    stat: () => Promise.resolve(statSync()),
    statSync,
    overwrite: () => () => {},
    isStillAt: () => false,
    isAt: () => false,
    isAtSync: () => false,
    nameAt: () => null,
    nameAtSync: () => null,
    watchName: () => null,
    unlink() {},
    close() {},
    closeSync() {},
  };
}

/** Turns an error into a rejection. */
function settled<T>(call: () => T): Promise<T> {
  return new Promise((resolve) => resolve(call()));
}
