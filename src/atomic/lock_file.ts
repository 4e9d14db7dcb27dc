/**
 * The lock file of `updateFile`, and which users may lock it.
 *
 * A user who can open the lock file can hold its lock for any time. So the lock
 * file has the owner of the file, and it can be opened by the users who may
 * change the file: by write permission, or because they may replace it in its
 * directory. A user who may only read the file cannot open its lock file. If the
 * file has an access list, so has its lock file.
 *
 * A lock file without its final rights must not be visible:
 *
 * - R.1 A process of root creates `a.json.lock`, owned by root.
 * - P.2 A process of the owner of `a.json` fails to open the lock file.
 * - R.3 The first process changes the owner of the lock file.
 *
 * So it is created under a temporary name, and published by link(2). Another
 * process may do the same:
 *
 * - P.1 The first process finds no lock file, and creates a temporary one.
 * - Q.2 The second process does the same, and links its file to `a.json.lock`.
 * - P.3 The first process fails to link its file, with `EEXIST`. It removes the
 *   file, and opens the lock file of the second process.
 *
 * A cleaner may remove the temporary file before it is linked, because it is
 * unlocked before. Then link(2) fails with `ENOENT`, and the process tries
 * again. File systems without hard links do not have owners or cannot change
 * them, so there the lock file is created at its path.
 *
 * Neither step follows a symbolic link at the path of the lock file or changes
 * a file that existed before. A process of root would otherwise do so to any
 * file on behalf of the owner of the directory.
 *
 * @module
 */

import type { Stats } from "node:fs";
import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type { PlatformFile, SystemError } from "../../ffi/types.ts";
import { formatSubject, LockException, toOpenError } from "../core/errors.ts";
import { op, runAsync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { siblingPath } from "../core/paths.ts";
import { isCallerError } from "../core/stack.ts";
import type { LockedFile } from "../file/locked_file.ts";
import { Lock } from "../lock/lock.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import { parseMode } from "../options/open_mode.ts";
import { runInTime } from "../wait/in_time.ts";
import type { SlowStep } from "../wait/in_time.ts";
import { readAccess, settleList, writersOnly } from "./access.ts";
import type { Access } from "./access.ts";
import type { Destination } from "./destination.ts";
import {
  changeMode,
  changeOwner,
  identifyDirectory,
  link,
  statOf,
  statPath,
} from "./fs_ops.ts";
import { allowed, FORGIVEN } from "./refusals.ts";
import { createTempFile, discardTempFile } from "./temp_file.ts";

/** Other processes would have to remove new lock files to exceed this limit. */
const MAX_CREATIONS = 10;

const DENIED: readonly unknown[] = ["EACCES", "EPERM"];

const NEW = { ...parseMode("x+"), noFollow: true };

/** The lock of a file that tasks of this thread hold or wait for. */
export interface SharedLock {
  /** Opens the lock file for writing, or for reading if that is denied. */
  lock: Lock;
  /** Whether the lock opens the file for reading. */
  readOnly: boolean;
  /** The number of the tasks. */
  users: number;
}

/** The owner and the permission bits of a file. */
type Rights = Pick<Stats, "uid" | "gid" | "mode">;

/** Returns the path of the lock file of a file. */
export function lockFileOf(path: string): string {
  return siblingPath(path, ".lock");
}

/** Returns the lock on a lock file. Opens the file only if it exists. */
export function newSharedLock(path: string): SharedLock {
  return { lock: new Lock(path, { mode: "r+" }), readOnly: false, users: 0 };
}

/**
 * Acquires the lock. Creates the lock file if it does not exist.
 *
 * @param creation The permission bits of a new file, if the destination does not
 * exist, and how long its creation may take.
 */
export async function acquireLockFile(
  shared: SharedLock,
  options: AcquireOptions,
  destination: Destination,
  { creationMode, step }: { creationMode: number; step: SlowStep<void> },
): Promise<LockedFile> {
  const { path } = shared.lock;
  for (let creations = 0;;) {
    const { lock, readOnly } = shared;
    try {
      return await lock.acquire(options);
    } catch (error) {
      if (isCallerError(error)) throw error;
      const code = errorCode(error);
      if (code === "ENOENT" && creations++ < MAX_CREATIONS) {
        const creation = createLockFile(path, destination, creationMode);
        await runAsync(runInTime(creation, step));
      } else if (!DENIED.includes(code) || !tryReadOnly(shared, lock)) {
        throw explainDenied(path, readOnly, error);
      }
    }
  }
}

/**
 * Lets the tasks lock a file that they may only read, which flock(2) permits.
 * Returns `false` if that is not permitted either.
 */
function tryReadOnly(shared: SharedLock, failed: Lock): boolean {
  // Another task may have replaced the lock meanwhile.
  if (shared.lock !== failed) return true;
  if (shared.readOnly) return false;
  shared.lock = new Lock(failed.path, { mode: "r" });
  shared.readOnly = true;
  return true;
}

/** The error for a lock file that exists, but may not be opened. */
export class LockFileDenied extends LockException {}

/** NFS requires a file open for writing: see flock(2), "NFS details". */
function explainDenied(
  path: string,
  readOnly: boolean,
  cause: unknown,
): unknown {
  const code = errorCode(cause);
  if (DENIED.includes(code)) {
    const { message, errno } = cause as SystemError;
    return new LockFileDenied(
      `Cannot lock ${formatSubject({ path })}: ${message}; change its owner ` +
        "or its permission bits",
      { path, code, errno, cause },
    );
  }
  if (code !== "EBADF" || !readOnly) return cause;
  return new LockException(
    `Cannot lock ${formatSubject({ path })}: this user may only read it, but ` +
      `this file system requires write permission for an exclusive lock ` +
      `(${code}); change the owner or the permission bits of the lock file`,
    { path, code, cause },
  );
}

/** Creates the lock file, unless another process does so meanwhile. */
export function* createLockFile(
  path: string,
  destination: Destination,
  creationMode: number,
): Gen<void> {
  const { directory } = destination;
  const bits = destination.old ? 0o600 : creationMode;
  const adopt = (file: NewFile) => adoptRights(file, destination);
  try {
    yield* linkLockFile(path, directory, bits, adopt);
  } catch (error) {
    const code = errorCode(error);
    if (code === "EEXIST" || code === "ENOENT") return;
    const unsupported: readonly unknown[] = FORGIVEN.link;
    if (!unsupported.includes(code)) throw toOpenError({ path }, error);
    yield* createInPlace(path, bits, adopt);
  }
}

function* linkLockFile(
  path: string,
  directory: string,
  bits: number,
  adopt: (file: NewFile) => Gen<void>,
): Gen<void> {
  const parent = yield* identifyDirectory(directory);
  const tempFile = yield* createTempFile(parent, bits);
  try {
    yield* adopt(tempFile);
    // A waiter would find the published file locked.
    if (tempFile.locked) tempFile.file.unlock();
    yield* link(tempFile.path, path);
  } finally {
    yield* discardTempFile(tempFile);
  }
}

function* createInPlace(
  path: string,
  bits: number,
  adopt: (file: NewFile) => Gen<void>,
): Gen<void> {
  const system = platform();
  let file: PlatformFile;
  try {
    file = yield* op({
      async: () => system.open(path, NEW, bits),
      sync: () => system.openSync(path, NEW, bits),
    });
  } catch (error) {
    if (errorCode(error) === "EEXIST") return;
    throw toOpenError({ path }, error);
  }
  try {
    yield* adopt({ path, file });
  } finally {
    yield* op({ async: () => file.close(), sync: () => file.closeSync() });
  }
}

/** A file that this process has just created. */
interface NewFile {
  readonly path: string;
  readonly file: PlatformFile;
}

/** Gives a new lock file the owner and the permission bits that it must have. */
function* adoptRights(
  { path, file }: NewFile,
  destination: Destination,
): Gen<void> {
  const { uid, gid, mode } = yield* statOf(path, file);
  // On Windows, Deno does not report owners and cannot change permissions.
  if (uid === null || gid === null || mode === null) return;
  const { directory, old } = destination;
  const own = old && readAccess(destination.path, old);
  const parent = readAccess(directory, yield* statPath(directory));
  const rights = own ? withoutMask(own) : { uid, gid, mode };
  const wanted = lockRights(rights, withoutMask(parent));
  const target = { path, fd: file.fd };
  const hasGroup = uid === wanted.uid && gid === wanted.gid ||
    (yield* allowed("chown", changeOwner(target, wanted.uid, wanted.gid))) ||
    gid === wanted.gid ||
    (yield* allowed("chown", changeOwner(target, -1, wanted.gid)));
  // The directory may have a default list, which the file has inherited.
  const cleared = settleList(file.fd, null) !== "refused";
  const bits = hasGroup && cleared ? wanted.mode : wanted.mode & ~0o070;
  yield* allowed("chmod", changeMode(target, bits));
  const list = hasGroup && own?.list && writersOnly(own.list, bits & 0o007);
  if (list) settleList(file.fd, list);
}

/** With an access list, the bits of the group are those of its mask. */
function withoutMask({ uid, gid, mode, list }: Access): Rights {
  return { uid, gid, mode: list ? mode & ~0o070 : mode };
}

/**
 * Returns the rights of the lock file of a file. Users may lock it if they may
 * write the file, or read it and replace it in its directory.
 */
export function lockRights(file: Rights, directory: Rights): Rights {
  // In a sticky directory, only the owners may replace a file: see inode(7).
  const replacers = directory.mode & 0o1000 ? 0 : directory.mode;
  const allRead = (file.mode & 0o004) !== 0;
  // Root does not need permissions, but the owner of the directory does.
  const uid = file.uid === 0 && allRead ? directory.uid : file.uid;
  let { gid } = file;
  let mode = 0o600;
  if (file.mode & 0o020) mode |= 0o060;
  else if (replacers & 0o020 && groupReads(file, directory)) {
    gid = directory.gid;
    mode |= 0o060;
  }
  if (file.mode & 0o002 || replacers & 0o002 && allRead) mode |= 0o006;
  return { uid, gid, mode };
}

/** Returns whether the group of the directory may read the file. */
function groupReads(file: Rights, directory: Rights): boolean {
  const bit = file.gid === directory.gid ? 0o040 : 0o004;
  return (file.mode & bit) !== 0;
}
