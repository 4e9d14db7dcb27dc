/** `lock`, `lockSync`, `unlock`: flock(2) for files that the caller opened. */

import { inspect } from "node:util";
import { platform, selfLocking } from "../../ffi/mod.ts";
import type {
  FileArgument,
  Lockable,
  LockerSettings,
  SelfLockingFile,
} from "../../ffi/types.ts";
import { rejectUnknownOptions } from "../options/validate.ts";
import { publish } from "../core/diagnostics.ts";
import { AlreadyLocked, formatSubject, toLockError } from "../core/errors.ts";
import type { ErrorSubject } from "../core/errors.ts";
import { describeHolders, findHolders } from "../core/holders.ts";
import { parseFlags } from "../options/flags.ts";
import type { LockFlags } from "../options/flags.ts";
import {
  resolveAcquireOptions,
  WAIT_FOREVER,
} from "../options/acquire_options.ts";
import { abortReason, atEdge, atEdgeAsync } from "../core/stack.ts";
import type { Gen } from "../core/gensync.ts";
import { runAsync } from "../core/gensync.ts";
import { findWaitQueue } from "../wait/wait_queue.ts";
import { Deadline, now } from "../wait/deadline.ts";
import { lockBeforeDeadline } from "../wait/wait_loop.ts";

/**
 * Locks an open file with flock(2), without blocking the thread.
 *
 * The lock belongs to the open file, not to the process. It ends with
 * {@linkcode unlock}, when the file is closed, or when the process dies. If the
 * file is locked already, the lock is upgraded or downgraded, ahead of the
 * queue of this thread. If another holder is in the way, the call waits without
 * the lock that the file had.
 *
 * @example Lock a file of `node:fs`
 * ```ts
 * import { lock, LOCK_EX, unlock } from "jsr:@x/portalock";
 * import { open } from "node:fs/promises";
 *
 * const file = await open("data.bin", "a+");
 * await lock(file, LOCK_EX);
 * try {
 *   await file.write("mine\n");
 * } finally {
 *   unlock(file);
 *   await file.close();
 * }
 * ```
 *
 * @param file A descriptor, an object with one (such as the `FileHandle` of
 * `node:fs/promises`), or a `Deno.FsFile`.
 * @param flags `LOCK_EX`, `LOCK_SH` or `LOCK_UN`. Without `LOCK_NB`, waits
 * without a time limit.
 * @param options `signal` ends the wait.
 * @throws {AlreadyLocked} If another holder has the lock and `flags` has
 * `LOCK_NB`.
 * @throws {LockUnsupported} If the runtime or the file system cannot lock.
 * @throws {LockException} If the system refuses the lock for another reason.
 * @throws {TypeError} If an argument is of the wrong type.
 * @throws {RangeError} If an argument is out of range.
 * @throws The reason of `signal` if it is aborted.
 */
export function lock(
  file: FileArgument,
  flags: LockFlags,
  options?: { signal?: AbortSignal },
): Promise<void> {
  return atEdgeAsync(lock, () => runAsync(lockFile(file, flags, options)));
}

function* lockFile(
  file: FileArgument,
  flags: LockFlags,
  options: { signal?: AbortSignal } | undefined,
): Gen<void> {
  const { kind, blocking } = parseFlags(flags);
  if (options) rejectUnknownOptions(options, { signal: true });
  const settings = resolveAcquireOptions(options, WAIT_FOREVER);
  if (settings.signal?.aborted) throw abortReason(settings.signal);
  const target = lockable(file);
  if (kind === "unlock") return unlockFd(target);
  const exclusive = kind === "exclusive";
  const deadline = new Deadline({ ...settings, failWhenLocked: !blocking }, {
    onContended: () => publish("wait", () => ({ fd: target.fd, exclusive })),
  });
  let locked: boolean;
  try {
    locked = blocking && tryConvert(target, exclusive) ||
      (yield* lockBeforeDeadline(target, { exclusive, deadline }));
  } catch (error) {
    throw toLockError("lock", target, error, deadline);
  }
  if (!locked) throw alreadyLockedError(target);
  recordLocked(target, exclusive, deadline.elapsed);
}

/**
 * {@linkcode lock}, blocking the thread. Without `LOCK_NB`, the thread blocks in
 * the kernel until the lock is free, and nothing can end the wait.
 *
 * @param file What {@linkcode lock} accepts.
 * @param flags What {@linkcode lock} accepts.
 * @throws What {@linkcode lock} throws.
 */
export function lockSync(file: FileArgument, flags: LockFlags): void {
  return atEdge(lockSync, () => lockFileSync(file, flags));
}

function lockFileSync(file: FileArgument, flags: LockFlags): void {
  const { kind, blocking } = parseFlags(flags);
  const target = lockable(file);
  if (kind === "unlock") return unlockFd(target);
  const exclusive = kind === "exclusive";
  const start = now();
  let locked = true;
  try {
    if (blocking) target.lock(exclusive);
    else locked = target.tryLock(exclusive);
  } catch (error) {
    throw toLockError("lock", target, error);
  }
  if (!locked) throw alreadyLockedError(target);
  recordLocked(target, exclusive, now() - start);
}

/**
 * Unlocks an open file. Does nothing if it is not locked.
 *
 * @param file What {@linkcode lock} accepts.
 * @throws {LockException} If the system refuses, for example because the file
 * is closed.
 * @throws {TypeError} If `file` is of the wrong type.
 */
export function unlock(file: FileArgument): void {
  return atEdge(unlock, () => unlockFd(lockable(file)));
}

/**
 * Descriptors that this module has locked. If one was closed without `unlock`
 * and its number used again, the new file skips the queue once.
 */
const lockedFds = new Set<number>();

/**
 * Upgrades or downgrades the lock that the file may have, in one attempt. The
 * queue must be skipped, because its waiters wait for that lock. Returns whether
 * the file is locked; if not, the file is not locked at all.
 */
function tryConvert(target: LockableFd, exclusive: boolean): boolean {
  if (typeof target.fd !== "number" || !lockedFds.has(target.fd)) return false;
  if (target.tryLock(exclusive)) return true;
  // Linux has dropped the old lock. macOS has kept it, and two callers would
  // wait for each other.
  target.unlock();
  return false;
}

/** The locker of this module. */
const FLOCK: LockerSettings = { name: "flock" };

/** A file to lock, and its descriptor if it has one. */
type LockableFd = Lockable & ErrorSubject;

function unlockFd(target: LockableFd): void {
  try {
    target.unlock();
  } catch (error) {
    throw toLockError("release", target, error);
  } finally {
    if (typeof target.fd === "number") lockedFds.delete(target.fd);
  }
  wakeWaiters(target);
  publish("release", () => ({ fd: target.fd }));
}

function recordLocked(
  target: LockableFd,
  exclusive: boolean,
  waited: number,
): void {
  if (typeof target.fd === "number") lockedFds.add(target.fd);
  // The lock may have been exclusive before.
  if (!exclusive) wakeWaiters(target);
  publish("acquire", () => ({ fd: target.fd, exclusive, waited }));
}

/** The file stays open, so the kernel notifies no waiter. */
function wakeWaiters(target: LockableFd): void {
  target.wakeWatchers();
  findWaitQueue(target)?.wakeAll();
}

function alreadyLockedError({ fd }: LockableFd): AlreadyLocked {
  const holders = typeof fd === "number" ? findHolders([fd], false, FLOCK) : [];
  return new AlreadyLocked(
    `Cannot lock ${formatSubject({ fd })}: already locked${
      describeHolders(holders)
    }`,
    { fd: fd ?? undefined, holder: holders[0] },
  );
}

function lockable(file: FileArgument): LockableFd {
  if (isSelfLocking(file)) return selfLocking(file);
  const fd: unknown = typeof file === "object" ? file?.fd : file;
  if (typeof fd !== "number") {
    throw new TypeError(
      `file must be a descriptor, an object with one or a Deno.FsFile, not ${
        inspect(file)
      }`,
    );
  }
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) {
    throw new RangeError(`file must be a descriptor, 0 or more, not ${fd}`);
  }
  try {
    return Object.assign(platform().fromFd(fd), { fd });
  } catch (error) {
    throw toLockError("lock", { fd }, error);
  }
}

function isSelfLocking(file: FileArgument): file is SelfLockingFile {
  return typeof (file as SelfLockingFile | null)?.tryLockSync === "function";
}
