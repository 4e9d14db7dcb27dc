/** Files that appear whole or not at all. */

import { beginWrite, commit } from "./commit.ts";
import type { PendingWrite } from "./commit.ts";
import { discardTempFile } from "./temp_file.ts";
import { atomicSettings } from "./options.ts";
import type { AtomicOptions } from "./options.ts";
import { formatSubject, LockException } from "../core/errors.ts";
import { writeAll } from "../file/file_io.ts";
import { InFlight } from "../file/in_flight.ts";
import { OpenFile } from "../file/open_file.ts";
import { checkBytes, encode } from "../file/open_file_arguments.ts";
import { parseMode } from "../options/open_mode.ts";
import { checkFunction, filePath } from "../options/validate.ts";
import { runAsync, runSync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

const COMMITTED = "commit() has closed it";
const DISCARDED = "discard() has closed it";

/**
 * A file that is being written and has no name yet. {@linkcode
 * AtomicFile.commit} publishes it under its path; before that nobody sees it
 * there. Disposing it without that discards it.
 *
 * It is opened for reading and writing, empty, and `path` is where it will be.
 *
 * @example
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

  /** @ignore Made by {@linkcode openAtomic}. */
  constructor(path: string, pending: PendingWrite, inFlight: InFlight) {
    super({
      path,
      file: pending.tempFile.file,
      mode: parseMode("w+"),
      inFlight,
    });
    this.#inFlight = inFlight;
    this.#pending = pending;
  }

  /**
   * Publishes the file, after the operations that are still under way, and
   * closes it. Whatever goes wrong closes it too, and then removes what was
   * written; see {@linkcode openAtomic} for what a crash leaves.
   *
   * @throws {AlreadyExists} If there is such a file by now and it is not to be
   * replaced. What was written is kept: `preservedPath` says where.
   * @throws {LockException} If the file is committed or discarded already.
   * @throws The runtime's own error if the system refuses. Only if the
   * directory cannot be synced, or the file not be closed, it is published
   * all the same.
   */
  async commit(): Promise<void> {
    this.#refuse(this.#inFlight.closedReason);
    await this.#inFlight.drainAndClose(
      COMMITTED,
      () => commit(this.#pending, true),
    );
  }

  /**
   * {@linkcode AtomicFile.commit}, blocking the thread. Refuses while
   * asynchronous operations are under way, which could not finish; the file
   * stays open then.
   */
  commitSync(): void {
    const busy = this.#inFlight.active ? "operations are under way" : undefined;
    this.#refuse(
      this.#inFlight.closedReason ?? busy,
      this.#inFlight.closedReason ? "EBADF" : "EBUSY",
    );
    this.#inFlight.drainAndCloseSync(
      COMMITTED,
      () => commit(this.#pending, true),
    );
  }

  /**
   * Removes what was written and closes the file, after the operations that
   * are still under way. Does nothing if the file is committed or discarded
   * already, and never fails: what cannot be removed is left to the next
   * {@linkcode openAtomic} in this directory.
   */
  async discard(): Promise<void> {
    const drop = () => discardTempFile(this.#pending.tempFile);
    await this.#inFlight.drainAndClose(DISCARDED, drop).catch(() => {});
  }

  /**
   * {@linkcode AtomicFile.discard}, blocking the thread. Asynchronous
   * operations that are still under way finish first, after this returned.
   */
  discardSync(): void {
    this.#inFlight.drainAndCloseSync(
      DISCARDED,
      () => discardTempFile(this.#pending.tempFile),
    );
  }

  /** Does what {@linkcode AtomicFile.discard} does. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.discard();
  }

  /** Does what {@linkcode AtomicFile.discardSync} does. */
  [Symbol.dispose](): void {
    this.discardSync();
  }

  #refuse(problem: string | undefined, code: string = "EBADF"): void {
    const { path } = this;
    if (problem === undefined) return;
    throw new LockException(
      `Cannot commit ${formatSubject(this)}: ${problem}`,
      {
        path,
        code,
      },
    );
  }
}

/**
 * Begins to write a file that appears under its path whole or not at all.
 *
 * What is written goes to a temporary file in the same directory, named
 * `.portalock.<16 digits>.tmp`. {@linkcode AtomicFile.commit} publishes it:
 * without `replace` by link(2), which never takes a name that is taken; with
 * `replace` by rename(2). A file that is replaced hands on its permission bits,
 * and its owner and group as far as this process may give files away; of a
 * symbolic link the target is replaced. Other links to the old file keep the
 * old content, and access control lists are not handed on. Missing parent
 * directories are made.
 *
 * If the process or (with `durable`) the system crashes before the commit, the
 * path names what it named; afterwards the new file; in between one of both,
 * whole. A temporary file may stay behind. It is locked with flock(2) while its
 * writer lives, so the next `openAtomic` or {@linkcode writeAtomic} in the
 * directory recognises and removes it. For that it lists the directory once,
 * which takes about a millisecond for each thousand names.
 *
 * On a file system without hard links (FAT, some of FUSE) a file that appears
 * in the moment before the publication is replaced all the same. On one
 * without locks temporary files of dead processes stay.
 *
 * @example Write in steps
 * ```ts
 * import { openAtomic } from "jsr:@x/portalock";
 *
 * await using file = await openAtomic("steps.csv", { replace: true });
 * await file.writeText("name,count\n");
 * await file.writeText("a,1\n");
 * await file.commit();
 * ```
 *
 * @param path Where the file will be. A relative path counts from the
 * directory that is current now.
 * @param options Whether to replace, with which permissions, how durably.
 * @returns The file to write to, which has to be committed.
 * @throws {AlreadyExists} If there is such a file and it is not to be replaced.
 * @throws {LockException} If the path names a directory or another thing that
 * is no regular file.
 * @throws {LockUnsupported} If the runtime cannot lock.
 * @throws {TypeError} If an option or the path is of the wrong type, or the
 * option unknown.
 * @throws {RangeError} If an option or the path has an impossible value.
 * @throws The runtime's own error if no file can be made there.
 */
export function openAtomic(
  path: string | URL,
  options?: AtomicOptions,
): Promise<AtomicFile>;
/**
 * Begins to write a file, runs a function that writes it, and commits it when
 * the function returns. If it throws, the file is discarded.
 *
 * @example
 * ```ts
 * import { openAtomic } from "jsr:@x/portalock";
 *
 * const rows = await openAtomic("rows.csv", { replace: true }, async (file) => {
 *   await file.writeText("name,count\n");
 *   return 1;
 * });
 * ```
 *
 * @param path Where the file will be.
 * @param options Whether to replace, with which permissions, how durably.
 * @param body Writes the file. It may commit or discard it by itself.
 * @returns What the function returns.
 * @throws What the function throws, and whatever {@linkcode AtomicFile.commit}
 * throws.
 */
export function openAtomic<T>(
  path: string | URL,
  options: AtomicOptions | undefined,
  body: (file: AtomicFile) => T | Promise<T>,
): Promise<T>;
export async function openAtomic<T>(
  path: string | URL,
  options?: AtomicOptions,
  body?: (file: AtomicFile) => T | Promise<T>,
): Promise<AtomicFile | T> {
  const name = filePath(path);
  const settings = atomicSettings(options);
  if (body !== undefined) checkFunction("body", body);
  const inFlight = new InFlight();
  const pending = await runAsync(beginWrite(name, settings));
  const file = new AtomicFile(name, pending, inFlight);
  if (body === undefined) return file;
  try {
    const result = await body(file);
    if (inFlight.closedReason === undefined) await file.commit();
    return result;
  } finally {
    await file.discard();
  }
}

/**
 * Writes a whole file that appears under its path whole or not at all. See
 * {@linkcode openAtomic} for how, and for what a crash leaves.
 *
 * @example
 * ```ts
 * import { writeAtomic } from "jsr:@x/portalock";
 *
 * await writeAtomic("settings.json", "{}", { replace: true });
 * ```
 *
 * @param path Where the file will be.
 * @param data Bytes, or text that becomes UTF-8.
 * @param options Whether to replace, with which permissions, how durably.
 * @throws {AlreadyExists} If there is such a file and it is not to be
 * replaced, also one that appears meanwhile. Nothing is kept then.
 * @throws Whatever {@linkcode openAtomic} throws, and the runtime's own error
 * if the system refuses; then nothing is left but the old file.
 */
export async function writeAtomic(
  path: string | URL,
  data: Uint8Array | string,
  options?: AtomicOptions,
): Promise<void> {
  await runAsync(write(path, data, options));
}

/** {@linkcode writeAtomic}, blocking the thread. */
export function writeAtomicSync(
  path: string | URL,
  data: Uint8Array | string,
  options?: AtomicOptions,
): void {
  runSync(write(path, data, options));
}

function* write(
  path: string | URL,
  data: Uint8Array | string,
  options: AtomicOptions | undefined,
): Gen<void> {
  const name = filePath(path);
  const bytes = typeof data === "string"
    ? encode(data)
    : checkBytes("data", data);
  const pending = yield* beginWrite(name, atomicSettings(options));
  try {
    yield* writeAll(pending.tempFile.file, bytes);
  } catch (error) {
    yield* discardTempFile(pending.tempFile);
    throw error;
  }
  yield* commit(pending, false);
}
