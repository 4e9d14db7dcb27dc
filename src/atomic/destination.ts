/** Where an atomic write goes, and what stands there. */

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

/** More links than that lead in a circle: MAXSYMLINKS of Linux. */
const MAX_SYMLINKS = 40;

/** A path that can only be a directory's: basename() would hide it. */
const NAMES_DIRECTORY = sep === "\\" ? /(^|[/\\])\.{0,2}$/ : /(^|\/)\.{0,2}$/;

/** Where an atomic write goes. */
export interface Destination {
  /** The path as it was given. */
  readonly requestedPath: string;
  /** What gets the content: the target, where a link is followed. */
  readonly path: string;
  /** The directory of that. */
  readonly directory: string;
  /** The file that is to be replaced. */
  readonly old: Stats | null;
}

/** Finds out where to write; refuses what must not be written. */
export function* findDestination(
  given: string,
  replace: boolean,
): Gen<Destination> {
  if (NAMES_DIRECTORY.test(given)) throw isDirectory(given);
  try {
    platform();
  } catch (error) {
    throw toOpenError({ path: given }, error, "write");
  }
  const path = absolute(given);
  if (replace) return yield* resolveSymlinks(given, path);
  if (yield* lstatOrNull(path)) throw alreadyExists(given);
  return { requestedPath: given, path, directory: dirname(path), old: null };
}

export function alreadyExists(
  path: string,
  preservedPath: string | null = null,
): AlreadyExists {
  return new AlreadyExists(
    `Cannot write ${formatSubject({ path })}: it exists already` +
      (preservedPath === null
        ? ""
        : `; what was written is kept in ${
          formatSubject({ path: preservedPath })
        }`),
    { path, preservedPath },
  );
}

/** Makes a directory and those above it that are missing. */
export function* makeDirectories(
  path: string,
  durable: boolean,
): Gen<void> {
  try {
    yield* makeDirectory(path);
  } catch (error) {
    const parent = dirname(path);
    // A root is there already, whatever is said: EPERM on Windows.
    if (errorCode(error) === "EEXIST" || parent === path) return;
    if (errorCode(error) !== "ENOENT") throw error;
    yield* makeDirectories(parent, durable);
    return yield* makeLeaf(path, durable);
  }
  if (durable) yield* syncParent(path);
}

/** A directory whose parent exists, made perhaps by somebody else meanwhile. */
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

/** Follows links by hand, since the last may dangle. */
function* resolveSymlinks(given: string, start: string): Gen<Destination> {
  let path = start;
  for (let links = 0; links <= MAX_SYMLINKS; links++) {
    const directory = dirname(path);
    if (NAMES_DIRECTORY.test(path)) throw isDirectory(given);
    const old = yield* lstatOrNull(path);
    if (!old?.isSymbolicLink()) {
      if (old?.isDirectory()) throw isDirectory(given);
      if (old && !old.isFile()) throw notRegular(given);
      return { requestedPath: given, path, directory, old };
    }
    const target = yield* readLink(path);
    path = isAbsolute(target) ? target : childPath(directory, target);
  }
  throw new LockException(
    `Cannot write ${formatSubject({ path: given })}: too many symbolic links`,
    { path: given, code: "ELOOP" },
  );
}

function isDirectory(path: string): LockException {
  return new LockException(
    `Cannot write ${formatSubject({ path })}: it is a directory`,
    { path, code: "EISDIR" },
  );
}

function notRegular(path: string): LockException {
  return new LockException(
    `Cannot write ${formatSubject({ path })}: it is no regular file`,
    { path, code: "EINVAL" },
  );
}
