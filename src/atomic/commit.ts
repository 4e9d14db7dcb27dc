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
import { toOpenError, UNSUPPORTED_CODES } from "../core/errors.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { childPath } from "../core/paths.ts";
import { ignoreErrors, op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import {
  alreadyExists,
  findDestination,
  makeDirectories,
} from "./destination.ts";
import type { Destination } from "./destination.ts";
import {
  changeMode,
  changeOwner,
  identifyDirectory,
  link,
  lstatOrNull,
  openDirectory,
  rename,
  statOf,
  syncDirectory,
} from "./fs_ops.ts";
import type { DirectoryId } from "./fs_ops.ts";
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
import type { AtomicSettings } from "./options.ts";
import { errorCode } from "../../ffi/types.ts";

/**
 * The codes of file systems that do not support hard links, or not another one
 * for this file. libuv converts ERROR_INVALID_FUNCTION of Windows to `EISDIR`.
 */
export const LINK_UNSUPPORTED: readonly unknown[] = [
  ...UNSUPPORTED_CODES,
  "EISDIR",
  "EMLINK",
  "EPERM",
];

/** The codes of processes that may not change the owner of a file. */
const CHOWN_DENIED: readonly unknown[] = [
  ...UNSUPPORTED_CODES,
  "EACCES",
  "EINVAL",
  "EPERM",
];

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
  // A user that cannot read the old content must not read the new content.
  const creationMode = old ? 0o600 : settings.creationMode;
  let tempFile: TempFile;
  try {
    tempFile = yield* createTempFile(directory, creationMode);
  } catch (error) {
    throw toOpenError({ path }, error, "write");
  }
  try {
    if (old) yield* copyOwnership(tempFile, old);
  } catch (error) {
    yield* discardTempFile(tempFile);
    throw error;
  }
  const key = orderKey(destination, directory);
  return { tempFile, destination, settings, key };
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
  const { tempFile, destination, settings: { durable } } = pending;
  let directory: number | null = null;
  try {
    if (durable) {
      yield* op({
        async: () => tempFile.file.sync(false),
        sync: () => tempFile.file.syncSync(false),
      });
      directory = yield* openDirectory(destination.directory);
    }
    const publication = { ...pending, call, replace: pending.settings.replace };
    if (
      !(yield* publishInOrder(publication, () => linkOrRename(pending)))
    ) {
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
  { tempFile, destination, settings }: PendingWrite,
): Gen<boolean> {
  const { path } = destination;
  if (!settings.replace) {
    try {
      yield* link(tempFile.path, path);
      yield* unlinkTempFile(tempFile);
      return true;
    } catch (error) {
      const code = errorCode(error);
      if (code === "EEXIST") return false;
      if (!LINK_UNSUPPORTED.includes(code)) throw error;
      if (yield* lstatOrNull(path)) return false;
    }
  }
  yield* rename(tempFile.path, path);
  return true;
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

/** Copies the owner, the group and the permission bits of the old file. */
function* copyOwnership({ path, file }: TempFile, old: Stats): Gen<void> {
  const info = yield* statOf(path, file);
  // On Windows, Deno does not report owners and cannot change permissions.
  if (info.uid === null) return;
  const target = { path, fd: file.fd };
  const ownerKept = info.uid === old.uid && info.gid === old.gid ||
    (yield* tryChown(target, old.uid, old.gid));
  const groupKept = ownerKept || info.gid === old.gid ||
    (yield* tryChown(target, -1, old.gid));
  let mode = old.mode & 0o7777;
  // With another owner, drop set-user-ID and set-group-ID. With another group,
  // the group keeps only the permissions that other users have.
  if (!ownerKept) mode &= 0o1777;
  if (!groupKept) mode &= 0o1707 | (mode & 0o007) << 3;
  yield* changeMode(target, mode);
}

function* tryChown(
  file: { path: string; fd: number | null },
  uid: number,
  gid: number,
): Gen<boolean> {
  try {
    yield* changeOwner(file, uid, gid);
    return true;
  } catch (error) {
    if (CHOWN_DENIED.includes(errorCode(error))) return false;
    throw error;
  }
}
