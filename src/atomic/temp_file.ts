/**
 * Temporary files, and the removal of those that dead processes left.
 *
 * A writer locks its temporary file until the file is published. So if a
 * cleaner can lock a temporary file, its writer is dead. This does not depend
 * on the age of the file, nor on a PID that another process may have by now. A
 * cleaner is the next writer in the directory. It removes only a file that it
 * has locked and that the path still names, and it keeps the lock until the
 * file is removed. Names are random and never reused, so the path cannot name
 * another file between this check and the removal.
 *
 * The cleaner runs while the writer holds the lock:
 *
 * - W.1 The writer creates and locks the file.
 * - C.2 The cleaner opens the file, and fails to lock it. It leaves the file.
 *
 * The cleaner locks the file before the writer does:
 *
 * - W.1 The writer creates the file.
 * - C.2 The cleaner opens and locks the file.
 * - W.3 The writer fails to lock the file. It tries another name.
 *
 * The cleaner removes the file before the writer locks it:
 *
 * - W.1 The writer creates the file.
 * - C.2 The cleaner opens, locks, unlinks and closes the file.
 * - W.3 The writer locks the file, and finds that its path does not name it
 *   anymore. It tries another name.
 *
 * The writer publishes the file while the cleaner has it open:
 *
 * - C.1 The cleaner opens the file.
 * - W.2 The writer publishes the file and releases its lock.
 * - C.3 The cleaner locks the file, and finds that the temporary path does not
 *   name it anymore. It releases the lock. For this moment, the lock of the
 *   published file is held: programs should lock another file beside it.
 *
 * The writer crashes between link(2) and unlink(2):
 *
 * - W.1 The writer links the file to its destination, and crashes.
 * - C.2 The cleaner locks the file and unlinks its temporary name. The
 *   destination is not changed.
 *
 * A program locks the published file after such a crash:
 *
 * - W.1 The writer links the file to its destination, and crashes.
 * - P.2 A program locks the destination, which is the same inode.
 * - C.3 The cleaner fails to lock the file. A later cleaner removes its
 *   temporary name.
 *
 * If the file system does not support locks, temporary files stay.
 *
 * @module
 */

import { randomBytes } from "node:crypto";
import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type {
  LockerSettings,
  OpenMode,
  PlatformFile,
} from "../../ffi/types.ts";
import { formatSubject, LockException } from "../core/errors.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { childPath } from "../core/paths.ts";
import { ignoreErrors, op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { lstatOrNull, readDir, unlink } from "./fs_ops.ts";
import { FORGIVEN } from "./refusals.ts";

/** The names of the files that a cleaner opens. */
const TEMP_FILE_NAME = /^\.portalock\.[0-9a-f]{16}\.tmp$/;

/** Another process would have to lock every new file to exceed this limit. */
const MAX_NAME_ATTEMPTS = 100;

const NEW: OpenMode = {
  read: true,
  write: true,
  append: false,
  create: true,
  exclusive: true,
};
const EXISTING: OpenMode = { ...NEW, create: false, exclusive: false };

/**
 * On Windows, LockFileEx prevents other processes from reading the locked
 * bytes. So the lock is on a byte behind any content, and the published file
 * can be read while it is still locked.
 */
const TEMP_FILE_LOCK: LockerSettings = {
  name: "flock",
  range: { start: 2 ** 52, length: 1 },
};

/** A temporary file that is not published yet. */
export interface TempFile {
  readonly path: string;
  readonly file: PlatformFile;
  /** `false` if the file system does not support locks. */
  readonly locked: boolean;
  /** Set if it is not on a disk, because its directory is not writable. */
  readonly inMemory?: true;
}

/**
 * Returns a new random file name. It does not contain the name of the
 * destination, so that it never exceeds the limit of the file system.
 */
export function randomName(extension: "tmp" | "kept"): string {
  return `.portalock.${randomBytes(8).toString("hex")}.${extension}`;
}

/** Creates a temporary file and locks it. */
export function* createTempFile(
  directory: string,
  creationMode: number,
): Gen<TempFile> {
  for (let attempt = 0; attempt < MAX_NAME_ATTEMPTS; attempt++) {
    const path = childPath(directory, randomName("tmp"));
    const tempFile = yield* tryCreateTempFile(path, creationMode);
    if (tempFile !== null) return tempFile;
  }
  throw new LockException(
    `Cannot create a temporary file in ${
      formatSubject({ path: directory })
    }: another process locked ${MAX_NAME_ATTEMPTS} new files`,
    { path: directory, code: "EWOULDBLOCK" },
  );
}

/** Removes a temporary file, if it still exists, and closes it. */
export function* discardTempFile({ path, file }: TempFile): Gen<void> {
  yield* ignoreErrors(unlink(path));
  yield* ignoreErrors(unlockAndClose(file));
}

/** Removes the temporary files of dead processes. Never throws. */
export function* removeStaleTempFiles(directory: string): Gen<void> {
  let names: string[];
  try {
    names = yield* readDir(directory);
  } catch {
    return;
  }
  for (const name of names) {
    if (TEMP_FILE_NAME.test(name)) {
      yield* ignoreErrors(removeIfStale(childPath(directory, name)));
    }
  }
}

/** Returns `null` if a cleaner locked the file first, or the name exists. */
function* tryCreateTempFile(
  path: string,
  creationMode: number,
): Gen<TempFile | null> {
  const file = yield* createFile(path, creationMode);
  if (file === null) return null;
  try {
    const locked = tryLock(file);
    if (locked === null) return { path, file, locked: false };
    if (locked && file.isStillAt(path)) return { path, file, locked };
    yield* discardTempFile({ path, file, locked });
    return null;
  } catch (error) {
    yield* discardTempFile({ path, file, locked: false });
    throw error;
  }
}

function* createFile(
  path: string,
  creationMode: number,
): Gen<PlatformFile | null> {
  const system = platform();
  try {
    return yield* op({
      async: () => system.open(path, NEW, creationMode, TEMP_FILE_LOCK),
      sync: () => system.openSync(path, NEW, creationMode, TEMP_FILE_LOCK),
    });
  } catch (error) {
    if (errorCode(error) === "EEXIST") return null;
    throw error;
  }
}

/** Returns `null` if the file system does not support locks. */
function tryLock(file: PlatformFile): boolean | null {
  try {
    return file.tryLock(true);
  } catch (error) {
    if (FORGIVEN.lock.includes(errorCode(error))) return null;
    throw error;
  }
}

function* removeIfStale(path: string): Gen<void> {
  const info = yield* lstatOrNull(path);
  if (!info?.isFile()) return;
  const file = yield* openStale(path);
  try {
    // The writer may have published the file meanwhile, or another cleaner
    // removed it. From here on neither can, because they need the lock.
    if (tryLock(file) && file.isStillAt(path)) yield* unlink(path);
  } finally {
    yield* unlockAndClose(file);
  }
}

/**
 * Opens for writing, which NFS requires for an exclusive lock, or else for
 * reading.
 */
function* openStale(path: string): Gen<PlatformFile> {
  const system = platform();
  const open = (write: boolean) => {
    const mode = { ...EXISTING, write, noFollow: true };
    return op({
      async: () => system.open(path, mode, 0, TEMP_FILE_LOCK),
      sync: () => system.openSync(path, mode, 0, TEMP_FILE_LOCK),
    });
  };
  try {
    return yield* open(true);
  } catch (error) {
    const code = errorCode(error);
    // Windows reports EPERM for a read-only file.
    if (code !== "EACCES" && code !== "EPERM") throw error;
    return yield* open(false);
  }
}
