/** What atomic writing asks of the file system, in both forms. */

import * as fs from "node:fs";
import { dirname } from "node:path";
import { native } from "../../ffi/mod.ts";
import type { FileInfo, NativeFile } from "../../ffi/types.ts";
import { renameWhenFree } from "../core/windows_retry.ts";
import { step } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";

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

/** Name of the system's error, if it is one. */
export function codeOf(error: unknown): string | undefined {
  return (error as { code?: string } | null)?.code;
}

/** A directory that had so many names takes too long to list in between. */
const MOST_NAMES = 200;

/** So many directories are remembered as short. */
const REMEMBERED = 1000;

const short = new Set<string>();

export function* list(directory: string): Recipe<string[]> {
  const names = yield* either(
    short.has(directory) && native().isNear(directory),
    () => promises.readdir(directory),
    () => fs.readdirSync(directory),
  );
  if (short.size >= REMEMBERED) short.clear();
  if (names.length <= MOST_NAMES) short.add(directory);
  else short.delete(directory);
  return names;
}

/** What a path names, links not followed; `null` where there is nothing. */
export function* look(path: string): Recipe<fs.Stats | null> {
  try {
    return yield* quick(
      path,
      () => promises.lstat(path),
      () => fs.lstatSync(path),
    );
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw error;
  }
}

export function readLink(path: string): Recipe<string> {
  return quick(
    path,
    () => promises.readlink(path),
    () => fs.readlinkSync(path),
  );
}

export function remove(path: string): Recipe<void> {
  return quick(
    path,
    () => promises.unlink(path),
    () => fs.unlinkSync(path),
  );
}

export function rename(from: string, to: string): Recipe<void> {
  const once = () =>
    quick(
      to,
      () => promises.rename(from, to),
      () => fs.renameSync(from, to),
    );
  return renameWhenFree(once);
}

export function link(from: string, to: string): Recipe<void> {
  return quick(
    to,
    () => promises.link(from, to),
    () => fs.linkSync(from, to),
  );
}

export function makeDirectory(path: string): Recipe<void> {
  return either(
    native().isNear(path),
    () => promises.mkdir(path),
    () => fs.mkdirSync(path),
  );
}

/** By descriptor where there is one: no path can lead elsewhere then. */
export function changeMode(
  { path, fd }: { path: string; fd: number | null },
  mode: number,
): Recipe<void> {
  return fd === null
    ? quick(
      path,
      () => promises.chmod(path, mode),
      () => fs.chmodSync(path, mode),
    )
    : quick(
      path,
      () => called((done) => fs.fchmod(fd, mode, done)),
      () => fs.fchmodSync(fd, mode),
    );
}

/** {@linkcode changeMode} of user and group; -1 leaves one as it is. */
export function changeOwner(
  { path, fd }: { path: string; fd: number | null },
  uid: number,
  gid: number,
): Recipe<void> {
  return fd === null
    ? quick(
      path,
      () => promises.lchown(path, uid, gid),
      () => fs.lchownSync(path, uid, gid),
    )
    : quick(
      path,
      () => called((done) => fs.fchown(fd, uid, gid, done)),
      () => fs.fchownSync(fd, uid, gid),
    );
}

/** Opens a directory that is to be synced, `null` where that is not possible. */
export function* openDirectory(path: string): Recipe<number | null> {
  try {
    return yield* quick(
      path,
      () => called<number>((done) => fs.open(path, "r", done)),
      () => fs.openSync(path, "r"),
    );
  } catch (error) {
    if (NO_DIRECTORY_SYNC.includes(codeOf(error)!)) return null;
    throw error;
  }
}

/** Syncs a directory that was opened for it. */
export function* syncDirectory(directory: number): Recipe<void> {
  try {
    yield* both(
      () => called((done) => fs.fsync(directory, done)),
      () => fs.fsyncSync(directory),
    );
  } catch (error) {
    if (!NO_DIRECTORY_SYNC.includes(codeOf(error)!)) throw error;
  }
}

/** What the system knows of an open file. */
export function statOf(path: string, file: NativeFile): Recipe<FileInfo> {
  return quick(path, () => file.stat(), () => file.statSync());
}

/** A step that blocks the thread in either form where the path is near. */
function quick<T>(
  path: string,
  wait: () => Promise<T>,
  block: () => T,
): Recipe<T> {
  return either(native().isNear(dirname(path)), wait, block);
}

function both<T>(wait: () => Promise<T>, block: () => T): Recipe<T> {
  return either(false, wait, block);
}

/** The promises of Bun 1.2 are no instances of `Promise`. */
function either<T>(
  near: boolean,
  wait: () => Promise<T>,
  block: () => T,
): Recipe<T> {
  return step(near ? block : async () => await wait(), block);
}

/** Makes a promise of a call whose last argument is a callback. */
function called<T = void>(
  call: (done: (error: Error | null, value?: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) =>
    call((error, value) => error ? reject(error) : resolve(value as T))
  );
}
