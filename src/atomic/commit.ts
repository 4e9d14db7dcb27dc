/**
 * An atomic write from its beginning to the commit, which publishes the
 * temporary file under its destination.
 *
 * Without `replace`, the file is published by link(2), because only link(2)
 * checks and creates a name in one step. Consider two processes that check
 * first and then call rename(2):
 *
 * - P.1 The first process finds that `a.txt` does not exist.
 * - Q.2 The second process finds the same.
 * - P.3 The first process renames its temporary file to `a.txt`.
 * - Q.4 The second process does so, too, and replaces the file of the first.
 *
 * With link(2), step Q.4 fails with `EEXIST`. Its content is then renamed to a
 * name that ends in `.kept`, which no cleaner removes. File systems without
 * hard links permit only the check, and the documentation of `openAtomic` says
 * so.
 *
 * The directory is opened before the file is published, and synced after that.
 * So if the process has too many open files, the write fails before it changed
 * anything.
 *
 * @module
 */

import { closeSync } from "node:fs";
import type { Stats } from "node:fs";
import { toOpenError } from "../core/errors.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { childPath } from "../core/paths.ts";
import { ignoreErrors, op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { copyAccess, creationBits, isUnchanged, readAccess } from "./access.ts";
import type { Access } from "./access.ts";
import {
  alreadyExists,
  findDestination,
  makeDirectories,
} from "./destination.ts";
import type { Destination } from "./destination.ts";
import {
  identifyDirectory,
  link,
  lstatOrNull,
  openDirectory,
  rename,
  syncDirectory,
} from "./fs_ops.ts";
import type { DirectoryId } from "./fs_ops.ts";
import { Irreplaceable, irreplaceable, overwrite } from "./in_place.ts";
import { memoryFile } from "./memory_file.ts";
import { FORGIVEN } from "./refusals.ts";
import {
  createTempFile,
  discardTempFile,
  forgetTempFile,
  randomName,
  removeStaleTempFiles,
  unlinkTempFile,
} from "./temp_file.ts";
import type { TempFile } from "./temp_file.ts";
import { orderKey, publishInOrder } from "./write_order.ts";
import type { Turn } from "./write_order.ts";
import type { AtomicSettings } from "./options.ts";
import { errorCode } from "../../ffi/types.ts";

/** How often the access of a file that changes all the time is copied. */
const MAX_COPIES = 10;

/** An atomic write that is not committed or discarded yet. */
export interface PendingWrite {
  readonly tempFile: TempFile;
  readonly destination: Destination;
  readonly settings: AtomicSettings;
  /** Equal for equal destinations. */
  readonly key: string;
}

/**
 * Checks the destination, removes stale files and creates the temporary file.
 */
export function* beginWrite(
  path: string,
  settings: AtomicSettings,
): Gen<PendingWrite> {
  const destination = yield* findDestination(path, settings.replace);
  const { old } = destination;
  const directory = yield* findDirectory(destination, settings.durable);
  yield* removeStaleTempFiles(directory);
  const tempFile = old
    ? yield* createForOld(destination, directory, old, settings)
    : yield* createNew(path, directory, settings);
  const key = orderKey(destination, directory);
  return { tempFile, destination, settings, key };
}

function* createNew(
  path: string,
  directory: DirectoryId,
  { creationMode }: AtomicSettings,
): Gen<TempFile> {
  try {
    return yield* createTempFile(directory, creationMode);
  } catch (error) {
    throw toOpenError({ path }, error, "write");
  }
}

/** Creates the temporary file with the access of the file that it replaces. */
function* createForOld(
  destination: Destination,
  directory: DirectoryId,
  old: Stats,
  { inPlace }: AtomicSettings,
): Gen<TempFile> {
  const { path } = destination;
  const access = readAccess(path, old);
  let tempFile: TempFile;
  try {
    tempFile = yield* createTempFile(directory, creationBits(access));
  } catch (error) {
    const reported = yield* irreplaceable(destination, error);
    if (!inPlace || !(reported instanceof Irreplaceable)) throw reported;
    return inMemory(destination.directory);
  }
  if (yield* copyAccessOrDiscard(tempFile, access)) return tempFile;
  // The file system refuses chmod(2), but may create a file with these bits.
  yield* discardTempFile(tempFile);
  const exact = yield* createTempFile(directory, access.mode & 0o777);
  yield* copyAccessOrDiscard(exact, access);
  return exact;
}

function* copyAccessOrDiscard(
  tempFile: TempFile,
  access: Access,
): Gen<boolean> {
  try {
    return yield* copyAccess(tempFile, access);
  } catch (error) {
    yield* discardTempFile(tempFile);
    throw error;
  }
}

/** Identifies the directory of a destination, and creates it if necessary. */
function* findDirectory(
  { directory }: Destination,
  durable: boolean,
): Gen<DirectoryId> {
  try {
    return yield* identifyDirectory(directory);
  } catch {
    yield* makeDirectories(directory, durable);
    return yield* identifyDirectory(directory);
  }
}

/** A temporary file in memory. No file has its path. */
function inMemory(directory: string): TempFile {
  const path = childPath(directory, randomName("tmp"));
  return { path, file: memoryFile(), locked: false, inMemory: true };
}

/**
 * Publishes the file, or removes it if that fails. If the destination exists
 * and may not be replaced, `keep` renames the file instead of removing it.
 *
 * @param call The number of the call, from {@linkcode inOrderOfCalls}.
 */
export function* commit(
  pending: PendingWrite,
  keep: boolean,
  call: number,
): Gen<void> {
  const { tempFile, destination, settings } = pending;
  const { durable, replace } = settings;
  let directory: number | null = null;
  try {
    if (durable) {
      yield* op({
        async: () => tempFile.file.sync(false),
        sync: () => tempFile.file.syncSync(false),
      });
      directory = yield* openDirectory(destination.directory);
    }
    const publication = { ...pending, call, replace };
    const publish = (turn: Turn) => linkOrRename(pending, turn);
    if (!(yield* publishInOrder(publication, publish))) {
      const kept = keep ? yield* keepAside(pending) : null;
      if (kept && directory !== null) {
        yield* ignoreErrors(syncDirectory(directory));
      }
      throw alreadyExists(destination.requestedPath, kept);
    }
  } catch (error) {
    yield* discardTempFile(tempFile);
    if (directory !== null) closeSync(directory);
    throw error;
  }
  yield* closeAndSync(tempFile, directory);
}

function* closeAndSync(
  tempFile: TempFile,
  directory: number | null,
): Gen<void> {
  const { file, locked } = tempFile;
  forgetTempFile(tempFile);
  try {
    // Unlock first: other processes already see the file and may lock it.
    yield* locked
      ? unlockAndClose(file)
      : op({ async: () => file.close(), sync: () => file.closeSync() });
    if (directory !== null) yield* syncDirectory(directory);
  } finally {
    if (directory !== null) closeSync(directory);
  }
}

/** Publishes the file. Returns `false` if the destination exists. */
function* linkOrRename(
  pending: PendingWrite,
  turn: Turn,
): Gen<boolean> {
  const { tempFile, destination: { path }, settings } = pending;
  // If a blocking call gives the file another name, publishing it must fail.
  const from = tempFile.path;
  if (!settings.replace) {
    try {
      yield* link(from, path);
      yield* unlinkTempFile(tempFile);
      return true;
    } catch (error) {
      const code = errorCode(error);
      if (code === "EEXIST") return false;
      const unsupported: readonly unknown[] = FORGIVEN.link;
      if (!unsupported.includes(code)) throw error;
      if (yield* lstatOrNull(path)) return false;
      yield* rename(from, path);
      return true;
    }
  }
  if (tempFile.inMemory || !(yield* replace(pending, from))) {
    yield* overwrite(path, tempFile.file, settings, turn);
    yield* unlinkTempFile(tempFile);
  }
  return true;
}

/** Returns `false` if the file cannot be replaced, but may be overwritten. */
function* replace(
  { tempFile, destination, settings }: PendingWrite,
  from: string,
): Gen<boolean> {
  const { path, old } = destination;
  yield* followAccess(tempFile, path, old);
  try {
    yield* rename(from, path);
    return true;
  } catch (error) {
    const reported = yield* irreplaceable(destination, error);
    if (!settings.inPlace || !(reported instanceof Irreplaceable)) {
      throw reported;
    }
    return false;
  }
}

/** Copies the access again if the file that will be replaced has changed. */
function* followAccess(
  tempFile: TempFile,
  path: string,
  old: Stats | null,
): Gen<void> {
  let copied = old;
  for (let copies = 0; copies < MAX_COPIES; copies++) {
    const now = yield* lstatOrNull(path);
    if (!now?.isFile() || copied && isUnchanged(now, copied)) return;
    yield* copyAccess(tempFile, readAccess(path, now));
    copied = now;
  }
}

/** Renames the file to a `.kept` name. Returns `null` if that fails. */
function* keepAside(
  { tempFile, destination }: PendingWrite,
): Gen<string | null> {
  const path = childPath(destination.directory, randomName("kept"));
  try {
    yield* rename(tempFile.path, path);
    return path;
  } catch {
    return null;
  }
}
