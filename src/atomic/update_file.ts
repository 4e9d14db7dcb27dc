/** `updateFile`: read, change and replace a file, one after the other. */

import { inspect } from "node:util";
import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { findDestination, makeDirectories } from "./destination.ts";
import { atomicSettings } from "./options.ts";
import type { AtomicOptions } from "./options.ts";
import { writeAtomic } from "./atomic_file.ts";
import { formatSubject, LockException, toOpenError } from "../core/errors.ts";
import { readAll } from "../file/file_io.ts";
import { Lock } from "../lock/lock.ts";
import {
  ACQUIRE_OPTIONS,
  resolveAcquireOptions,
  WAIT_FOREVER,
} from "../options/acquire_options.ts";
import {
  checkFunction,
  filePath,
  rejectUnknownOptions,
} from "../options/validate.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import { parseMode } from "../options/open_mode.ts";
import { op, runAsync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

/** How to wait for a file that is to be changed, and how to write it. */
export interface UpdateOptions
  extends AcquireOptions, Omit<AtomicOptions, "replace"> {
  /**
   * What the content is: text, or with `null` bytes.
   *
   * @default {"utf8"}
   */
  encoding?: "utf8" | null;
}

const UPDATE_OPTIONS = [
  ...ACQUIRE_OPTIONS,
  "encoding",
  "creationMode",
  "durable",
] as const satisfies readonly (keyof UpdateOptions)[];

const READ = parseMode("r");

/** The locks that somebody in this thread uses, by path. */
const activeLocks = new Map<string, { lock: Lock; users: number }>();

/**
 * Changes a file: locks, reads, lets a function compute the new content,
 * replaces the file by it in one step, and releases.
 *
 * However many processes and tasks do so at once, no update is lost, and who
 * reads the file without a lock reads it whole, old or new. If the process dies
 * the file is what it was, or what it was to become. When the function throws,
 * or returns what it was given, the file stays as it is.
 *
 * Since a replaced file is another one, the lock sits beside it: on the path of
 * the file with `.lock` added, of the target if the path is a symbolic link. It
 * is a {@linkcode Lock} like any other, which stays there; whoever changes the
 * file by other means, in whatever language, should hold it meanwhile. Calling
 * `updateFile` for the same file inside of the function waits until the
 * timeout.
 *
 * @example
 * ```ts
 * import { updateFile } from "jsr:@x/portalock";
 *
 * await updateFile("visits.json", (text) => {
 *   const { visits } = JSON.parse(text || '{ "visits": 0 }');
 *   return JSON.stringify({ visits: visits + 1 });
 * });
 * ```
 *
 * @param path The file. It need not exist, nor the directories above it.
 * @param change Is given the content, `""` of a new file, and returns or
 * promises the new one. Others wait meanwhile.
 * @param options How long to wait, and how to write.
 * @throws {AlreadyLocked} If somebody else still holds the lock when the wait
 * is over.
 * @throws {LockException} If the file is no UTF-8 (then pass `encoding: null`),
 * and whatever {@linkcode Lock.acquire} and {@linkcode writeAtomic} throw.
 * @throws {TypeError} If an option, the path or the new content is of the wrong
 * type, or the option unknown.
 * @throws What the function throws.
 */
export function updateFile(
  path: string | URL,
  change: (readContent: string) => string | Promise<string>,
  options?: UpdateOptions & { encoding?: "utf8" },
): Promise<void>;
/**
 * {@linkcode updateFile} for bytes.
 *
 * @example
 * ```ts
 * import { updateFile } from "jsr:@x/portalock";
 *
 * await updateFile("flags.bin", (bytes) => Uint8Array.of(...bytes, 1), {
 *   encoding: null,
 * });
 * ```
 */
export function updateFile(
  path: string | URL,
  change: (readContent: Uint8Array) => Uint8Array | Promise<Uint8Array>,
  options: UpdateOptions & { encoding: null },
): Promise<void>;
export async function updateFile(
  path: string | URL,
  change: (readContent: never) => unknown,
  options: UpdateOptions = {},
): Promise<void> {
  const name = filePath(path);
  rejectUnknownOptions(options, UPDATE_OPTIONS);
  const { encoding = "utf8", creationMode, durable, ...acquire } = options;
  if (encoding !== "utf8" && encoding !== null) {
    throw new RangeError(
      `encoding must be "utf8" or null, not ${inspect(encoding)}`,
    );
  }
  const text = encoding !== null;
  const writing = atomicSettings({ creationMode, durable, replace: true });
  resolveAcquireOptions(acquire, WAIT_FOREVER);
  checkFunction("change", change);
  const { path: target, directory } = await runAsync(
    findDestination(name, true),
  );
  await runAsync(makeDirectories(directory, writing.durable));
  await withFileLock(`${target}.lock`, acquire, async () => {
    const bytes = await runAsync(readContent(target));
    const old = text ? decodeUtf8(name, bytes) : bytes;
    const next = await change(old as never);
    checkContent(next, text);
    // Bytes may well have been changed in their place.
    if (!text || next !== old) await writeAtomic(target, next, writing);
  });
}

/** All tasks of this thread share one lock, so only one of them competes. */
async function withFileLock(
  path: string,
  options: AcquireOptions,
  body: () => Promise<void>,
): Promise<void> {
  const active = activeLocks.get(path) ?? { lock: new Lock(path), users: 0 };
  activeLocks.set(path, active);
  active.users++;
  try {
    await active.lock.run(body, options);
  } finally {
    if (--active.users === 0) activeLocks.delete(path);
  }
}

function* readContent(path: string): Gen<Uint8Array> {
  let file: PlatformFile;
  try {
    const system = platform();
    file = yield* op(
      {
        async: () => system.open(path, READ, 0),
        sync: () => system.openSync(path, READ, 0),
      },
    );
  } catch (error) {
    if (errorCode(error) === "ENOENT") return new Uint8Array();
    throw toOpenError({ path }, error, "write");
  }
  try {
    return yield* readAll(file);
  } finally {
    yield* op({ async: () => file.close(), sync: () => file.closeSync() });
  }
}

/** What is no UTF-8 would come back changed. */
function decodeUtf8(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
      .decode(bytes);
  } catch (cause) {
    throw new LockException(
      `Cannot update ${
        formatSubject({ path })
      }: it is no UTF-8; use encoding null`,
      { path, cause },
    );
  }
}

function checkContent(
  readContent: unknown,
  text: boolean,
): asserts readContent is string | Uint8Array {
  if (
    text ? typeof readContent === "string" : readContent instanceof Uint8Array
  ) {
    return;
  }
  throw new TypeError(
    `change must return a ${text ? "string" : "Uint8Array"}, not ${
      inspect(readContent)
    }`,
  );
}
