/** Where an atomic write goes, and what stands there. */

import { closeSync } from "node:fs";
import type { Stats } from "node:fs";
import { dirname, isAbsolute, sep } from "node:path";
import { native } from "../../ffi/mod.ts";
import {
  AlreadyExists,
  LockException,
  openFailure,
  shown,
} from "../core/errors.ts";
import { anchored, inside } from "../core/paths.ts";
import type { Recipe } from "../core/gensync.ts";
import {
  codeOf,
  look,
  makeDirectory,
  openDirectory,
  readLink,
  syncDirectory,
} from "./fs_ops.ts";

/** More links than that lead in a circle: MAXSYMLINKS of Linux. */
const MOST_LINKS = 40;

/** A path that can only be a directory's: basename() would hide it. */
const NAMES_DIRECTORY = sep === "\\" ? /(^|[/\\])\.{0,2}$/ : /(^|\/)\.{0,2}$/;

/** Where an atomic write goes. */
export interface Destination {
  /** The path as it was given. */
  readonly given: string;
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
): Recipe<Destination> {
  if (NAMES_DIRECTORY.test(given)) throw isDirectory(given);
  try {
    native();
  } catch (error) {
    throw openFailure({ path: given }, error, "write");
  }
  const path = anchored(given);
  if (replace) return yield* followed(given, path);
  if (yield* look(path)) throw alreadyExists(given);
  return { given, path, directory: dirname(path), old: null };
}

export function alreadyExists(
  path: string,
  preservedPath: string | null = null,
): AlreadyExists {
  return new AlreadyExists(
    `Cannot write ${shown({ path })}: it exists already` +
      (preservedPath === null
        ? ""
        : `; what was written is kept in ${shown({ path: preservedPath })}`),
    { path, preservedPath },
  );
}

/** Makes a directory and those above it that are missing. */
export function* makeDirectories(
  path: string,
  durable: boolean,
): Recipe<void> {
  try {
    yield* makeDirectory(path);
  } catch (error) {
    const parent = dirname(path);
    // A root is there already, whatever is said: EPERM on Windows.
    if (codeOf(error) === "EEXIST" || parent === path) return;
    if (codeOf(error) !== "ENOENT") throw error;
    yield* makeDirectories(parent, durable);
    return yield* makeLast(path, durable);
  }
  if (durable) yield* syncEntry(path);
}

/** A directory whose parent exists, made perhaps by somebody else meanwhile. */
function* makeLast(path: string, durable: boolean): Recipe<void> {
  try {
    yield* makeDirectory(path);
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error;
  }
  if (durable) yield* syncEntry(path);
}

function* syncEntry(path: string): Recipe<void> {
  const directory = yield* openDirectory(dirname(path));
  if (directory === null) return;
  try {
    yield* syncDirectory(directory);
  } finally {
    closeSync(directory);
  }
}

/** Follows links by hand, since the last may dangle. */
function* followed(given: string, start: string): Recipe<Destination> {
  let path = start;
  for (let links = 0; links <= MOST_LINKS; links++) {
    const directory = dirname(path);
    if (NAMES_DIRECTORY.test(path)) throw isDirectory(given);
    const old = yield* look(path);
    if (!old?.isSymbolicLink()) {
      if (old?.isDirectory()) throw isDirectory(given);
      if (old && !old.isFile()) throw notRegular(given);
      return { given, path, directory, old };
    }
    const target = yield* readLink(path);
    path = isAbsolute(target) ? target : inside(directory, target);
  }
  throw new LockException(
    `Cannot write ${shown({ path: given })}: too many symbolic links`,
    { path: given, code: "ELOOP" },
  );
}

function isDirectory(path: string): LockException {
  return new LockException(
    `Cannot write ${shown({ path })}: it is a directory`,
    { path, code: "EISDIR" },
  );
}

function notRegular(path: string): LockException {
  return new LockException(
    `Cannot write ${shown({ path })}: it is no regular file`,
    { path, code: "EINVAL" },
  );
}
