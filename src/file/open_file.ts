/** The open file that acquisitions and atomic writes hand out. */

import { constants } from "node:buffer";
import type { FileInfo, PlatformFile } from "../../ffi/types.ts";
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
import type { LockedMode } from "../options/open_mode.ts";
import { runAsync, runSync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

/** How much a stream reads at a time, unless its reader brings a buffer. */
const CHUNK = 64 * 1024;

/** A byte of UTF-8 is at least a third of a UTF-16 unit. */
const LONGEST_TEXT = 3 * constants.MAX_STRING_LENGTH;

/** What an {@linkcode OpenFile} is made of. */
export interface OpenFileInit {
  readonly path: string;
  readonly file: PlatformFile;
  readonly mode: LockedMode;
  /** Shut before the file is closed. */
  readonly inFlight: InFlight;
}

/**
 * An open file that follows `Deno.FsFile`, on every runtime: what
 * {@linkcode LockedFile} and {@linkcode AtomicFile} have in common.
 *
 * The file has one position, the system's own: reads and writes start there
 * and move it; in the modes `"a"` and `"a+"` every write goes to the end.
 *
 * Once the file is closed every operation throws a {@linkcode LockException}
 * with the code `"EBADF"`. Operations that are still under way then finish
 * first.
 */
export abstract class OpenFile {
  /** The path as it was given. */
  readonly path: string;
  /**
   * The system's descriptor, for other programming interfaces: they may use it
   * until the file is closed, and never close it. `null` on Deno without
   * `--allow-ffi`, which hides it.
   */
  readonly fd: number | null;
  readonly #init: OpenFileInit;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | undefined;
  #writable: WritableStream<Uint8Array> | undefined;

  /** @ignore Made by the classes that extend it. */
  constructor(init: OpenFileInit) {
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

  /** {@linkcode OpenFile.read}, blocking the thread. */
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

  /** {@linkcode OpenFile.write}, blocking the thread. */
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
    return this.#run("read", () => runAsync(this.#readText()));
  }

  /** {@linkcode OpenFile.readText}, blocking the thread. */
  readTextSync(): string {
    this.#open("read");
    return runSync(this.#readText());
  }

  /**
   * Reads the whole file, from its start, and leaves the position at its end.
   *
   * @throws {FileTooLarge} If no `Uint8Array` can be so long.
   * @throws {LockException} If the file is closed or not opened for reading.
   */
  readBytes(): Promise<Uint8Array<ArrayBuffer>> {
    return this.#run("read", () => runAsync(this.#readAll()));
  }

  /** {@linkcode OpenFile.readBytes}, blocking the thread. */
  readBytesSync(): Uint8Array<ArrayBuffer> {
    this.#open("read");
    return runSync(this.#readAll());
  }

  /**
   * Writes all of a text at the position, as UTF-8.
   *
   * @throws {LockException} If the file is closed or not opened for writing.
   */
  writeText(text: string): Promise<void> {
    return this.#run("write", (file) => runAsync(writeAll(file, encode(text))));
  }

  /** {@linkcode OpenFile.writeText}, blocking the thread. */
  writeTextSync(text: string): void {
    runSync(writeAll(this.#open("write"), encode(text)));
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
    return this.#run("write", (file) => runAsync(this.#replace(file, content)));
  }

  /** {@linkcode OpenFile.replaceContents}, blocking the thread. */
  replaceContentsSync(content: Uint8Array | string): void {
    runSync(this.#replace(this.#open("write"), content));
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

  /** {@linkcode OpenFile.seek}; neither ever waits. */
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

  /** {@linkcode OpenFile.truncate}, blocking the thread. */
  truncateSync(length: number = 0): void {
    this.#open("write").truncateSync(checkOffset("length", length, 0));
  }

  /** Waits until content and metadata are on the disk: fsync(2). */
  sync(): Promise<void> {
    return this.#run("sync", (file) => file.sync(false));
  }

  /** {@linkcode OpenFile.sync}, blocking the thread. */
  syncSync(): void {
    this.#open("sync").syncSync(false);
  }

  /** Waits until the content is on the disk: fdatasync(2). */
  syncData(): Promise<void> {
    return this.#run("sync", (file) => file.sync(true));
  }

  /** {@linkcode OpenFile.syncData}, blocking the thread. */
  syncDataSync(): void {
    this.#open("sync").syncSync(true);
  }

  /** Asks what the system knows of the file. */
  stat(): Promise<FileInfo> {
    return this.#run("stat", (file) => file.stat());
  }

  /** {@linkcode OpenFile.stat}, blocking the thread. */
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
          (file) => runAsync(writeAll(file, checkBytes("chunk", chunk))),
        ),
    });
  }

  /** Runs an operation that keeps the file from being closed under it. */
  async #run<T>(
    verb: Verb,
    operation: (file: PlatformFile) => T | Promise<T>,
  ): Promise<T> {
    const file = this.#open(verb);
    return await this.#init.inFlight.run(() => operation(file));
  }

  /** The file, if it is still open and its mode allows the operation. */
  #open(verb: Verb): PlatformFile {
    const { mode, file, inFlight } = this.#init;
    const problem = inFlight.closedReason !== undefined
      ? inFlight.closedReason
      : verb === "read" && !mode.read
      ? `it was opened with mode "${mode.name}"; use "${mode.name}+"`
      : verb === "write" && !mode.write
      ? `it was opened with mode "r"; use "r+"`
      : undefined;
    if (problem === undefined) return file;
    throw new LockException(
      `Cannot ${verb} ${formatSubject(this)}: ${problem}`,
      {
        path: this.path,
        code: "EBADF",
      },
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
    const bytes = yield* this.#readAll(LONGEST_TEXT);
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
    return replaceAll(file, data, this.#init.mode.append);
  }
}

type Verb = "read" | "write" | "seek" | "sync" | "stat";
