/**
 * Overwrites a file that cannot be replaced, because it is a mount point, or
 * because its directory is not writable.
 *
 * The lock is on the file itself, because a lock file beside it may be in
 * another directory for each container, or cannot be created. That is safe as
 * long as the file is overwritten in place, because its inode stays.
 *
 * Of two processes, one may be able to replace the file, and the other one only
 * to overwrite it. So with `inPlace`, `updateFile` locks the file in any case,
 * after the lock file, if it can lock that. R replaces, I overwrites in place:
 *
 * - R.1 R locks `a.json.lock`, then `a.json`, inode 1, and reads it.
 * - I.2 I may not create the lock file. It opens inode 1, and waits.
 * - R.3 R replaces `a.json`, which is inode 2 now, and releases both locks.
 * - I.4 I locks inode 1, and finds that the path names another file. It opens
 *   inode 2, locks it, and reads the content of R.
 *
 * In the other order, both see the same inode:
 *
 * - I.1 I locks inode 1, and reads it.
 * - R.2 R locks `a.json.lock`, and waits for inode 1.
 * - I.3 I overwrites inode 1, and releases it.
 * - R.4 R locks inode 1, which the path still names, and reads the content of I.
 *
 * Every process locks `a.json.lock` before `a.json`, so they do not deadlock. A
 * process that replaces the file without `inPlace` does not lock it, so I could
 * overwrite an inode without a name. All processes should pass `inPlace` then.
 *
 * On Windows, a locked file can be neither read nor replaced. There,
 * `updateFile` locks the file only if it cannot lock the lock file.
 *
 * @module
 */

import { sep } from "node:path";
import { errorCode } from "../../ffi/types.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { formatSubject, LockException, toOpenError } from "../core/errors.ts";
import { ignoreErrors, op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { readAll } from "../file/file_io.ts";
import type { HeldLock } from "../file/held_file.ts";
import type { LockedFile } from "../file/locked_file.ts";
import { LockBase } from "../lock/lock_base.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import { resolveLockOptions } from "../options/lock_options.ts";
import type { LockSettings } from "../options/lock_options.ts";
import { FileTarget } from "../target/file_target.ts";
import { MAX_REPLACED, replacedTooOften } from "../target/lock_target.ts";
import { Busy } from "../wait/busy.ts";
import type { Deadline } from "../wait/deadline.ts";
import type { Destination } from "./destination.ts";
import { isWritable } from "./fs_ops.ts";
import type { AtomicSettings } from "./options.ts";
import type { Turn } from "./write_order.ts";

/**
 * The codes of a file that cannot be replaced, and of a directory in which no
 * file can be created: a mount point, a read-only file system, and a directory
 * that is not writable, sticky or immutable.
 */
const IRREPLACEABLE: readonly unknown[] = ["EACCES", "EBUSY", "EPERM", "EROFS"];

/** The codes of a file that can be opened for reading only. */
const READ_ONLY: readonly unknown[] = ["EACCES", "EPERM", "EROFS", "ETXTBSY"];

const IS_WINDOWS = sep === "\\";

function isIrreplaceable(error: unknown): boolean {
  return IRREPLACEABLE.includes(errorCode(error));
}

/** The error for a file that cannot be replaced, but could be overwritten. */
export class Irreplaceable extends LockException {}

/**
 * Returns the error for a file that cannot be replaced. It names the option
 * `inPlace`, if that would help.
 */
export function* irreplaceable(
  destination: Destination,
  error: unknown,
): Gen<unknown> {
  const path = destination.requestedPath;
  const overwritable = isIrreplaceable(error) && destination.old !== null &&
    (yield* isWritable(destination.path));
  if (!overwritable) return toOpenError({ path }, error, "write");
  const code = errorCode(error);
  const { errno } = error as { errno?: number };
  const reason = code === "EBUSY"
    ? "it is a mount point, or in use"
    : "its directory does not permit it";
  return new Irreplaceable(
    `Cannot write ${formatSubject({ path })}: it cannot be replaced, because ` +
      `${reason} (${code}); pass inPlace: true to overwrite it`,
    { path, code, errno, cause: error },
  );
}

/**
 * Overwrites a file with the content of a temporary file, under the lock `held`
 * or a new one. Does nothing if a later call has written the file meanwhile.
 */
export function* overwrite(
  path: string,
  content: PlatformFile,
  { durable, held }: AtomicSettings,
  turn: Turn,
): Gen<void> {
  const bytes = yield* readAll(content);
  if (!held) turn.yield();
  const file = held ?? (yield* lockContent(path, "r+", {}));
  try {
    if (turn.isOvertaken()) return;
    yield* op({
      async: () => file.replaceContents(bytes),
      sync: () => file.replaceContentsSync(bytes),
    });
    if (durable) {
      yield* op({ async: () => file.sync(), sync: () => file.syncSync() });
    }
  } finally {
    if (file !== held) yield* release(file);
  }
}

/**
 * Locks the file for an update, or returns `null` if it does not exist.
 *
 * @param alone Whether the lock file could not be locked.
 */
export function* lockForUpdate(
  path: string,
  options: AcquireOptions,
  alone: boolean,
): Gen<LockedFile | null> {
  if (IS_WINDOWS && !alone) return null;
  try {
    return yield* lockContent(path, "r+", options);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    if (!READ_ONLY.includes(errorCode(error))) throw error;
  }
  // It can be replaced, or the write fails with the same error.
  return yield* lockContent(path, "r", options);
}

function lockContent(
  path: string,
  mode: "r" | "r+",
  options: AcquireOptions,
): Gen<LockedFile> {
  const lock = new ContentLock(path, resolveLockOptions({ mode }));
  return op({
    async: () => lock.acquire(options),
    sync: () => lock.acquireSync(options),
  });
}

function release(file: LockedFile): Gen<void> {
  return op({ async: () => file.close(), sync: () => file.closeSync() });
}

/** A lock on a file that its path still names after it is locked. */
class ContentLock extends LockBase {
  constructor(path: string, settings: LockSettings) {
    const mode = { ...settings.mode, noFollow: true };
    super(new ContentTarget(path, { ...settings, mode }), settings.wait);
  }
}

class ContentTarget extends FileTarget {
  override *acquire(deadline: Deadline): Gen<HeldLock | Busy> {
    for (let replaced = 0; replaced < MAX_REPLACED; replaced++) {
      const held = yield* super.acquire(deadline);
      if (held instanceof Busy) return held;
      try {
        if (yield* this.isAt(held.file, deadline)) return held;
      } catch (error) {
        yield* ignoreErrors(held.release());
        throw error;
      }
      yield* ignoreErrors(held.release());
    }
    throw replacedTooOften(this);
  }
}
