/**
 * Temporary files. Each is locked by its writer as long as it lives, so that
 * one which can be locked is known to be left by a dead process.
 */

import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type {
  LockerSettings,
  OpenMode,
  PlatformFile,
} from "../../ffi/types.ts";
import {
  formatSubject,
  LockException,
  UNSUPPORTED_CODES,
} from "../core/errors.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { childPath } from "../core/paths.ts";
import { ignoreErrors, op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { lstatOrNull, readDir, unlink } from "./fs_ops.ts";

/** The names that cleaning looks at, and no others. */
const TEMP_FILE_NAME = /^\.portalock\.[0-9a-f]{16}\.tmp$/;

/** Names to try; more would mean that somebody locks whatever appears. */
const MAX_NAME_ATTEMPTS = 100;

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
const TEMP_FILE_LOCK: LockerSettings = {
  name: "flock",
  range: { start: 2 ** 52, length: 1 },
};

/** A temporary file, written but not published. */
export interface TempFile {
  readonly path: string;
  readonly file: PlatformFile;
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
export function* createTempFile(
  directory: string,
  creationMode: number,
): Gen<TempFile> {
  for (let names = 0; names < MAX_NAME_ATTEMPTS; names++) {
    const path = childPath(directory, randomName("tmp"));
    const tempFile = yield* tryCreateTempFile(path, creationMode);
    if (tempFile !== null) return tempFile;
  }
  throw new LockException(
    `Cannot write in ${formatSubject({ path: directory })}: ` +
      "somebody else locks every temporary file",
    { path: directory, code: "EWOULDBLOCK" },
  );
}

/** Removes the temporary file, if it is still there, and closes it. */
export function* discardTempFile({ path, file }: TempFile): Gen<void> {
  yield* ignoreErrors(unlink(path));
  yield* ignoreErrors(unlockAndClose(file));
}

/** Removes what dead processes have left, and never fails. */
export function* removeStaleTempFiles(directory: string): Gen<void> {
  let names: string[];
  try {
    names = yield* readDir(directory);
  } catch {
    return;
  }
  for (const name of names) {
    if (TEMP_FILE_NAME.test(name)) {
      yield* ignoreErrors(removeIfStale(childPath(directory, name)));
    }
  }
}

/**
 * `null` if another name has to be tried: a cleaner may come between the
 * creation and the lock, and either still holds the file or has removed it.
 */
function* tryCreateTempFile(
  path: string,
  creationMode: number,
): Gen<TempFile | null> {
  const file = yield* createFile(path, creationMode);
  if (file === null) return null;
  try {
    const locked = tryLock(file);
    if (locked === null) return { path, file, locked: false };
    if (locked && file.isStillAt(path)) return { path, file, locked };
    yield* discardTempFile({ path, file, locked });
    return null;
  } catch (error) {
    yield* discardTempFile({ path, file, locked: false });
    throw error;
  }
}

function* createFile(
  path: string,
  creationMode: number,
): Gen<PlatformFile | null> {
  const system = platform();
  try {
    return yield* op(
      {
        async: () => system.open(path, NEW, creationMode, TEMP_FILE_LOCK),
        sync: () => system.openSync(path, NEW, creationMode, TEMP_FILE_LOCK),
      },
    );
  } catch (error) {
    if (errorCode(error) === "EEXIST") return null;
    throw error;
  }
}

/** `null` where the file system has no locks. */
function tryLock(file: PlatformFile): boolean | null {
  try {
    return file.tryLock(true);
  } catch (error) {
    if ([...UNSUPPORTED_CODES, "ENOLCK"].includes(errorCode(error)!)) {
      return null;
    }
    throw error;
  }
}

function* removeIfStale(path: string): Gen<void> {
  const found = yield* lstatOrNull(path);
  if (!found?.isFile()) return;
  const file = yield* openStale(path);
  try {
    // Its writer may have published it meanwhile, or another cleaner removed
    // it. From here on nobody else does: they would need the lock.
    if (tryLock(file) && file.isStillAt(path)) yield* unlink(path);
  } finally {
    yield* unlockAndClose(file);
  }
}

/** NFS locks exclusively only what can be written; elsewhere reading will do. */
function* openStale(path: string): Gen<PlatformFile> {
  const system = platform();
  const open = (write: boolean) => {
    const mode = { ...EXISTING, write, noFollow: true };
    return op(
      {
        async: () => system.open(path, mode, 0, TEMP_FILE_LOCK),
        sync: () => system.openSync(path, mode, 0, TEMP_FILE_LOCK),
      },
    );
  };
  try {
    return yield* open(true);
  } catch (error) {
    // The latter of what is read-only on Windows.
    if (!["EACCES", "EPERM"].includes(errorCode(error)!)) throw error;
    return yield* open(false);
  }
}
