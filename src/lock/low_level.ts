/** `lock`, `lockSync`, `unlock`: flock(2) for files that the caller opened. */

import type { ReadStream } from "node:fs";
import process from "node:process";
import { platform, selfLocking, shared } from "../../ffi/mod.ts";
import { FLOCK } from "../../ffi/types.ts";
import type {
  FileArgument,
  Lockable,
  LockIdentity,
  SelfLockingFile,
} from "../../ffi/types.ts";
import { formatValue, rejectUnknownOptions } from "../options/validate.ts";
import { publish } from "../core/diagnostics.ts";
import { alreadyLocked, formatSubject, toLockError } from "../core/errors.ts";
import type { AlreadyLocked, Deadlock, ErrorSubject } from "../core/errors.ts";
import {
  addHold,
  findHoldOfFd,
  identityOf,
  isHeldByThread,
  removeHold,
} from "../core/held_locks.ts";
import type { Hold } from "../core/held_locks.ts";
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
 * {@linkcode unlock}, when the file is closed, or when the process dies. Until
 * then, the object that the caller passes is not garbage-collected, because Node
 * and Bun close a collected `FileHandle`. A descriptor is a number, so keep the
 * object that it belongs to. If the file is locked already, the lock is upgraded or downgraded, ahead of the
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
    forgetIfLost(target);
    throw toLockError("lock", target, error, deadline);
  }
  if (!locked) {
    forgetIfLost(target);
    throw alreadyLockedError(target);
  }
  recordLocked(target, exclusive, deadline.elapsed);
}

/**
 * {@linkcode lock}, blocking the thread. Without `LOCK_NB`, the thread blocks in
 * the kernel until the lock is free, and nothing can end the wait.
 *
 * @param file What {@linkcode lock} accepts.
 * @param flags What {@linkcode lock} accepts.
 * @throws {AlreadyLocked} With the code `"EDEADLK"`, at once, if this thread
 * holds a lock in the way, because it would wait for itself. A descriptor that
 * this module has locked counts on Linux only.
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
  let deadlock: Deadlock | undefined;
  let isLocked: boolean;
  try {
    isLocked = target.tryLock(exclusive);
    if (!isLocked) {
      const before = forgetIfLost(target);
      if (blocking && isHeldByThread(target, exclusive)) {
        deadlock = "holds";
        if (before) restore(target, before.exclusive);
      } else if (blocking) {
        target.lock(exclusive);
        isLocked = true;
      }
    }
  } catch (error) {
    throw toLockError("lock", target, error);
  }
  if (!isLocked) throw alreadyLockedError(target, deadlock);
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

/** A file of the caller that this module has locked. */
class LockedByCaller implements Hold {
  /**
   * What the caller passed. It must stay reachable, because its collection
   * closes the file: Node and Bun close a `FileHandle`, and Deno closes a
   * `Deno.FsFile` whose `writable` was used.
   */
  readonly argument: FileArgument;
  readonly exclusive: boolean;
  readonly mayHaveEnded: boolean;
  index = -1;

  constructor(argument: FileArgument, exclusive: boolean) {
    this.argument = argument;
    this.exclusive = exclusive;
    // If it was closed without `unlock`, its number may be in use again.
    this.mayHaveEnded = !isSelfLocking(argument);
  }

  /** Asks anew each time: the number may belong to another file by now. */
  identity(): LockIdentity | null {
    return lockable(this.argument).identity();
  }

  isLocked(): boolean | null {
    return lockable(this.argument).isLocked();
  }
}

/**
 * What this module has locked, by descriptor or by `Deno.FsFile`.
 *
 * If a file was closed without `unlock` and its number used again, the new file
 * skips the queue once. Only the kernel of Linux reports whether the new file is
 * locked. On other systems, {@linkcode isHeldByThread} ignores descriptors.
 */
const locked = shared(
  "locked",
  () => new Map<number | FileArgument, LockedByCaller>(),
);

/** How many files are in the map when it is next searched for closed ones. */
let sweepAt = 64;

function remember(target: LockableFd, exclusive: boolean): void {
  forget(target);
  const hold = new LockedByCaller(target.argument, exclusive);
  locked.set(keyOf(target), hold);
  addHold(hold);
  if (locked.size >= sweepAt) sweep();
}

function forget(target: LockableFd): void {
  const key = keyOf(target);
  const hold = locked.get(key);
  if (!hold) return;
  locked.delete(key);
  removeHold(hold);
}

/** Forgets files that were closed without `unlock`, which would accumulate. */
function sweep(): void {
  for (const [key, hold] of locked) {
    if (identityOf(hold)) continue;
    locked.delete(key);
    removeHold(hold);
  }
  sweepAt = Math.max(64, 2 * locked.size);
}

/**
 * Forgets the lock that the file had before an attempt that failed. Linux and
 * Windows have dropped it, and macOS has kept it. Returns it.
 */
function forgetIfLost(target: LockableFd): LockedByCaller | undefined {
  const hold = locked.get(keyOf(target));
  if (!hold) return undefined;
  if (process.platform !== "darwin") forget(target);
  return hold;
}

/** Acquires the lock again that the file had before an attempt that failed. */
function restore(target: LockableFd, exclusive: boolean): void {
  if (target.tryLock(exclusive)) remember(target, exclusive);
}

/**
 * Upgrades or downgrades the lock that the file may have, in one attempt. The
 * queue must be skipped, because its waiters wait for that lock. Returns whether
 * the file is locked; if not, the file is not locked at all.
 */
function tryConvert(target: LockableFd, exclusive: boolean): boolean {
  if (!locked.has(keyOf(target))) return false;
  if (target.tryLock(exclusive)) return true;
  // Linux has dropped the old lock. macOS has kept it, and two callers would
  // wait for each other.
  target.unlock();
  forget(target);
  return false;
}

/** A file to lock, its descriptor if it has one, and what the caller passed. */
type LockableFd = Lockable & ErrorSubject & {
  readonly argument: FileArgument;
};

function keyOf({ fd, argument }: LockableFd): number | FileArgument {
  return fd ?? argument;
}

function unlockFd(target: LockableFd): void {
  try {
    target.unlock();
  } catch (error) {
    throw toLockError("release", target, error);
  } finally {
    forget(target);
    const hold = typeof target.fd === "number" && findHoldOfFd(target.fd);
    if (hold) removeHold(hold);
  }
  wakeWaiters(target);
  publish("release", () => ({ fd: target.fd }));
}

function recordLocked(
  target: LockableFd,
  exclusive: boolean,
  waited: number,
): void {
  remember(target, exclusive);
  // The lock may have been exclusive before.
  if (!exclusive) wakeWaiters(target);
  publish("acquire", () => ({ fd: target.fd, exclusive, waited }));
}

/** The file stays open, so the kernel notifies no waiter. */
function wakeWaiters(target: LockableFd): void {
  target.wakeWatchers();
  findWaitQueue(target)?.wakeAll();
}

function alreadyLockedError(
  { fd }: LockableFd,
  deadlock?: Deadlock,
): AlreadyLocked {
  const holders = typeof fd === "number" ? findHolders([fd], false, FLOCK) : [];
  return alreadyLocked(
    `Cannot lock ${formatSubject({ fd })}: already locked${
      describeHolders(holders)
    }`,
    deadlock,
    { fd: fd ?? undefined, holder: holders[0] },
  );
}

function lockable(file: FileArgument): LockableFd {
  if (isSelfLocking(file)) return { ...selfLocking(file), argument: file };
  const fd: unknown = typeof file === "object" ? file?.fd : file;
  if (typeof fd !== "number") {
    throw new TypeError(
      "file must be a descriptor, an object with one or a Deno.FsFile, not " +
        describeArgument(file, fd),
    );
  }
  if (fd === -1 && typeof file === "object") {
    throw new TypeError(
      `file must be open, not ${formatValue(file)} that is closed`,
    );
  }
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) {
    throw new RangeError(`file must be a descriptor, 0 or more, not ${fd}`);
  }
  try {
    return Object.assign(platform().fromFd(fd), { fd, argument: file });
  } catch (error) {
    throw toLockError("lock", { fd }, error);
  }
}

/** Describes an argument that does not have a descriptor, and says what to do. */
function describeArgument(file: unknown, fd: unknown): string {
  const value = formatValue(file);
  if (typeof file === "string") {
    return `${value}: to lock a path, use new Lock(path)`;
  }
  if (typeof file !== "object" || file === null || !("fd" in file)) {
    return value;
  }
  const { pending, closed, destroyed } = file as Partial<ReadStream>;
  if (fd !== null || pending !== true) {
    return `${value} whose fd is ${formatValue(fd)}`;
  }
  // A stream of node:fs has its descriptor from "open" to "close".
  return closed || destroyed
    ? `${value} that is closed`
    : `${value} that is not open yet: wait for its "open" event`;
}

function isSelfLocking(file: FileArgument): file is SelfLockingFile {
  return typeof (file as SelfLockingFile | null)?.tryLockSync === "function";
}
