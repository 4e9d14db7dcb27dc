/** How a temporary file becomes the file that it was written for. */

import { closeSync } from "node:fs";
import type { Stats } from "node:fs";
import { openFailure } from "../core/errors.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { inside } from "../core/paths.ts";
import { quietly, step } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";
import {
  alreadyExists,
  findDestination,
  makeDirectories,
} from "./destination.ts";
import type { Destination } from "./destination.ts";
import {
  changeMode,
  changeOwner,
  codeOf,
  link,
  look,
  openDirectory,
  remove,
  rename,
  statOf,
  syncDirectory,
} from "./fs_ops.ts";
import { cleanUp, createDraft, dropDraft, randomName } from "./temp_file.ts";
import type { Draft } from "./temp_file.ts";
import type { AtomicOptions } from "./options.ts";

/** What a file system says that has no hard links, or none left. */
const NO_LINKS = [
  // An invalid function, as libuv names that on Windows.
  "EISDIR",
  "EMLINK",
  "ENOSYS",
  "ENOTSUP",
  "EOPNOTSUPP",
  "EPERM",
];

/** What the system says to those who may not give files away. */
const NOT_MINE_TO_GIVE = [
  "EACCES",
  "EINVAL",
  "ENOSYS",
  "ENOTSUP",
  "EOPNOTSUPP",
  "EPERM",
];

/** An atomic write that has begun. */
export interface Work {
  readonly draft: Draft;
  readonly destination: Destination;
  readonly settings: Required<AtomicOptions>;
}

/** Makes the temporary file, once everything else is found to be in order. */
export function* begin(
  path: string,
  settings: Required<AtomicOptions>,
): Recipe<Work> {
  const destination = yield* findDestination(path, settings.replace);
  const { directory, old } = destination;
  yield* cleanUp(directory);
  // Whoever was not to read the old content is not to read the new one.
  const creationMode = old ? 0o600 : settings.creationMode;
  let draft: Draft;
  try {
    draft = yield* createDraft(directory, creationMode);
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw openFailure({ path }, error, "write");
    yield* makeDirectories(directory, settings.durable);
    draft = yield* createDraft(directory, creationMode);
  }
  try {
    if (old) yield* resemble(draft, old);
  } catch (error) {
    yield* dropDraft(draft);
    throw error;
  }
  return { draft, destination, settings };
}

/**
 * Publishes what was written, or removes it. `keep` puts it aside if somebody
 * else was faster.
 */
export function* commit(work: Work, keep: boolean): Recipe<void> {
  const { draft, destination, settings: { durable } } = work;
  // Opened before: what fails later would fail with the file published.
  let directory: number | null = null;
  try {
    if (durable) {
      yield* step(
        () => draft.file.sync(false),
        () => draft.file.syncSync(false),
      );
      directory = yield* openDirectory(destination.directory);
    }
    if (!(yield* publish(work))) {
      const kept = keep ? yield* preserve(work) : null;
      if (kept && directory !== null) yield* quietly(syncDirectory(directory));
      throw alreadyExists(destination.given, kept);
    }
  } catch (error) {
    yield* dropDraft(draft);
    if (directory !== null) closeSync(directory);
    throw error;
  }
  yield* finish(draft, directory);
}

function* finish(
  { file, locked }: Draft,
  directory: number | null,
): Recipe<void> {
  try {
    // First, so that others can lock the file that they see already.
    yield* locked
      ? unlockAndClose(file)
      : step(() => file.close(), () => file.closeSync());
    if (directory !== null) yield* syncDirectory(directory);
  } finally {
    if (directory !== null) closeSync(directory);
  }
}

/** Gives the temporary file its name; `false` if that is taken. */
function* publish({ draft, destination, settings }: Work): Recipe<boolean> {
  const { path } = destination;
  if (!settings.replace) {
    try {
      yield* link(draft.path, path);
      yield* quietly(remove(draft.path));
      return true;
    } catch (error) {
      const code = codeOf(error)!;
      if (code === "EEXIST") return false;
      if (!NO_LINKS.includes(code)) throw error;
      if (yield* look(path)) return false;
    }
  }
  yield* rename(draft.path, path);
  return true;
}

/** Puts the content where no cleaner takes it; `null` if even that fails. */
function* preserve({ draft, destination }: Work): Recipe<string | null> {
  const path = inside(destination.directory, randomName("kept"));
  try {
    yield* rename(draft.path, path);
    return path;
  } catch {
    return null;
  }
}

/** Gives the temporary file the owner and permissions of the old one. */
function* resemble({ path, file }: Draft, old: Stats): Recipe<void> {
  const mine = yield* statOf(path, file);
  // Deno tells of no owners where Windows has none, nor can it change bits.
  if (mine.uid === null) return;
  const it = { path, fd: file.fd };
  const ownerKept = mine.uid === old.uid && mine.gid === old.gid ||
    (yield* give(it, old.uid, old.gid));
  const groupKept = ownerKept || mine.gid === old.gid ||
    (yield* give(it, -1, old.gid));
  let mode = old.mode & 0o7777;
  // Set-user-ID would lend out somebody else, the group's bits another group.
  if (!ownerKept) mode &= 0o1777;
  if (!groupKept) mode &= 0o1707 | (mode & 0o007) << 3;
  yield* changeMode(it, mode);
}

function* give(
  file: { path: string; fd: number | null },
  uid: number,
  gid: number,
): Recipe<boolean> {
  try {
    yield* changeOwner(file, uid, gid);
    return true;
  } catch (error) {
    if (NOT_MINE_TO_GIVE.includes(codeOf(error)!)) return false;
    throw error;
  }
}
