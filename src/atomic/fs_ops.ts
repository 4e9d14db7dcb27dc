/**
 * The file system calls of atomic writes, in both forms.
 *
 * On a local file system, a call in the thread pool takes longer than the
 * system call itself. So if the directory is known to be local, the
 * asynchronous form also makes the call on its own thread. Only writing
 * content, fsync(2) and listing long directories use the pool. A directory is
 * known once a file was opened in it.
 *
 * What publishes or removes a name must not happen after the lock is lost:
 *
 * - P.1 A worker of P holds the lock, and renames its file in the pool.
 * - P.2 P terminates the worker, which closes its files and loses the lock.
 * - Q.3 Q acquires the lock, and reads the old content.
 * - P.4 The pool renames the file.
 *
 * So the worker makes such a call itself. Then it ends, and loses the lock,
 * after the call.
 *
 * @module
 */

import * as fs from "node:fs";
import { dirname } from "node:path";
import { platform, poolOutlivesThread } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type { FileInfo, OpenMode, PlatformFile } from "../../ffi/types.ts";
import { allowed, FORGIVEN } from "./refusals.ts";
import { renameWithRetry } from "../core/windows_retry.ts";
import { op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

const { promises } = fs;

const WRITABLE: OpenMode = {
  read: false,
  write: true,
  append: false,
  create: false,
  exclusive: false,
  noFollow: true,
};

/** The maximum number of names to list without the thread pool. */
const MAX_SMALL_DIRECTORY_NAMES = 200;

/** The maximum size of {@linkcode smallDirectories}. */
const MAX_SMALL_DIRECTORIES = 1000;

/** Directories that had few names when they were last listed. */
const smallDirectories = new Set<string>();

/** A directory, and the numbers that identify it to this process. */
export interface DirectoryId {
  readonly path: string;
  /** The device, or `""` if it is unknown. */
  readonly dev: string;
  /** The inode, or `""` if it is unknown. */
  readonly ino: string;
}

/** Identifies a directory. Throws only if it does not exist. */
export function* identifyDirectory(path: string): Gen<DirectoryId> {
  try {
    const { dev, ino } = yield* opWhenLocal(
      platform().isLocalDirectory(path),
      () => promises.stat(path, { bigint: true }),
      () => fs.statSync(path, { bigint: true }),
    );
    // Some runtimes report 0 for an inode that they do not know.
    return ino ? { path, dev: `${dev}`, ino: `${ino}` } : unknownId(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") throw error;
    return unknownId(path);
  }
}

function unknownId(path: string): DirectoryId {
  return { path, dev: "", ino: "" };
}

/** Lists the names in a directory. */
export function* readDir(directory: string): Gen<string[]> {
  const names = yield* opWhenLocal(
    smallDirectories.has(directory) && platform().isLocalDirectory(directory),
    () => promises.readdir(directory),
    () => fs.readdirSync(directory),
  );
  if (smallDirectories.size >= MAX_SMALL_DIRECTORIES) smallDirectories.clear();
  if (names.length <= MAX_SMALL_DIRECTORY_NAMES) {
    smallDirectories.add(directory);
  } else smallDirectories.delete(directory);
  return names;
}

/** Returns the file at a path, or `null`. Does not follow symbolic links. */
export function* lstatOrNull(path: string): Gen<fs.Stats | null> {
  try {
    return yield* localOp(
      path,
      () => promises.lstat(path),
      () => fs.lstatSync(path),
    );
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
}

/** Returns the metadata of what a path names. Follows symbolic links. */
export function statPath(path: string): Gen<fs.Stats> {
  return localOp(path, () => promises.stat(path), () => fs.statSync(path));
}

/**
 * Returns the file at a path, or `null`. The kernel follows symbolic links, or
 * refuses to.
 */
export function* statOrNull(path: string): Gen<fs.Stats | null> {
  try {
    return yield* localOp(
      path,
      () => promises.stat(path),
      () => fs.statSync(path),
    );
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
}

/**
 * Returns whether the system permits to write a file. Opens it, because
 * access(2) needs `--allow-sys` on Deno and does not look at the mount there.
 */
export function* isWritable(path: string): Gen<boolean> {
  const system = platform();
  try {
    const file = yield* op({
      async: () => system.open(path, WRITABLE, 0),
      sync: () => system.openSync(path, WRITABLE, 0),
    });
    yield* op({ async: () => file.close(), sync: () => file.closeSync() });
    return true;
  } catch {
    return false;
  }
}

/** Reads the target of a symbolic link. */
export function readLink(path: string): Gen<string> {
  return localOp(
    path,
    () => promises.readlink(path),
    () => fs.readlinkSync(path),
  );
}

/** Removes a name of a file. */
export function unlink(path: string): Gen<void> {
  return nameOp(
    path,
    () => promises.unlink(path),
    () => fs.unlinkSync(path),
  );
}

/** Renames a file, and replaces an existing one. Retries on Windows. */
export function rename(from: string, to: string): Gen<void> {
  const once = () =>
    nameOp(
      to,
      () => promises.rename(from, to),
      () => fs.renameSync(from, to),
    );
  return renameWithRetry(once);
}

/** Creates a hard link. Fails if `to` exists. */
export function link(from: string, to: string): Gen<void> {
  return nameOp(
    to,
    () => promises.link(from, to),
    () => fs.linkSync(from, to),
  );
}

/** Creates a directory. Fails if it exists. */
export function makeDirectory(path: string): Gen<void> {
  return opWhenLocal(
    platform().isLocalDirectory(path),
    () => promises.mkdir(path),
    () => fs.mkdirSync(path),
  );
}

/**
 * Changes the permission bits of a file. Uses the descriptor, if the runtime
 * has one, because the path may name another file by now.
 */
export function changeMode(
  { path, fd }: { path: string; fd: number | null },
  mode: number,
): Gen<void> {
  return fd === null
    ? localOp(
      path,
      () => promises.chmod(path, mode),
      () => fs.chmodSync(path, mode),
    )
    : localOp(
      path,
      () => promisify((done) => fs.fchmod(fd, mode, done)),
      () => fs.fchmodSync(fd, mode),
    );
}

/** Changes the owner and the group of a file, unless they are -1. */
export function changeOwner(
  { path, fd }: { path: string; fd: number | null },
  uid: number,
  gid: number,
): Gen<void> {
  return fd === null
    ? localOp(
      path,
      () => promises.lchown(path, uid, gid),
      () => fs.lchownSync(path, uid, gid),
    )
    : localOp(
      path,
      () => promisify((done) => fs.fchown(fd, uid, gid, done)),
      () => fs.fchownSync(fd, uid, gid),
    );
}

/** Opens a directory for {@linkcode syncDirectory}, `null` if not supported. */
export function* openDirectory(path: string): Gen<number | null> {
  try {
    return yield* localOp(
      path,
      () => promisify<number>((done) => fs.open(path, "r", done)),
      () => fs.openSync(path, "r"),
    );
  } catch (error) {
    if (FORGIVEN.syncDirectory.includes(errorCode(error))) return null;
    throw error;
  }
}

/** Calls fsync(2) for a directory, if the system supports that. */
export function* syncDirectory(directory: number): Gen<void> {
  const sync = opWhenLocal(
    false,
    () => promisify((done) => fs.fsync(directory, done)),
    () => fs.fsyncSync(directory),
  );
  yield* allowed("syncDirectory", sync);
}

/** Returns the metadata of an open file. */
export function statOf(path: string, file: PlatformFile): Gen<FileInfo> {
  return localOp(path, () => file.stat(), () => file.statSync());
}

/** Blocks the thread in both forms if the directory of the path is local. */
function localOp<T>(
  path: string,
  asyncCall: () => Promise<T>,
  syncCall: () => T,
): Gen<T> {
  const local = platform().isLocalDirectory(dirname(path));
  return opWhenLocal(local, asyncCall, syncCall);
}

/** {@linkcode localOp} for a call that must not outlive its thread. */
function nameOp<T>(
  path: string,
  asyncCall: () => Promise<T>,
  syncCall: () => T,
): Gen<T> {
  return poolOutlivesThread()
    ? opWhenLocal(true, asyncCall, syncCall)
    : localOp(path, asyncCall, syncCall);
}

/** Blocks the thread in both forms if `local`. */
function opWhenLocal<T>(
  local: boolean,
  asyncCall: () => Promise<T>,
  syncCall: () => T,
): Gen<T> {
  // The promises of Bun 1.2's file system are not instances of `Promise`.
  const pooled = async () => await asyncCall();
  return op({ async: local ? syncCall : pooled, sync: syncCall });
}

/** Calls a function with a callback as its last argument. Returns a promise. */
function promisify<T = void>(
  call: (done: (error: Error | null, value?: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) =>
    call((error, value) => error ? reject(error) : resolve(value as T))
  );
}
