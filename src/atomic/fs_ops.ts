/** What atomic writing asks of the file system, in both forms. */

import * as fs from "node:fs";
import { dirname } from "node:path";
import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type { FileInfo, PlatformFile } from "../../ffi/types.ts";
import { renameWithRetry } from "../core/windows_retry.ts";
import { op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

const { promises } = fs;

/** Where a directory cannot be synced, the file system does it by itself. */
const NO_DIRECTORY_SYNC = [
  "EACCES",
  "EBADF",
  "EINVAL",
  "EISDIR",
  "ENOSYS",
  "ENOTSUP",
  "EOPNOTSUPP",
  "EPERM",
];

/** A directory that had so many names takes too long to list in between. */
const MAX_SMALL_DIRECTORY = 200;

/** So many directories are remembered as short. */
const MAX_REMEMBERED = 1000;

const smallDirectories = new Set<string>();

export function* readDir(directory: string): Gen<string[]> {
  const names = yield* opWhenLocal(
    smallDirectories.has(directory) && platform().isLocalDirectory(directory),
    () => promises.readdir(directory),
    () => fs.readdirSync(directory),
  );
  if (smallDirectories.size >= MAX_REMEMBERED) smallDirectories.clear();
  if (names.length <= MAX_SMALL_DIRECTORY) smallDirectories.add(directory);
  else smallDirectories.delete(directory);
  return names;
}

/** What a path names, links not followed; `null` where there is nothing. */
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

export function readLink(path: string): Gen<string> {
  return localOp(
    path,
    () => promises.readlink(path),
    () => fs.readlinkSync(path),
  );
}

export function unlink(path: string): Gen<void> {
  return localOp(
    path,
    () => promises.unlink(path),
    () => fs.unlinkSync(path),
  );
}

export function rename(from: string, to: string): Gen<void> {
  const once = () =>
    localOp(
      to,
      () => promises.rename(from, to),
      () => fs.renameSync(from, to),
    );
  return renameWithRetry(once);
}

export function link(from: string, to: string): Gen<void> {
  return localOp(
    to,
    () => promises.link(from, to),
    () => fs.linkSync(from, to),
  );
}

export function makeDirectory(path: string): Gen<void> {
  return opWhenLocal(
    platform().isLocalDirectory(path),
    () => promises.mkdir(path),
    () => fs.mkdirSync(path),
  );
}

/** By descriptor where there is one: no path can lead elsewhere then. */
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

/** {@linkcode changeMode} of user and group; -1 leaves one as it is. */
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

/** Opens a directory that is to be synced, `null` where that is not possible. */
export function* openDirectory(path: string): Gen<number | null> {
  try {
    return yield* localOp(
      path,
      () => promisify<number>((done) => fs.open(path, "r", done)),
      () => fs.openSync(path, "r"),
    );
  } catch (error) {
    if (NO_DIRECTORY_SYNC.includes(errorCode(error)!)) return null;
    throw error;
  }
}

/** Syncs a directory that was opened for it. */
export function* syncDirectory(directory: number): Gen<void> {
  try {
    yield* poolOp(
      () => promisify((done) => fs.fsync(directory, done)),
      () => fs.fsyncSync(directory),
    );
  } catch (error) {
    if (!NO_DIRECTORY_SYNC.includes(errorCode(error)!)) throw error;
  }
}

/** What the system knows of an open file. */
export function statOf(path: string, file: PlatformFile): Gen<FileInfo> {
  return localOp(path, () => file.stat(), () => file.statSync());
}

/** A step that blocks the thread in either form where the path is near. */
function localOp<T>(
  path: string,
  wait: () => Promise<T>,
  block: () => T,
): Gen<T> {
  return opWhenLocal(platform().isLocalDirectory(dirname(path)), wait, block);
}

function poolOp<T>(wait: () => Promise<T>, block: () => T): Gen<T> {
  return opWhenLocal(false, wait, block);
}

/** The promises of Bun 1.2 are no instances of `Promise`. */
function opWhenLocal<T>(
  near: boolean,
  wait: () => Promise<T>,
  block: () => T,
): Gen<T> {
  return op({ async: near ? block : async () => await wait(), sync: block });
}

/** Makes a promise of a call whose last argument is a callback. */
function promisify<T = void>(
  call: (done: (error: Error | null, value?: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) =>
    call((error, value) => error ? reject(error) : resolve(value as T))
  );
}
