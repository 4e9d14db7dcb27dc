/**
 * Resolves the destination of an atomic write: the path behind symbolic links,
 * its directory, and the file that it replaces.
 *
 * @module
 */

import { closeSync } from "node:fs";
import type { Stats } from "node:fs";
import { dirname, isAbsolute, sep } from "node:path";
import { platform } from "../../ffi/mod.ts";
import {
  AlreadyExists,
  formatSubject,
  LockException,
  toOpenError,
} from "../core/errors.ts";
import { absolute, childPath } from "../core/paths.ts";
import type { Gen } from "../core/gensync.ts";
import {
  lstatOrNull,
  makeDirectory,
  openDirectory,
  readLink,
  syncDirectory,
} from "./fs_ops.ts";
import { errorCode } from "../../ffi/types.ts";

/** The limit of Linux, MAXSYMLINKS: see path_resolution(7). */
const MAX_SYMLINKS = 40;

/** Matches the path of a directory, such as `a/` or `a/..`. */
const NAMES_DIRECTORY = sep === "\\" ? /(^|[/\\])\.{0,2}$/ : /(^|\/)\.{0,2}$/;

/** The destination of an atomic write. */
export interface Destination {
  /** The path that the caller passed. */
  readonly requestedPath: string;
  /** The path of the file. With `replace`, the target of symbolic links. */
  readonly path: string;
  /** The directory of {@linkcode Destination.path}. */
  readonly directory: string;
  /** The file that will be replaced, or `null`. */
  readonly old: Stats | null;
}

/** Resolves a path. Throws if a file cannot be written there. */
export function* findDestination(
  requestedPath: string,
  replace: boolean,
): Gen<Destination> {
  if (NAMES_DIRECTORY.test(requestedPath)) throw isDirectory(requestedPath);
  try {
    platform();
  } catch (error) {
    throw toOpenError({ path: requestedPath }, error, "write");
  }
  const path = absolute(requestedPath);
  if (replace) return yield* resolveSymlinks(requestedPath, path);
  if (yield* lstatOrNull(path)) throw alreadyExists(requestedPath);
  return { requestedPath, path, directory: dirname(path), old: null };
}

/** Returns the error for a destination that exists. */
export function alreadyExists(
  path: string,
  preservedPath: string | null = null,
): AlreadyExists {
  return new AlreadyExists(
    `Cannot write ${formatSubject({ path })}: already exists` +
      (preservedPath === null
        ? "; pass replace: true to replace it"
        : `; the new content is kept in ${
          formatSubject({ path: preservedPath })
        }`),
    { path, preservedPath },
  );
}

/** Creates a directory and its missing parent directories. */
export function* makeDirectories(
  path: string,
  durable: boolean,
): Gen<void> {
  try {
    yield* makeDirectory(path);
  } catch (error) {
    const parent = dirname(path);
    // A root directory exists, but Windows reports EPERM for it.
    if (errorCode(error) === "EEXIST" || parent === path) return;
    if (errorCode(error) !== "ENOENT") throw error;
    yield* makeDirectories(parent, durable);
    return yield* makeLeaf(path, durable);
  }
  if (durable) yield* syncParent(path);
}

/** Creates a directory, unless another process did meanwhile. */
function* makeLeaf(path: string, durable: boolean): Gen<void> {
  try {
    yield* makeDirectory(path);
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
  }
  if (durable) yield* syncParent(path);
}

function* syncParent(path: string): Gen<void> {
  const directory = yield* openDirectory(dirname(path));
  if (directory === null) return;
  try {
    yield* syncDirectory(directory);
  } finally {
    closeSync(directory);
  }
}

/**
 * Follows symbolic links one by one, because realpath(3) rejects dangling ones.
 */
function* resolveSymlinks(
  requestedPath: string,
  start: string,
): Gen<Destination> {
  let path = start;
  for (let links = 0; links <= MAX_SYMLINKS; links++) {
    const directory = dirname(path);
    if (NAMES_DIRECTORY.test(path)) throw isDirectory(requestedPath);
    const old = yield* lstatOrNull(path);
    if (!old?.isSymbolicLink()) {
      if (old?.isDirectory()) throw isDirectory(requestedPath);
      if (old && !old.isFile()) throw notRegular(requestedPath);
      return { requestedPath, path, directory, old };
    }
    const target = yield* readLink(path);
    path = isAbsolute(target) ? target : childPath(directory, target);
  }
  throw new LockException(
    `Cannot write ${
      formatSubject({ path: requestedPath })
    }: more than ${MAX_SYMLINKS} symbolic links`,
    { path: requestedPath, code: "ELOOP" },
  );
}

function isDirectory(path: string): LockException {
  return new LockException(
    `Cannot write ${formatSubject({ path })}: is a directory`,
    { path, code: "EISDIR" },
  );
}

function notRegular(path: string): LockException {
  return new LockException(
    `Cannot write ${formatSubject({ path })}: is not a regular file`,
    { path, code: "EINVAL" },
  );
}
