/** What atomic writing asks of the file system, in both forms. */

import * as fs from "node:fs";
import { sep } from "node:path";
import { step } from "../recipe.ts";
import type { Recipe } from "../recipe.ts";

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

/** A path below a directory. Nothing is shortened: `..` may leave a link. */
export function inside(directory: string, name: string): string {
  return directory.endsWith(sep) ? directory + name : directory + sep + name;
}

export function list(directory: string): Recipe<string[]> {
  return both(
    () => promises.readdir(directory),
    () => fs.readdirSync(directory),
  );
}

/** What a path names, links not followed; `null` where there is nothing. */
export function* look(path: string): Recipe<fs.Stats | null> {
  try {
    return yield* both(() => promises.lstat(path), () => fs.lstatSync(path));
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw error;
  }
}

export function readLink(path: string): Recipe<string> {
  return both(() => promises.readlink(path), () => fs.readlinkSync(path));
}

export function remove(path: string): Recipe<void> {
  return both(() => promises.unlink(path), () => fs.unlinkSync(path));
}

export function rename(from: string, to: string): Recipe<void> {
  return both(() => promises.rename(from, to), () => fs.renameSync(from, to));
}

export function link(from: string, to: string): Recipe<void> {
  return both(() => promises.link(from, to), () => fs.linkSync(from, to));
}

export function makeDirectory(path: string): Recipe<void> {
  return both(() => promises.mkdir(path), () => fs.mkdirSync(path));
}

/** By descriptor where there is one: no path can lead elsewhere then. */
export function changeMode(
  { path, fd }: { path: string; fd: number | null },
  mode: number,
): Recipe<void> {
  return fd === null
    ? both(() => promises.chmod(path, mode), () => fs.chmodSync(path, mode))
    : both(
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
    ? both(
      () => promises.lchown(path, uid, gid),
      () => fs.lchownSync(path, uid, gid),
    )
    : both(
      () => called((done) => fs.fchown(fd, uid, gid, done)),
      () => fs.fchownSync(fd, uid, gid),
    );
}

/** Opens a directory that is to be synced, `null` where that is not possible. */
export function* openDirectory(path: string): Recipe<number | null> {
  try {
    return yield* both(
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

export function closeDirectory(directory: number): Recipe<void> {
  return both(
    () => called((done) => fs.close(directory, done)),
    () => fs.closeSync(directory),
  );
}

/** A step. The promises of Bun 1.2 are no instances of `Promise`. */
function both<T>(wait: () => Promise<T>, block: () => T): Recipe<T> {
  return step(async () => await wait(), block);
}

/** Makes a promise of a call whose last argument is a callback. */
function called<T = void>(
  call: (done: (error: Error | null, value?: T) => void) => void,
): Promise<T> {
  return new Promise((resolve, reject) =>
    call((error, value) => error ? reject(error) : resolve(value as T))
  );
}
