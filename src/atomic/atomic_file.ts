/**
 * The public functions of atomic writes: `openAtomic`, `writeAtomic` and the
 * file that is being written.
 *
 * @module
 */

import { beginWrite, commit } from "./commit.ts";
import type { PendingWrite } from "./commit.ts";
import { discardTempFile } from "./temp_file.ts";
import { resolveAtomicOptions } from "./options.ts";
import { inOrderOfCalls } from "./write_order.ts";
import type { AtomicOptions } from "./options.ts";
import { formatSubject, LockException } from "../core/errors.ts";
import { untrack, warnWhenCollected } from "../core/leak_guard.ts";
import { writeAll } from "../file/file_io.ts";
import { InFlight } from "../file/in_flight.ts";
import type { LockedFile } from "../file/locked_file.ts";
import { OpenFile, PENDING } from "../file/open_file.ts";
import { checkBytes, encode } from "../file/open_file_arguments.ts";
import { parseMode } from "../options/open_mode.ts";
import { checkFunction, filePath } from "../options/validate.ts";
import { atEdge, atEdgeAsync, runCallback } from "../core/stack.ts";
import { runAsync, runSync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

const COMMITTED = "already closed by commit()";
const DISCARDED = "already closed by discard()";

const lostFile = (subject: string) =>
  `The atomic file for ${subject} was garbage-collected before commit() or ` +
  "discard(); it stays open, and its temporary file is removed when this " +
  "process or worker ends. Open it with `await using`, or pass a body";

/**
 * A file that is being written and not yet published. {@linkcode
 * AtomicFile.commit} publishes it under its `path`. Before the commit, other
 * processes do not see it there. If the object is disposed without a commit,
 * the file is discarded.
 *
 * The file is initially empty, and open for reading and writing.
 *
 * If the program loses the object without a commit or a discard, it gets a
 * process warning, once for each thread. The file stays open, because another
 * library may still use its descriptor. Its temporary file is removed when the
 * process or worker ends, except by a signal.
 *
 * @example Write a file in steps
 * ```ts
 * import { openAtomic } from "jsr:@x/portalock";
 *
 * await using file = await openAtomic("report.csv", { replace: true });
 * await file.writeText("name,count\n");
 * await file.writeText("a,1\n");
 * await file.commit();
 * ```
 */
export class AtomicFile extends OpenFile
  implements AsyncDisposable, Disposable {
  readonly #inFlight: InFlight;
  readonly #pending: PendingWrite;

  /** @ignore Created by {@linkcode openAtomic}. */
  constructor(path: string, pending: PendingWrite, inFlight: InFlight) {
    super({
      path,
      file: pending.tempFile.file,
      mode: parseMode("w+"),
      inFlight,
    });
    this.#inFlight = inFlight;
    this.#pending = pending;
    warnWhenCollected(this, path, this, lostFile);
  }

  /**
   * Waits for the pending operations, publishes the file and closes it. If an
   * error is thrown, the file is closed and the new content is removed, with
   * the exceptions below. See {@linkcode openAtomic} for what a crash leaves.
   *
   * @throws {AlreadyExists} If the destination exists by now and `replace` is
   * `false`. The new content is kept in the file `preservedPath`.
   * @throws {LockException} If the file is already committed or discarded, or
   * could only be overwritten in place.
   * @throws {AlreadyLocked} If the file is overwritten in place, and another
   * holder has its lock for 5 seconds.
   * @throws {Error} If a system call fails: the runtime's own error. If the
   * directory cannot be synced or the file cannot be closed, the file is
   * published nevertheless.
   */
  commit(): Promise<void> {
    return atEdgeAsync(AtomicFile.prototype.commit, () => {
      this.#throwIf(this.#inFlight.closedReason, "EBADF");
      const publish = this.#publish();
      return this.#inFlight.drainAndClose(COMMITTED, () => publish);
    });
  }

  /**
   * Publishes the file and closes it, and blocks the thread meanwhile. See
   * {@linkcode AtomicFile.commit}.
   *
   * @throws {LockException} If asynchronous operations are pending, because
   * they could not finish while the thread is blocked. The file stays open.
   * @throws {LockException} If the file is already committed or discarded.
   * @throws {AlreadyExists} If the destination exists by now and `replace` is
   * `false`. The new content is kept in the file `preservedPath`.
   * @throws {Error} If a system call fails: the runtime's own error.
   */
  commitSync(): void {
    return atEdge(AtomicFile.prototype.commitSync, () => {
      this.#throwIf(this.#inFlight.closedReason, "EBADF");
      if (this.#inFlight.active) {
        this.#throwIf(PENDING, "EBUSY");
      }
      const publish = this.#publish();
      this.#inFlight.drainAndCloseSync(COMMITTED, () => publish);
    });
  }

  /**
   * Waits for the pending operations, removes the new content and closes the
   * file. Does nothing if the file is already committed or discarded. Never
   * rejects: the next {@linkcode openAtomic} in the directory removes a file
   * that cannot be removed now.
   */
  async discard(): Promise<void> {
    untrack(this);
    const drop = () => discardTempFile(this.#pending.tempFile);
    try {
      await this.#inFlight.drainAndClose(DISCARDED, drop);
    } catch {
      // The next `openAtomic` in this directory removes the file.
    }
  }

  /**
   * Removes the new content and closes the file, and blocks the thread
   * meanwhile. If asynchronous operations are pending, returns at once, and the
   * file is removed after them. See {@linkcode AtomicFile.discard}.
   */
  discardSync(): void {
    untrack(this);
    this.#inFlight.drainAndCloseSync(
      DISCARDED,
      () => discardTempFile(this.#pending.tempFile),
    );
  }

  /**
   * Discards the file, unless it is committed. See {@linkcode
   * AtomicFile.discard}.
   */
  [Symbol.asyncDispose](): Promise<void> {
    return this.discard();
  }

  /**
   * Discards the file, unless it is committed. See {@linkcode
   * AtomicFile.discardSync}.
   */
  [Symbol.dispose](): void {
    this.discardSync();
  }

  /** Takes its place in the order of the calls at once. */
  #publish(): Gen<void> {
    untrack(this);
    return inOrderOfCalls((call) => commit(this.#pending, true, call));
  }

  #throwIf(problem: string | undefined, code: string): void {
    if (problem === undefined) return;
    throw new LockException(
      `Cannot commit ${formatSubject(this)}: ${problem}`,
      { path: this.path, code },
    );
  }
}

/**
 * Creates a file that becomes visible under its path when it is complete.
 *
 * The content is written to a temporary file in the same directory, named
 * `.portalock.<16 digits>.tmp`. {@linkcode AtomicFile.commit} publishes it:
 *
 * - Without `replace`, by link(2), which fails if the path exists.
 * - With `replace`, by rename(2). The new file gets the permission bits of the
 *   old file, and its owner and group if the process may change them. If the
 *   path is a symbolic link that the kernel would follow, the target of the
 *   link is replaced. Other hard links keep the old content.
 *
 * The new file never gives a user access that this user did not have. On Linux,
 * the access list (acl(5), NFSv4), the attributes `user.*` and the SELinux label
 * are copied, if the system permits it. If the list or the owner cannot be
 * kept, the group and others get only the bits that every user of the old file
 * had. File capabilities are not copied. Deno without FFI cannot read lists. So
 * on Linux, the group keeps only the bits that others have there, and a list
 * that denies a user what others may do is lost. On macOS and Windows, the new
 * file has the list that its directory passes to new files.
 *
 * A file cannot be replaced if it is a mount point, as a single file in a
 * container is, or if its directory does not permit it. See the option
 * `inPlace`.
 *
 * Missing parent directories are created.
 *
 * If the process crashes before the commit, the path keeps its old content.
 * After the commit, it has the new content. During the commit, it has one of
 * both, complete. With `durable`, this also holds if the system crashes.
 *
 * A crash may leave a temporary file. Its writer locks it with flock(2), so the
 * next `openAtomic` or {@linkcode writeAtomic} in the directory detects that
 * the writer is dead, and removes the file. To find such files, it lists the
 * directory, which takes about 1 ms for each thousand names.
 *
 * Locks of other machines and other mounts may not be visible. So only files
 * are removed that were written on this machine through the same mount, as
 * their names say. On Linux and macOS, this also means since the last boot:
 * after a crash of the system or a power cut, temporary files stay. Without FFI
 * on Deno, all of them stay. To remove them, delete `.portalock.*.tmp` while no
 * program writes in the directory.
 *
 * File systems without hard links (FAT, some FUSE file systems) do not support
 * link(2). There, a file that another process creates immediately before the
 * commit is replaced, also without `replace`. On file systems without locks,
 * temporary files of dead processes are not removed.
 *
 * @example Write a file in steps
 * ```ts
 * import { openAtomic } from "jsr:@x/portalock";
 *
 * await using file = await openAtomic("steps.csv", { replace: true });
 * await file.writeText("name,count\n");
 * await file.writeText("a,1\n");
 * await file.commit();
 * ```
 *
 * @param path The path of the file. A relative path is resolved against the
 * current directory at the time of the call.
 * @param options Whether to replace a file, its permission bits, and whether to
 * sync it.
 * @returns The file to write to, and to commit.
 * @throws {AlreadyExists} If the file exists and `replace` is `false`.
 * @throws {LockException} If the path is a directory or another file that is
 * not a regular file, or has too many symbolic links, or the file could only be
 * overwritten in place. The last error has the code of the system, such as
 * `"EBUSY"`.
 * @throws {LockUnsupported} If the runtime cannot lock.
 * @throws {TypeError} If the path or an option is of the wrong type, or an
 * option is unknown.
 * @throws {RangeError} If the path or an option has an invalid value.
 * @throws {Error} If the file cannot be created: the runtime's own error.
 */
export function openAtomic(
  path: string | URL,
  options?: AtomicOptions,
): Promise<AtomicFile>;
/**
 * Creates a file, calls a function that writes it, and commits the file when
 * the function returns. If the function throws, the file is discarded.
 *
 * @example Commit when a function returns
 * ```ts
 * import { openAtomic } from "jsr:@x/portalock";
 *
 * const rows = await openAtomic("rows.csv", { replace: true }, async (file) => {
 *   await file.writeText("name,count\n");
 *   return 1;
 * });
 * ```
 *
 * @param path The path of the file.
 * @param options Whether to replace a file, its permission bits, and whether to
 * sync it.
 * @param body The function that writes the file. It may also commit or discard
 * the file itself.
 * @returns The result of the function.
 * @throws {Error} If `body` throws: that error. Also throws the errors of
 * {@linkcode AtomicFile.commit}.
 */
export function openAtomic<T>(
  path: string | URL,
  options: AtomicOptions | undefined,
  body: (file: AtomicFile) => T | Promise<T>,
): Promise<T>;
export function openAtomic<T>(
  path: string | URL,
  options?: AtomicOptions,
  body?: (file: AtomicFile) => T | Promise<T>,
): Promise<AtomicFile | T> {
  return atEdgeAsync(openAtomic, () => open(path, options, body));
}

async function open<T>(
  path: string | URL,
  options: AtomicOptions | undefined,
  body: ((file: AtomicFile) => T | Promise<T>) | undefined,
): Promise<AtomicFile | T> {
  const name = filePath(path);
  const settings = resolveAtomicOptions(options);
  if (body !== undefined) checkFunction("body", body);
  const inFlight = new InFlight();
  const pending = await runAsync(beginWrite(name, settings));
  const file = new AtomicFile(name, pending, inFlight);
  if (body === undefined) return file;
  try {
    const result = await runCallback(() => body(file));
    if (inFlight.closedReason === undefined) await file.commit();
    return result;
  } finally {
    await file.discard();
  }
}

/**
 * Writes a file that becomes visible under its path when it is complete. See
 * {@linkcode openAtomic} for how it is published, and for what a crash leaves.
 *
 * If a thread calls it again for the same file without waiting, the file has
 * the content of the last call that succeeds. Without `replace`, only one of
 * the calls succeeds.
 *
 * @example Replace a file
 * ```ts
 * import { writeAtomic } from "jsr:@x/portalock";
 *
 * await writeAtomic("settings.json", "{}", { replace: true });
 * ```
 *
 * @param path The path of the file.
 * @param data The bytes to write, or text to write as UTF-8.
 * @param options Whether to replace a file, its permission bits, and whether to
 * sync it.
 * @throws {AlreadyExists} If the file exists and `replace` is `false`, also if
 * another process creates it during the call. The new content is not kept.
 * @throws {LockException} If the path is a directory or another file that is
 * not a regular file, or has too many symbolic links, or the file could only be
 * overwritten in place. The last error has the code of the system, such as
 * `"EBUSY"`.
 * @throws {LockUnsupported} If the runtime cannot lock.
 * @throws {TypeError} If an argument or an option is of the wrong type, or an
 * option is unknown.
 * @throws {RangeError} If the path or an option has an invalid value, or the
 * text contains a lone surrogate.
 * @throws {Error} If a system call fails: the runtime's own error. The path
 * keeps its old content, except if syncing the directory or closing the file
 * fails.
 */
export function writeAtomic(
  path: string | URL,
  data: Uint8Array | string,
  options?: AtomicOptions,
): Promise<void> {
  return atEdgeAsync(
    writeAtomic,
    () => runAsync(write(path, data, options)),
  );
}

/**
 * Writes a file that becomes visible under its path when it is complete, and
 * blocks the thread meanwhile. See {@linkcode writeAtomic}.
 *
 * @example Replace a file
 * ```ts
 * import { writeAtomicSync } from "jsr:@x/portalock";
 *
 * writeAtomicSync("settings.json", "{}", { replace: true });
 * ```
 *
 * @param path The path of the file.
 * @param data The bytes to write, or text to write as UTF-8.
 * @param options Whether to replace a file, its permission bits, and whether to
 * sync it.
 * @throws {AlreadyExists} If the file exists and `replace` is `false`.
 * @throws {Error} If {@linkcode writeAtomic} would reject: the same error.
 */
export function writeAtomicSync(
  path: string | URL,
  data: Uint8Array | string,
  options?: AtomicOptions,
): void {
  return atEdge(
    writeAtomicSync,
    () => runSync(write(path, data, options)),
  );
}

/**
 * Writes a whole file.
 *
 * @param held The lock on the file, if it is held and the file may be
 * overwritten in place.
 */
export function* write(
  path: string | URL,
  data: Uint8Array | string,
  options: AtomicOptions | undefined,
  held: LockedFile | null = null,
): Gen<void> {
  const name = filePath(path);
  const bytes = typeof data === "string"
    ? encode(data)
    : checkBytes("data", data);
  const settings = { ...resolveAtomicOptions(options), held };
  yield* inOrderOfCalls(function* (call) {
    const pending = yield* beginWrite(name, settings);
    try {
      yield* writeAll(pending.tempFile.file, bytes);
    } catch (error) {
      yield* discardTempFile(pending.tempFile);
      throw error;
    }
    yield* commit(pending, false, call);
  });
}
