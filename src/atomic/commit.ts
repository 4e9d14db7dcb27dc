/** How a temporary file becomes the file that it was written for. */

import { closeSync } from "node:fs";
import type { Stats } from "node:fs";
import { toOpenError } from "../core/errors.ts";
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
  link,
  lstatOrNull,
  openDirectory,
  rename,
  statOf,
  syncDirectory,
  unlink,
} from "./fs_ops.ts";
import {
  createTempFile,
  discardTempFile,
  randomName,
  removeStaleTempFiles,
} from "./temp_file.ts";
import type { TempFile } from "./temp_file.ts";
import type { AtomicOptions } from "./options.ts";
import { errorCode } from "../../ffi/types.ts";

/** What a file system says that has no hard links, or none left. */
const LINK_UNSUPPORTED = [
  // An invalid function, as libuv names that on Windows.
  "EISDIR",
  "EMLINK",
  "ENOSYS",
  "ENOTSUP",
  "EOPNOTSUPP",
  "EPERM",
];

/** What the system says to those who may not give files away. */
const CHOWN_DENIED = [
  "EACCES",
  "EINVAL",
  "ENOSYS",
  "ENOTSUP",
  "EOPNOTSUPP",
  "EPERM",
];

/** An atomic write that has begun. */
export interface PendingWrite {
  readonly tempFile: TempFile;
  readonly destination: Destination;
  readonly settings: Required<AtomicOptions>;
}

/** Makes the temporary file, once everything else is found to be in order. */
export function* beginWrite(
  path: string,
  settings: Required<AtomicOptions>,
): Gen<PendingWrite> {
  const destination = yield* findDestination(path, settings.replace);
  const { directory, old } = destination;
  yield* removeStaleTempFiles(directory);
  // Whoever was not to read the old content is not to read the new one.
  const creationMode = old ? 0o600 : settings.creationMode;
  let tempFile: TempFile;
  try {
    tempFile = yield* createTempFile(directory, creationMode);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") {
      throw toOpenError({ path }, error, "write");
    }
    yield* makeDirectories(directory, settings.durable);
    tempFile = yield* createTempFile(directory, creationMode);
  }
  try {
    if (old) yield* copyOwnership(tempFile, old);
  } catch (error) {
    yield* discardTempFile(tempFile);
    throw error;
  }
  return { tempFile, destination, settings };
}

/**
 * Publishes what was written, or removes it. `keep` puts it aside if somebody
 * else was faster.
 */
export function* commit(pending: PendingWrite, keep: boolean): Gen<void> {
  const { tempFile, destination, settings: { durable } } = pending;
  // Opened before: what fails later would fail with the file published.
  let directory: number | null = null;
  try {
    if (durable) {
      yield* op(
        {
          async: () => tempFile.file.sync(false),
          sync: () => tempFile.file.syncSync(false),
        },
      );
      directory = yield* openDirectory(destination.directory);
    }
    if (!(yield* linkOrRename(pending))) {
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
  { file, locked }: TempFile,
  directory: number | null,
): Gen<void> {
  try {
    // First, so that others can lock the file that they see already.
    yield* locked
      ? unlockAndClose(file)
      : op({ async: () => file.close(), sync: () => file.closeSync() });
    if (directory !== null) yield* syncDirectory(directory);
  } finally {
    if (directory !== null) closeSync(directory);
  }
}

/** Gives the temporary file its name; `false` if that is taken. */
function* linkOrRename(
  { tempFile, destination, settings }: PendingWrite,
): Gen<boolean> {
  const { path } = destination;
  if (!settings.replace) {
    try {
      yield* link(tempFile.path, path);
      yield* ignoreErrors(unlink(tempFile.path));
      return true;
    } catch (error) {
      const code = errorCode(error)!;
      if (code === "EEXIST") return false;
      if (!LINK_UNSUPPORTED.includes(code)) throw error;
      if (yield* lstatOrNull(path)) return false;
    }
  }
  yield* rename(tempFile.path, path);
  return true;
}

/** Puts the content where no cleaner takes it; `null` if even that fails. */
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

/** Gives the temporary file the owner and permissions of the old one. */
function* copyOwnership({ path, file }: TempFile, old: Stats): Gen<void> {
  const mine = yield* statOf(path, file);
  // Deno tells of no owners where Windows has none, nor can it change bits.
  if (mine.uid === null) return;
  const it = { path, fd: file.fd };
  const ownerKept = mine.uid === old.uid && mine.gid === old.gid ||
    (yield* tryChown(it, old.uid, old.gid));
  const groupKept = ownerKept || mine.gid === old.gid ||
    (yield* tryChown(it, -1, old.gid));
  let mode = old.mode & 0o7777;
  // Set-user-ID would lend out somebody else, the group's bits another group.
  if (!ownerKept) mode &= 0o1777;
  if (!groupKept) mode &= 0o1707 | (mode & 0o007) << 3;
  yield* changeMode(it, mode);
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
    if (CHOWN_DENIED.includes(errorCode(error)!)) return false;
    throw error;
  }
}
