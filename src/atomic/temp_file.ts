/**
 * Temporary files. Each is locked by its writer as long as it lives, so that
 * one which can be locked is known to be left by a dead process.
 */

import { native } from "../../ffi/mod.ts";
import type { LockerSettings, NativeFile, OpenMode } from "../../ffi/types.ts";
import { LockException, shown, UNSUPPORTED } from "../core/errors.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { inside } from "../core/paths.ts";
import { quietly, step } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";
import { codeOf, list, look, remove } from "./fs_ops.ts";

/** The names that cleaning looks at, and no others. */
const TEMPORARY = /^\.portalock\.[0-9a-f]{16}\.tmp$/;

/** Names to try; more would mean that somebody locks whatever appears. */
const MOST_NAMES = 100;

const NEW: OpenMode = {
  read: true,
  write: true,
  append: false,
  create: true,
  exclusive: true,
};
const EXISTING: OpenMode = { ...NEW, create: false, exclusive: false };

/**
 * Where locks keep others from reading what is locked, which is on Windows,
 * this one lies beyond any content: the file may be read once it is published.
 */
const DRAFT_LOCK: LockerSettings = {
  name: "flock",
  range: { start: 2 ** 52, length: 1 },
};

/** A temporary file, written but not published. */
export interface Draft {
  readonly path: string;
  readonly file: NativeFile;
  /** `false` where the file system has no locks. */
  readonly locked: boolean;
}

/** A name as short as any, so that the longest destinations work. */
export function randomName(ending: "tmp" | "kept"): string {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0"));
  return `.portalock.${hex.join("")}.${ending}`;
}

/** Makes a temporary file and locks it. */
export function* createDraft(
  directory: string,
  creationMode: number,
): Recipe<Draft> {
  for (let names = 0; names < MOST_NAMES; names++) {
    const path = inside(directory, randomName("tmp"));
    const draft = yield* createAt(path, creationMode);
    if (draft !== null) return draft;
  }
  throw new LockException(
    `Cannot write in ${shown({ path: directory })}: ` +
      "somebody else locks every temporary file",
    { path: directory, code: "EWOULDBLOCK" },
  );
}

/** Removes the temporary file, if it is still there, and closes it. */
export function* dropDraft({ path, file }: Draft): Recipe<void> {
  yield* quietly(remove(path));
  yield* quietly(unlockAndClose(file));
}

/** Removes what dead processes have left, and never fails. */
export function* cleanUp(directory: string): Recipe<void> {
  let names: string[];
  try {
    names = yield* list(directory);
  } catch {
    return;
  }
  for (const name of names) {
    if (TEMPORARY.test(name)) yield* quietly(cleanAt(inside(directory, name)));
  }
}

/**
 * `null` if another name has to be tried: a cleaner may come between the
 * creation and the lock, and either still holds the file or has removed it.
 */
function* createAt(path: string, creationMode: number): Recipe<Draft | null> {
  const file = yield* createFile(path, creationMode);
  if (file === null) return null;
  try {
    const locked = tryLock(file);
    if (locked === null) return { path, file, locked: false };
    if (locked && file.isAt(path)) return { path, file, locked };
    yield* dropDraft({ path, file, locked });
    return null;
  } catch (error) {
    yield* dropDraft({ path, file, locked: false });
    throw error;
  }
}

function* createFile(
  path: string,
  creationMode: number,
): Recipe<NativeFile | null> {
  const system = native();
  try {
    return yield* step(
      () => system.open(path, NEW, creationMode, DRAFT_LOCK),
      () => system.openSync(path, NEW, creationMode, DRAFT_LOCK),
    );
  } catch (error) {
    if (codeOf(error) === "EEXIST") return null;
    throw error;
  }
}

/** `null` where the file system has no locks. */
function tryLock(file: NativeFile): boolean | null {
  try {
    return file.tryLock(true);
  } catch (error) {
    if ([...UNSUPPORTED, "ENOLCK"].includes(codeOf(error)!)) return null;
    throw error;
  }
}

function* cleanAt(path: string): Recipe<void> {
  const found = yield* look(path);
  if (!found?.isFile()) return;
  const file = yield* openStale(path);
  try {
    // Its writer may have published it meanwhile, or another cleaner removed
    // it. From here on nobody else does: they would need the lock.
    if (tryLock(file) && file.isAt(path)) yield* remove(path);
  } finally {
    yield* unlockAndClose(file);
  }
}

/** NFS locks exclusively only what can be written; elsewhere reading will do. */
function* openStale(path: string): Recipe<NativeFile> {
  const system = native();
  const open = (write: boolean) => {
    const mode = { ...EXISTING, write, noFollow: true };
    return step(
      () => system.open(path, mode, 0, DRAFT_LOCK),
      () => system.openSync(path, mode, 0, DRAFT_LOCK),
    );
  };
  try {
    return yield* open(true);
  } catch (error) {
    // The latter of what is read-only on Windows.
    if (!["EACCES", "EPERM"].includes(codeOf(error)!)) throw error;
    return yield* open(false);
  }
}
