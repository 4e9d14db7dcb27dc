/** `OpenFile`: an open file with the methods of `Deno.FsFile`. */

import { constants } from "node:buffer";
import type {
  FileInfo,
  LockerSettings,
  PlatformFile,
} from "../../ffi/types.ts";
import { formatSubject, LockException } from "../core/errors.ts";
import { readAll, replaceAll, sizeOf, writeAll } from "./file_io.ts";
import type { InFlight } from "./in_flight.ts";
import {
  checkBytes,
  checkOffset,
  encode,
  seek,
  SeekMode,
  tooLarge,
} from "./open_file_arguments.ts";
import { coversFrom } from "../options/locker.ts";
import type { LockedMode } from "../options/open_mode.ts";
import { runAsync, runSync } from "../core/gensync.ts";
import { atEdge, atEdgeAsync } from "../core/stack.ts";
import type { Edge } from "../core/stack.ts";
import type { Gen } from "../core/gensync.ts";

/** The size of one read of a stream, unless its reader passes a buffer. */
const CHUNK_SIZE = 64 * 1024;

/** The longest text that fits in a string, in bytes: 3 for a UTF-16 unit. */
export const MAX_TEXT_BYTES: number = 3 * constants.MAX_STRING_LENGTH;

/** Why a method that blocks the thread cannot run. */
export const PENDING = "operations are pending; await them first";

/** What an {@linkcode OpenFile} needs. */
export interface OpenFileInit {
  readonly path: string;
  readonly file: PlatformFile;
  readonly mode: LockedMode;
  /** The bytes that are locked; all if absent. */
  readonly range?: LockerSettings["range"];
  /** The operations in flight, which the class that closes the file awaits. */
  readonly inFlight: InFlight;
}

/**
 * An open file with the methods of `Deno.FsFile`, on every runtime: the base of
 * {@linkcode LockedFile} and {@linkcode AtomicFile}.
 *
 * Reads and writes start at the position of the file and move it. In the modes
 * `"a"` and `"a+"`, every write goes to the end of the file.
 *
 * Operations run one at a time, in the order of the calls, also without an
 * `await` between them. The streams take turns with them. An operation that
 * fails does not stop the next one. While one is pending, the methods that block
 * the thread cannot wait for it, and throw {@linkcode LockException} with the
 * code `"EBUSY"`.
 *
 * Operations that are pending when the file is closed finish first. Afterwards,
 * every operation throws {@linkcode LockException} with the code `"EBADF"`.
 */
export abstract class OpenFile {
  /** The path, as the caller gave it. */
  readonly path: string;
  /**
   * The file descriptor, for use by other libraries until the file is closed.
   * They must not close it. `null` on Deno without `--allow-ffi`, which does
   * not expose descriptors, and for an `AtomicFile` in memory (`inPlace`).
   */
  readonly fd: number | null;
  readonly #init: OpenFileInit;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;

  /** @ignore Called by the classes that extend it. */
  constructor(init: OpenFileInit) {
    this.#init = init;
    this.path = init.path;
    this.fd = init.file.fd;
  }

  /**
   * Reads bytes at the position into a buffer.
   *
   * @param into The buffer.
   * @returns The number of bytes read, or `null` at the end of the file.
   * @throws {LockException} If the file is closed or not open for reading.
   * @throws {TypeError} If `into` is not a `Uint8Array`.
   */
  read(into: Uint8Array): Promise<number | null> {
    return this.#run(OpenFile.prototype.read, "read", async (file) => {
      const count = await file.read(checkBytes("into", into));
      return count === 0 && into.length > 0 ? null : count;
    });
  }

  /** {@linkcode OpenFile.read}, blocking the thread. */
  readSync(into: Uint8Array): number | null {
    return this.#runSync(OpenFile.prototype.readSync, "read", (file) => {
      const count = file.readSync(checkBytes("into", into));
      return count === 0 && into.length > 0 ? null : count;
    });
  }

  /**
   * Writes bytes at the position.
   *
   * @param data The bytes.
   * @returns The number of bytes written, which may be less than the length.
   * @throws {LockException} If the file is closed or not open for writing.
   * @throws {TypeError} If `data` is not a `Uint8Array`.
   */
  write(data: Uint8Array): Promise<number> {
    return this.#run(
      OpenFile.prototype.write,
      "write",
      (file) => file.write(checkBytes("data", data)),
    );
  }

  /** {@linkcode OpenFile.write}, blocking the thread. */
  writeSync(data: Uint8Array): number {
    return this.#runSync(
      OpenFile.prototype.writeSync,
      "write",
      (file) => file.writeSync(checkBytes("data", data)),
    );
  }

  /**
   * Reads the whole file as UTF-8, and moves the position to its end. Invalid
   * bytes become U+FFFD. A byte order mark is kept.
   *
   * @returns The content.
   * @throws {FileTooLarge} If the content does not fit in a string.
   * @throws {LockException} If the file is closed or not open for reading.
   */
  readText(): Promise<string> {
    return this.#run(
      OpenFile.prototype.readText,
      "read",
      () => runAsync(this.#readText()),
    );
  }

  /** {@linkcode OpenFile.readText}, blocking the thread. */
  readTextSync(): string {
    return this.#runSync(
      OpenFile.prototype.readTextSync,
      "read",
      () => runSync(this.#readText()),
    );
  }

  /**
   * Reads the whole file, and moves the position to its end.
   *
   * @returns The content.
   * @throws {FileTooLarge} If the content does not fit in a `Uint8Array`.
   * @throws {LockException} If the file is closed or not open for reading.
   */
  readBytes(): Promise<Uint8Array<ArrayBuffer>> {
    return this.#run(
      OpenFile.prototype.readBytes,
      "read",
      () => runAsync(this.#readAll()),
    );
  }

  /** {@linkcode OpenFile.readBytes}, blocking the thread. */
  readBytesSync(): Uint8Array<ArrayBuffer> {
    return this.#runSync(
      OpenFile.prototype.readBytesSync,
      "read",
      () => runSync(this.#readAll()),
    );
  }

  /**
   * Writes a whole text as UTF-8 at the position.
   *
   * @param text The text.
   * @throws {LockException} If the file is closed or not open for writing.
   * @throws {TypeError} If `text` is not a string.
   * @throws {RangeError} If `text` contains a lone surrogate.
   */
  writeText(text: string): Promise<void> {
    return this.#run(
      OpenFile.prototype.writeText,
      "write",
      (file) => runAsync(writeAll(file, encode(text))),
    );
  }

  /** {@linkcode OpenFile.writeText}, blocking the thread. */
  writeTextSync(text: string): void {
    return this.#runSync(
      OpenFile.prototype.writeTextSync,
      "write",
      (file) => runSync(writeAll(file, encode(text))),
    );
  }

  /**
   * Replaces the whole content, and moves the position to its end, in every
   * mode.
   *
   * It overwrites the file in place. A process that is killed meanwhile leaves
   * a mixture of old and new content, never fewer bytes than the shorter of the
   * two. A reader that does not lock the file may read such a mixture. If the
   * disk is full, the file keeps its old content. To change data that must
   * survive a crash, use {@linkcode updateFile} or {@linkcode writeAtomic}.
   *
   * On Deno without `--allow-ffi`, in the modes `"a"` and `"a+"`, the path must
   * still name the file.
   *
   * @param content Bytes, or text to write as UTF-8.
   * @throws {LockException} If the file is closed or not open for writing.
   * @throws {TypeError} If `content` is neither a string nor a `Uint8Array`.
   * @throws {RangeError} If the text contains a lone surrogate, or the lock has a
   * `range` that does not cover all bytes.
   */
  replaceContents(content: Uint8Array | string): Promise<void> {
    return this.#run(
      OpenFile.prototype.replaceContents,
      "write",
      (file) => runAsync(this.#replace(file, content)),
    );
  }

  /** {@linkcode OpenFile.replaceContents}, blocking the thread. */
  replaceContentsSync(content: Uint8Array | string): void {
    return this.#runSync(
      OpenFile.prototype.replaceContentsSync,
      "write",
      (file) => runSync(this.#replace(file, content)),
    );
  }

  /**
   * Moves the position.
   *
   * @param offset The offset in bytes. May be negative, except from the start.
   * @param whence Where the offset starts.
   * @returns The new position, in bytes from the start.
   * @throws {LockException} If the file is closed.
   * @throws {RangeError} If the offset is not a safe integer.
   */
  seek(
    offset: number | bigint,
    whence: SeekMode = SeekMode.Start,
  ): Promise<number> {
    return this.#run(
      OpenFile.prototype.seek,
      "seek",
      (file) => seek(file, offset, whence),
    );
  }

  /** {@linkcode OpenFile.seek}, blocking the thread. */
  seekSync(
    offset: number | bigint,
    whence: SeekMode = SeekMode.Start,
  ): number {
    return this.#runSync(
      OpenFile.prototype.seekSync,
      "seek",
      (file) => seek(file, offset, whence),
    );
  }

  /**
   * Truncates the file, or extends it with zeros. Does not move the position.
   *
   * @param length The new size, in bytes.
   * @throws {LockException} If the file is closed or not open for writing.
   * @throws {RangeError} If `length` is not a safe integer, 0 or more, or the
   * lock has a `range` that does not cover all bytes from `length` on.
   */
  truncate(length: number = 0): Promise<void> {
    return this.#run(
      OpenFile.prototype.truncate,
      "write",
      (file) => file.truncate(this.#checkCut(length)),
    );
  }

  /** {@linkcode OpenFile.truncate}, blocking the thread. */
  truncateSync(length: number = 0): void {
    return this.#runSync(
      OpenFile.prototype.truncateSync,
      "write",
      (file) => file.truncateSync(this.#checkCut(length)),
    );
  }

  /**
   * Writes the content and the metadata to the disk: fsync(2).
   *
   * @throws {LockException} If the file is closed.
   */
  sync(): Promise<void> {
    return this.#run(
      OpenFile.prototype.sync,
      "sync",
      (file) => file.sync(false),
    );
  }

  /** {@linkcode OpenFile.sync}, blocking the thread. */
  syncSync(): void {
    return this.#runSync(
      OpenFile.prototype.syncSync,
      "sync",
      (file) => file.syncSync(false),
    );
  }

  /**
   * Writes the content to the disk: fdatasync(2).
   *
   * @throws {LockException} If the file is closed.
   */
  syncData(): Promise<void> {
    return this.#run(
      OpenFile.prototype.syncData,
      "sync",
      (file) => file.sync(true),
    );
  }

  /** {@linkcode OpenFile.syncData}, blocking the thread. */
  syncDataSync(): void {
    return this.#runSync(
      OpenFile.prototype.syncDataSync,
      "sync",
      (file) => file.syncSync(true),
    );
  }

  /**
   * Returns information about the file, as `Deno.FsFile.stat` does.
   *
   * @throws {LockException} If the file is closed.
   */
  stat(): Promise<FileInfo> {
    return this.#run(OpenFile.prototype.stat, "stat", (file) => file.stat());
  }

  /** {@linkcode OpenFile.stat}, blocking the thread. */
  statSync(): FileInfo {
    return this.#runSync(
      OpenFile.prototype.statSync,
      "stat",
      (file) => file.statSync(),
    );
  }

  /**
   * A stream of the bytes from the position to the end. Neither its end nor
   * `cancel` closes the file.
   */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= new ReadableStream({
      type: "bytes",
      autoAllocateChunkSize: CHUNK_SIZE,
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
   * A stream that writes its chunks at the position. Neither `close` nor
   * `abort` closes the file.
   */
  get writable(): WritableStream<Uint8Array> {
    return this.#writable ??= new WritableStream({
      write: async (chunk) =>
        await this.#start(
          "write",
          (file) => runAsync(writeAll(file, checkBytes("chunk", chunk))),
        ),
    });
  }

  /** Runs an operation of the public method `edge`. */
  #run<T>(
    edge: Edge,
    verb: Verb,
    operation: (file: PlatformFile) => T | Promise<T>,
  ): Promise<T> {
    return atEdgeAsync(edge, () => this.#start(verb, operation));
  }

  /** {@linkcode OpenFile.#run}, blocking the thread. */
  #runSync<T>(
    edge: Edge,
    verb: Verb,
    operation: (file: PlatformFile) => T,
  ): T {
    return atEdge(edge, () => {
      const file = this.#open(verb);
      if (this.#init.inFlight.fileIsBusy) throw this.#error(verb, PENDING);
      return operation(file);
    });
  }

  /**
   * Starts an operation, after those that were called before. The file is not
   * closed before it has finished.
   */
  #start<T>(
    verb: Verb,
    operation: (file: PlatformFile) => T | Promise<T>,
  ): Promise<T> {
    const file = this.#open(verb);
    const { inFlight } = this.#init;
    return inFlight.run(() => {
      const { lostReason } = inFlight;
      if (lostReason !== undefined) throw this.#error(verb, lostReason);
      return operation(file);
    });
  }

  /** Returns the file if it is open and its mode allows the operation. */
  #open(verb: Verb): PlatformFile {
    const { mode, file, inFlight } = this.#init;
    const problem = inFlight.closedReason ?? inFlight.lostReason ??
      (verb === "read" && !mode.read
        ? `it was opened with mode "${mode.name}"; use "${mode.name}+"`
        : verb === "write" && !mode.write
        ? `it was opened with mode "r"; use "r+"`
        : undefined);
    if (problem === undefined) return file;
    throw this.#error(verb, problem);
  }

  #error(verb: Verb, problem: string): LockException {
    return new LockException(
      `Cannot ${verb} ${formatSubject(this)}: ${problem}`,
      { path: this.path, code: problem === PENDING ? "EBUSY" : "EBADF" },
    );
  }

  *#readAll(
    limit: number = constants.MAX_LENGTH,
  ): Gen<Uint8Array<ArrayBuffer>> {
    const { file } = this.#init;
    const size = sizeOf(file);
    if (size > limit) throw tooLarge(this.path, size);
    return yield* readAll(file);
  }

  *#readText(): Gen<string> {
    const bytes = yield* this.#readAll(MAX_TEXT_BYTES);
    try {
      return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
    } catch (cause) {
      throw tooLarge(this.path, bytes.length, cause);
    }
  }

  #replace(file: PlatformFile, content: Uint8Array | string): Gen<void> {
    const data = typeof content === "string"
      ? encode(content)
      : checkBytes("content", content);
    this.#checkCut(0);
    return replaceAll(file, data);
  }

  /** Checks that the bytes from `offset` on may be cut. */
  #checkCut(offset: number): number {
    checkOffset("length", offset, 0);
    const { range } = this.#init;
    if (range === undefined || coversFrom(range, offset)) return offset;
    const { start, length } = range;
    throw new RangeError(
      `Cannot truncate ${formatSubject(this)} to ${offset} bytes: only bytes ` +
        `${start} to ${
          start + length - 1
        } are locked, and another holder may ` +
        "write beyond them; write in the range, or lock the whole file",
    );
  }
}

type Verb = "read" | "write" | "seek" | "sync" | "stat";
