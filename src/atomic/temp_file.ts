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
 * Locks do not meet everywhere. Two machines may have the same directory
 * without locks on its server (NFS with `nolock`, CIFS with `nobrl`), and FUSE
 * may not pass locks to the file system below it:
 *
 * - W.1 The writer creates and locks the file through one mount.
 * - C.2 The cleaner opens and locks the file through another mount, or on
 *   another machine. It would remove the file of a living writer.
 *
 * So each name contains a tag, and a cleaner opens only names with its own tag.
 * The tag is a hash of two ids:
 *
 * - The id of the machine. It is that of the boot on Linux and macOS, and the
 *   computer name on Windows.
 * - The device of the directory, `st_dev`. A FUSE or overlay mount has another
 *   device than the directory below it. Bind mounts have the same device.
 *
 * Two writers with the same tag have the same kernel and the same superblock,
 * also in two containers, so their locks meet. What has another tag stays, such
 * as the files that a crash of the system left. Without an id of the machine
 * (Deno without FFI), names are random and a cleaner removes nothing.
 *
 * If the file system does not support locks, the writer gives its file a random
 * name without the tag. The lock may only have failed for a moment, and a later
 * cleaner must not lock a file whose writer could not. These files stay, too.
 *
 * @module
 */

import { renameSync } from "node:fs";
import { dirname } from "node:path";
import { nodeCrypto } from "../core/crypto.ts";
import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type {
  LockerSettings,
  OpenMode,
  Platform,
  PlatformFile,
} from "../../ffi/types.ts";
import { formatSubject, LockException } from "../core/errors.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { onExit } from "../target/exit_cleanup.ts";
import { childPath } from "../core/paths.ts";
import { ignoreErrors, op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import type { DirectoryId } from "./fs_ops.ts";
import { lstatOrNull, readDir, rename, unlink } from "./fs_ops.ts";
import { FORGIVEN } from "./refusals.ts";

/** The digits of a temporary name: the tag, and as many random ones. */
const NAME_DIGITS = 16;
const TAG_DIGITS = 8;

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
  /** Changes if the file is renamed before it is published. */
  path: string;
  readonly file: PlatformFile;
  /** `false` if the file system does not support locks. */
  readonly locked: boolean;
  /** Set if it is not on a disk, because its directory is not writable. */
  readonly inMemory?: true;
}

/**
 * Returns a new random file name. It does not contain the name of the
 * destination, so that it never exceeds the limit of the file system.
 *
 * @param tag The first digits.
 */
export function randomName(extension: "tmp" | "kept", tag = ""): string {
  const digits = nodeCrypto().randomBytes((NAME_DIGITS - tag.length) / 2)
    .toString("hex");
  return `.portalock.${tag}${digits}.${extension}`;
}

/** The tag that was computed last. */
let latestTag: { system: Platform; dev: string; tag: string | null } | null =
  null;

/** Returns the tag of a directory, or `null` if this machine does not have an id. */
function tagOf({ dev }: DirectoryId): string | null {
  const system = platform();
  if (latestTag?.system !== system || latestTag.dev !== dev) {
    latestTag = { system, dev, tag: computeTag(system.machineId(), dev) };
  }
  return latestTag.tag;
}

function computeTag(machine: string | null, dev: string): string | null {
  if (machine === null || dev === "") return null;
  const hash = nodeCrypto().createHash("sha256").update(`${machine} ${dev}`)
    .digest("hex");
  return hash.slice(0, TAG_DIGITS);
}

/** Creates a temporary file and locks it. */
export function* createTempFile(
  directory: DirectoryId,
  creationMode: number,
): Gen<TempFile> {
  const tag = tagOf(directory) ?? "";
  for (let attempt = 0; attempt < MAX_NAME_ATTEMPTS; attempt++) {
    const path = childPath(directory.path, randomName("tmp", tag));
    const tempFile = yield* tryCreateTempFile(path, creationMode);
    if (tempFile !== null) {
      removeAtExit(tempFile);
      return tempFile;
    }
  }
  throw new LockException(
    `Cannot create a temporary file in ${
      formatSubject(directory)
    }: another process locked ${MAX_NAME_ATTEMPTS} new files`,
    { path: directory.path, code: "EWOULDBLOCK" },
  );
}

/** Removes a temporary file, if it still exists, and closes it. */
export function* discardTempFile(tempFile: TempFile): Gen<void> {
  yield* unlinkTempFile(tempFile);
  forgetTempFile(tempFile);
  yield* ignoreErrors(unlockAndClose(tempFile.file));
}

/** The files of this thread that are neither published nor discarded. */
const unfinished = new Set<TempFile>();

let cancelRemoval = () => {};

function removeAtExit(tempFile: TempFile): void {
  if (unfinished.size === 0) cancelRemoval = onExit(removeUnfinished);
  unfinished.add(tempFile);
}

/** Does not remove a file at exit anymore. */
export function forgetTempFile(tempFile: TempFile): void {
  if (unfinished.delete(tempFile) && unfinished.size === 0) cancelRemoval();
}

function removeUnfinished(): void {
  for (const { path, file } of unfinished) {
    try {
      file.unlink(path);
    } catch {
      // The file was published a moment ago, or the next writer removes it.
    }
  }
}

/** Removes the temporary name, also if it changes meanwhile. */
export function* unlinkTempFile(tempFile: TempFile): Gen<void> {
  let path: string;
  do {
    path = tempFile.path;
    yield* ignoreErrors(unlink(path));
  } while (path !== tempFile.path);
}

/** Gives a temporary file another name. Blocks the thread. */
export function renameTempFileSync(tempFile: TempFile): void {
  const { path } = tempFile;
  const directory = dirname(path);
  const tag = path.slice(-NAME_DIGITS - ".tmp".length).slice(0, TAG_DIGITS);
  const other = childPath(directory, randomName("tmp", tag));
  renameSync(path, other);
  tempFile.path = other;
}

/** Removes the temporary files of dead processes. Never throws. */
export function* removeStaleTempFiles(directory: DirectoryId): Gen<void> {
  const tag = tagOf(directory);
  if (tag === null) return;
  const stale = new RegExp(`^\\.portalock\\.${tag}[0-9a-f]{8}\\.tmp$`);
  let names: string[];
  try {
    names = yield* readDir(directory.path);
  } catch {
    return;
  }
  for (const name of names) {
    if (stale.test(name)) {
      yield* ignoreErrors(removeIfStale(childPath(directory.path, name)));
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
  const tempFile = { path, file, locked: true };
  try {
    const locked = tryLock(file);
    if (locked === null) return yield* removeTag(tempFile);
    if (locked && file.isStillAt(path)) return tempFile;
  } catch (error) {
    yield* discardTempFile(tempFile);
    // A cleaner has removed the file before its name changed.
    if (errorCode(error) !== "ENOENT") throw error;
    return null;
  }
  yield* discardTempFile(tempFile);
  return null;
}

/** Renames a file that could not be locked, so that no cleaner opens it. */
function* removeTag({ path, file }: TempFile): Gen<TempFile> {
  const untagged = childPath(dirname(path), randomName("tmp"));
  yield* rename(path, untagged);
  return { path: untagged, file, locked: false };
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
