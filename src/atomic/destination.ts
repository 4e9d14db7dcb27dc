/**
 * Resolves the destination of an atomic write: the path behind symbolic links,
 * its directory, and the file that it replaces.
 *
 * @module
 */

import { closeSync } from "node:fs";
import type { Stats } from "node:fs";
import { dirname, isAbsolute, sep } from "node:path";
import process from "node:process";
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
  statOrNull,
  syncDirectory,
} from "./fs_ops.ts";
import { errorCode } from "../../ffi/types.ts";

/** The limit of Linux, MAXSYMLINKS: see path_resolution(7). */
const MAX_SYMLINKS = 40;

/** How often the links of a path may change while they are followed. */
const MAX_RESOLUTIONS = 100;

/** sys/stat.h: S_ISVTX and S_IWOTH. */
const STICKY_FOR_ALL = 0o1002;

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
 * Follows symbolic links as the kernel would. The links are read one by one,
 * because rename(2) does not follow them, and realpath(3) rejects dangling
 * ones. But the kernel refuses some links: with `protected_symlinks`, those of
 * other users in a sticky directory that all users may write to. See
 * proc_sys_fs(5).
 *
 * So after the links are read, stat(2) asks the kernel to follow them, too. It
 * must reach the same file. Otherwise, the links changed meanwhile:
 *
 * - P.1 The process finds a link `/tmp/a`, which the attacker owns.
 * - A.2 The attacker replaces `/tmp/a` by a file of its own.
 * - P.3 stat(2) does not find a link that it had to refuse.
 * - A.4 The attacker replaces `/tmp/a` by a link again.
 *
 * The file of P.3 is not the target of the link that the process read before,
 * so the process starts again. Without a file to compare, the attacker could
 * remove the link instead: {@linkcode checkDanglingLinks}.
 */
function* resolveSymlinks(
  requestedPath: string,
  start: string,
): Gen<Destination> {
  for (let attempt = 0; attempt < MAX_RESOLUTIONS; attempt++) {
    const links: Link[] = [];
    const found = yield* followLinks(requestedPath, start, links);
    if (links.length === 0) return found;
    const reached = yield* followedByKernel(requestedPath, start);
    if (reached?.dev !== found.old?.dev) continue;
    if (reached?.ino !== found.old?.ino) continue;
    if (reached === null) yield* checkDanglingLinks(requestedPath, links);
    return found;
  }
  throw new LockException(
    `Cannot write ${
      formatSubject({ path: requestedPath })
    }: its symbolic links change all the time`,
    { path: requestedPath, code: "EAGAIN" },
  );
}

function* followedByKernel(
  requestedPath: string,
  start: string,
): Gen<Stats | null> {
  try {
    return yield* statOrNull(start);
  } catch (error) {
    throw toOpenError({ path: requestedPath }, error, "write");
  }
}

/** A symbolic link, and the directory that contains it. */
interface Link {
  readonly uid: number;
  readonly directory: string;
}

/** Follows symbolic links one by one, and adds them to `links`. */
function* followLinks(
  requestedPath: string,
  start: string,
  links: Link[],
): Gen<Destination> {
  let path = start;
  while (links.length <= MAX_SYMLINKS) {
    const directory = dirname(path);
    if (NAMES_DIRECTORY.test(path)) throw isDirectory(requestedPath);
    const old = yield* lstatOrNull(path);
    if (!old?.isSymbolicLink()) {
      if (old?.isDirectory()) throw isDirectory(requestedPath);
      if (old && !old.isFile()) throw notRegular(requestedPath);
      return { requestedPath, path, directory, old };
    }
    links.push({ uid: old.uid, directory });
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

/**
 * Applies the rule of `protected_symlinks` to links without a target, on every
 * system. Of two users, one cannot replace the link of the other in a sticky
 * directory, so this check is not a race.
 */
function* checkDanglingLinks(
  requestedPath: string,
  links: readonly Link[],
): Gen<void> {
  for (const { uid, directory } of links) {
    const info = yield* statOrNull(directory);
    if (info === null || info.uid === uid) continue;
    if ((info.mode & STICKY_FOR_ALL) !== STICKY_FOR_ALL) continue;
    if (isOwnUser(uid)) continue;
    throw new LockException(
      `Cannot write ${
        formatSubject({ path: requestedPath })
      }: user ${uid} owns the symbolic link, in a directory that all users ` +
        "may write to (EACCES)",
      { path: requestedPath, code: "EACCES" },
    );
  }
}

/** Returns `false` if Deno lacks `--allow-sys`. */
function isOwnUser(uid: number): boolean {
  try {
    return process.geteuid?.() === uid;
  } catch {
    return false;
  }
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
