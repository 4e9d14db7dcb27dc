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
import { describeHolders } from "../core/holders.ts";
import { parseFlags } from "../options/flags.ts";
import type { LockFlags } from "../options/flags.ts";
import {
  resolveAcquireOptions,
  WAIT_FOREVER,
} from "../options/acquire_options.ts";
import { runAsync } from "../core/gensync.ts";
import { findWaitQueue } from "../wait/wait_queue.ts";
import { Deadline, now } from "../wait/deadline.ts";
import { acquireWithWait } from "../wait/wait_loop.ts";

/**
 * Locks an open file: flock(2) that does not block the thread.
 *
 * The lock belongs to the open file, not to the process: it ends with
 * {@linkcode unlock}, when the file is closed, or when the process dies. A file
 * that is locked already changes the kind of its lock, ahead of those who wait
 * for it; if others are in the way, it waits without the lock it had.
 *
 * @example
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
 * @param flags `LOCK_EX`, `LOCK_SH` or `LOCK_UN`; without `LOCK_NB` waits as
 * long as it takes.
 * @param options `signal` ends the wait.
 * @throws {AlreadyLocked} If somebody else holds the lock and `flags` has
 * `LOCK_NB`.
 * @throws {LockUnsupported} If the runtime or the file system cannot lock.
 * @throws {LockException} If the system refuses for another reason.
 * @throws {TypeError} If an argument is of the wrong type.
 * @throws {RangeError} If an argument has an impossible value.
 */
export async function lock(
  file: FileArgument,
  flags: LockFlags,
  options?: { signal?: AbortSignal },
): Promise<void> {
  const { kind, blocking } = parseFlags(flags);
  if (options) rejectUnknownOptions(options, ["signal"]);
  const settings = resolveAcquireOptions(options, WAIT_FOREVER);
  settings.signal?.throwIfAborted();
  const target = lockable(file);
  if (kind === "unlock") return unlockFd(target);
  const exclusive = kind === "exclusive";
  const deadline = new Deadline({ ...settings, failWhenLocked: !blocking });
  const subject = { fd: target.fd, exclusive };
  const onWait = () => publish("wait", () => subject);
  let locked: boolean;
  try {
    locked = blocking && tryConvert(target, exclusive) ||
      await runAsync(acquireWithWait(target, exclusive, deadline, onWait));
  } catch (error) {
    throw toLockError("lock", target, error, deadline);
  }
  if (!locked) throw alreadyLockedError(target);
  recordLocked(target, exclusive, deadline.elapsed);
}

/**
 * {@linkcode lock}, blocking the thread: without `LOCK_NB` in the kernel, until
 * the lock is free, with nothing to end the wait.
 */
export function lockSync(file: FileArgument, flags: LockFlags): void {
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
 * Unlocks an open file. It is no error if it is not locked.
 *
 * @param file What {@linkcode lock} takes.
 * @throws {LockException} If the system refuses, as it does for a file that is
 * closed.
 * @throws {TypeError} If `file` is of the wrong type.
 */
export function unlock(file: FileArgument): void {
  unlockFd(lockable(file));
}

/**
 * Descriptors that were locked here. One that was closed since may be another
 * file by now, which then goes ahead of others once.
 */
const lockedFds = new Set<number>();

/**
 * Changes the lock that a file may have, if that is possible at once. It must
 * not queue behind those who wait for that very lock; if it has to wait, it
 * waits without one.
 */
function tryConvert(target: LockableFd, exclusive: boolean): boolean {
  if (typeof target.fd !== "number" || !lockedFds.has(target.fd)) return false;
  if (target.tryLock(exclusive)) return true;
  // Gone by now, but on macOS, where two would wait for each other.
  target.unlock();
  return false;
}

/** The locker of everything here. */
const FLOCK: LockerSettings = { name: "flock" };

/** What is to be locked, and by which number, if it has one. */
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
  // It may have been exclusive before.
  if (!exclusive) wakeWaiters(target);
  publish("acquire", () => ({ fd: target.fd, exclusive, waited }));
}

/** The file stays open, so the system tells nobody of the release. */
function wakeWaiters(target: LockableFd): void {
  target.wakeWatchers();
  findWaitQueue(target)?.wakeAll();
}

function alreadyLockedError({ fd }: LockableFd): AlreadyLocked {
  const holders = typeof fd === "number"
    ? platform().holders(fd, false, FLOCK)
    : [];
  return new AlreadyLocked(
    `Cannot lock ${formatSubject({ fd })}: already locked${
      describeHolders(holders)
    }`,
    { fd: fd ?? undefined, holderPid: holders[0]?.pid },
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
