/** The open, locked file that every acquisition hands out. */

import { constants } from "node:buffer";
import { inspect } from "node:util";
import type { FileInfo, NativeFile } from "../ffi/types.ts";
import { FileTooLarge, LockException, shown } from "./errors.ts";
import type { LockedMode } from "./open_mode.ts";
import { readAll, replaceAll, sizeOf, writeAll } from "./file_recipes.ts";
import { perform, performSync } from "./recipe.ts";
import type { Recipe } from "./recipe.ts";

/** What an offset counts from: the numbers of lseek(2) and `Deno.SeekMode`. */
export const SeekMode: {
  /** From the start of the file. */
  readonly Start: 0;
  /** From the current position. */
  readonly Current: 1;
  /** From the end of the file. */
  readonly End: 2;
} = Object.freeze({ Start: 0, Current: 1, End: 2 });
/** One of the numbers of {@linkcode SeekMode}. */
export type SeekMode = 0 | 1 | 2;

/** How much a stream reads at a time, unless its reader brings a buffer. */
const CHUNK = 64 * 1024;

/** A byte of UTF-8 is at least a third of a UTF-16 unit. */
const LONGEST_TEXT = 3 * constants.MAX_STRING_LENGTH;

/** What a {@linkcode LockedFile} is made of. */
export interface LockedFileInit {
  path: string;
  file: NativeFile;
  mode: LockedMode;
  /** Called when closing begins that may have to wait. */
  closing: () => void;
  /** Ends the acquisition; the file is no longer used then. */
  release: () => Promise<void>;
  /** Ends the acquisition, blocking the thread. */
  releaseSync: () => void;
}

/**
 * An open file whose lock is held. It follows `Deno.FsFile`, on every runtime.
 *
 * The file has one position, the system's own: reads and writes start there
 * and move it; in the modes `"a"` and `"a+"` every write goes to the end.
 *
 * Closing or disposing the file **is** releasing the lock. Nothing else is: a
 * stream that ends leaves both alone. Afterwards every operation throws a
 * {@linkcode LockException} with the code `"EBADF"`. Operations that are still
 * under way finish first, under the lock.
 *
 * @example
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * await using file = await new Lock("visits.txt", { mode: "a+" }).acquire();
 * const visits = Number(await file.readText()) + 1;
 * await file.replaceContents(String(visits));
 * ```
 */
export class LockedFile implements AsyncDisposable, Disposable {
  /** The path as it was given to the lock. */
  readonly path: string;
  /**
   * The system's descriptor, for other programming interfaces: they may use it
   * until the lock is released, and never close it. `null` on Deno without
   * `--allow-ffi`, which hides it.
   */
  readonly fd: number | null;
  readonly #init: LockedFileInit;
  #pending = 0;
  #onIdle: (() => void) | undefined;
  #closing: Promise<void> | undefined;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;

  /** @ignore Made by the lock classes. */
  constructor(init: LockedFileInit) {
    this.#init = init;
    this.path = init.path;
    this.fd = init.file.fd;
  }

  /**
   * Reads at the position into a buffer.
   *
   * @param into Where the bytes go.
   * @returns How many bytes were read, `null` at the end of the file.
   * @throws {LockException} If the file is closed or not opened for reading.
   */
  read(into: Uint8Array): Promise<number | null> {
    return this.#run("read", async (file) => {
      const count = await file.read(checkBytes("into", into));
      return count === 0 && into.length > 0 ? null : count;
    });
  }

  /** {@linkcode LockedFile.read}, blocking the thread. */
  readSync(into: Uint8Array): number | null {
    const count = this.#open("read").readSync(checkBytes("into", into));
    return count === 0 && into.length > 0 ? null : count;
  }

  /**
   * Writes at the position.
   *
   * @param data What to write.
   * @returns How many bytes were written: perhaps not all of them.
   * @throws {LockException} If the file is closed or not opened for writing.
   */
  write(data: Uint8Array): Promise<number> {
    return this.#run("write", (file) => file.write(checkBytes("data", data)));
  }

  /** {@linkcode LockedFile.write}, blocking the thread. */
  writeSync(data: Uint8Array): number {
    return this.#open("write").writeSync(checkBytes("data", data));
  }

  /**
   * Reads the whole file as UTF-8, from its start, and leaves the position at
   * its end. Bytes that are no UTF-8 become U+FFFD; a byte order mark stays.
   *
   * @throws {FileTooLarge} If no string can be so long.
   * @throws {LockException} If the file is closed or not opened for reading.
   */
  readText(): Promise<string> {
    return this.#run("read", () => perform(this.#readText()));
  }

  /** {@linkcode LockedFile.readText}, blocking the thread. */
  readTextSync(): string {
    this.#open("read");
    return performSync(this.#readText());
  }

  /**
   * Reads the whole file, from its start, and leaves the position at its end.
   *
   * @throws {FileTooLarge} If no `Uint8Array` can be so long.
   * @throws {LockException} If the file is closed or not opened for reading.
   */
  readBytes(): Promise<Uint8Array<ArrayBuffer>> {
    return this.#run("read", () => perform(this.#readAll()));
  }

  /** {@linkcode LockedFile.readBytes}, blocking the thread. */
  readBytesSync(): Uint8Array<ArrayBuffer> {
    this.#open("read");
    return performSync(this.#readAll());
  }

  /**
   * Writes all of a text at the position, as UTF-8.
   *
   * @throws {LockException} If the file is closed or not opened for writing.
   */
  writeText(text: string): Promise<void> {
    return this.#run("write", (file) => perform(writeAll(file, encode(text))));
  }

  /** {@linkcode LockedFile.writeText}, blocking the thread. */
  writeTextSync(text: string): void {
    performSync(writeAll(this.#open("write"), encode(text)));
  }

  /**
   * Puts a new content in the place of the old one and leaves the position at
   * its end. The same file is written again, so those who read without the
   * lock may see a mixture, and a full disk may leave one.
   *
   * @param content Bytes, or text that becomes UTF-8.
   * @throws {LockException} If the file is closed or not opened for writing.
   */
  replaceContents(content: Uint8Array | string): Promise<void> {
    return this.#run("write", (file) => perform(this.#replace(file, content)));
  }

  /** {@linkcode LockedFile.replaceContents}, blocking the thread. */
  replaceContentsSync(content: Uint8Array | string): void {
    performSync(this.#replace(this.#open("write"), content));
  }

  /**
   * Moves the position.
   *
   * @param offset In bytes; negative is allowed from the position or the end.
   * @param whence What the offset counts from.
   * @returns The new position, in bytes from the start.
   * @throws {RangeError} If the offset is no whole number that fits.
   */
  seek(
    offset: number | bigint,
    whence: SeekMode = SeekMode.Start,
  ): Promise<number> {
    return this.#run("seek", (file) => seek(file, offset, whence));
  }

  /** {@linkcode LockedFile.seek}; neither ever waits. */
  seekSync(
    offset: number | bigint,
    whence: SeekMode = SeekMode.Start,
  ): number {
    return seek(this.#open("seek"), offset, whence);
  }

  /**
   * Cuts the file off, or lengthens it with zeros. The position stays.
   *
   * @param length The new size in bytes.
   * @throws {LockException} If the file is closed or not opened for writing.
   */
  truncate(length: number = 0): Promise<void> {
    return this.#run(
      "write",
      (file) => file.truncate(checkOffset("length", length, 0)),
    );
  }

  /** {@linkcode LockedFile.truncate}, blocking the thread. */
  truncateSync(length: number = 0): void {
    this.#open("write").truncateSync(checkOffset("length", length, 0));
  }

  /** Waits until content and metadata are on the disk: fsync(2). */
  sync(): Promise<void> {
    return this.#run("sync", (file) => file.sync(false));
  }

  /** {@linkcode LockedFile.sync}, blocking the thread. */
  syncSync(): void {
    this.#open("sync").syncSync(false);
  }

  /** Waits until the content is on the disk: fdatasync(2). */
  syncData(): Promise<void> {
    return this.#run("sync", (file) => file.sync(true));
  }

  /** {@linkcode LockedFile.syncData}, blocking the thread. */
  syncDataSync(): void {
    this.#open("sync").syncSync(true);
  }

  /** Asks what the system knows of the file. */
  stat(): Promise<FileInfo> {
    return this.#run("stat", (file) => file.stat());
  }

  /** {@linkcode LockedFile.stat}, blocking the thread. */
  statSync(): FileInfo {
    return this.#open("stat").statSync();
  }

  /**
   * A stream of the bytes from the position on. Neither its end nor cancelling
   * it closes the file.
   */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= new ReadableStream({
      type: "bytes",
      autoAllocateChunkSize: CHUNK,
      pull: async (controller) => {
        const request = controller.byobRequest!;
        const { buffer, byteOffset, byteLength } = request.view!;
        const view = new Uint8Array(buffer, byteOffset, byteLength);
        const count = await this.read(view);
        if (count === null) controller.close();
        request.respond(count ?? 0);
      },
    });
  }

  /**
   * A stream that writes its chunks at the position. Neither closing nor
   * aborting it closes the file.
   */
  get writable(): WritableStream<Uint8Array> {
    return this.#writable ??= new WritableStream({
      write: (chunk) =>
        this.#run(
          "write",
          (file) => perform(writeAll(file, checkBytes("chunk", chunk))),
        ),
    });
  }

  /**
   * Releases the lock and closes the file, after the operations that are still
   * under way. Closing again does nothing.
   *
   * @throws {LockException} If the system refuses and the lock was made with
   * `throwOnReleaseError`. The lock is gone all the same.
   */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /**
   * {@linkcode LockedFile.close}, blocking the thread. Asynchronous operations
   * that are still under way cannot finish meanwhile: the lock is released
   * when they have.
   */
  closeSync(): void {
    if (this.#closing) return;
    if (this.#pending > 0) {
      this.close().catch(() => {});
    } else {
      this.#closing = Promise.resolve();
      this.#init.releaseSync();
    }
  }

  /** Does what {@linkcode LockedFile.close} does. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Does what {@linkcode LockedFile.closeSync} does. */
  [Symbol.dispose](): void {
    this.closeSync();
  }

  #close(): Promise<void> {
    this.#init.closing();
    if (this.#pending === 0) return this.#init.release();
    // The number of a closed descriptor may already name another file when a
    // pool thread comes to use it.
    return new Promise<void>((resolve) => this.#onIdle = resolve)
      .then(this.#init.release);
  }

  /** Runs an operation that keeps the file from being closed under it. */
  async #run<T>(
    verb: Verb,
    operation: (file: NativeFile) => T | Promise<T>,
  ): Promise<T> {
    const file = this.#open(verb);
    this.#pending++;
    try {
      return await operation(file);
    } finally {
      if (--this.#pending === 0) this.#onIdle?.();
    }
  }

  /** The file, if it is still open and its mode allows the operation. */
  #open(verb: Verb): NativeFile {
    const { mode, file } = this.#init;
    const problem = this.#closing
      ? "it is closed and its lock released"
      : verb === "read" && !mode.read
      ? `it was opened with mode "${mode.name}"; use "${mode.name}+"`
      : verb === "write" && !mode.write
      ? `it was opened with mode "r"; use "r+"`
      : undefined;
    if (problem === undefined) return file;
    throw new LockException(`Cannot ${verb} ${shown(this)}: ${problem}`, {
      path: this.path,
      code: "EBADF",
    });
  }

  *#readAll(
    limit: number = constants.MAX_LENGTH,
  ): Recipe<Uint8Array<ArrayBuffer>> {
    const { file } = this.#init;
    const size = sizeOf(file);
    if (size > limit) throw tooLarge(this.path, size);
    return yield* readAll(file);
  }

  *#readText(): Recipe<string> {
    const bytes = yield* this.#readAll(LONGEST_TEXT);
    try {
      return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    } catch (cause) {
      throw tooLarge(this.path, bytes.length, cause);
    }
  }

  #replace(file: NativeFile, content: Uint8Array | string): Recipe<void> {
    const data = typeof content === "string"
      ? encode(content)
      : checkBytes("content", content);
    return replaceAll(file, data, this.#init.mode.append);
  }
}

type Verb = "read" | "write" | "seek" | "sync" | "stat";

function encode(text: string): Uint8Array {
  if (typeof text !== "string") {
    throw new TypeError(`text must be a string, not ${inspect(text)}`);
  }
  return new TextEncoder().encode(text);
}

function checkBytes(name: string, bytes: Uint8Array): Uint8Array {
  if (bytes instanceof Uint8Array) return bytes;
  throw new TypeError(`${name} must be a Uint8Array, not ${inspect(bytes)}`);
}

function tooLarge(path: string, size: number, cause?: unknown): FileTooLarge {
  return new FileTooLarge(
    `Cannot read ${shown({ path })}: ${size} bytes are more than fit; ` +
      "read it in parts",
    { path, cause },
  );
}

function seek(
  file: NativeFile,
  offset: number | bigint,
  whence: SeekMode,
): number {
  if (whence !== 0 && whence !== 1 && whence !== 2) {
    throw new RangeError(`whence must be a SeekMode, not ${inspect(whence)}`);
  }
  const least = whence === SeekMode.Start ? 0 : Number.MIN_SAFE_INTEGER;
  return file.seek(checkOffset("offset", Number(offset), least), whence);
}

function checkOffset(name: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new RangeError(
    `${name} must be a whole number of bytes${
      least === 0 ? ", 0 or more" : ""
    }, not ${inspect(value)}`,
  );
}
