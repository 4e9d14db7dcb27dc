/** `lock`, `lockSync`, `unlock`: flock(2) for files that the caller opened. */

import { inspect } from "node:util";
import { native, selfLocking } from "../../ffi/mod.ts";
import type {
  FileArgument,
  Lockable,
  LockerSettings,
  SelfLockingFile,
} from "../../ffi/types.ts";
import { checkNames } from "../options/validate.ts";
import { publish } from "../core/diagnostics.ts";
import { AlreadyLocked, lockFailure, shown } from "../core/errors.ts";
import type { Subject } from "../core/errors.ts";
import { by } from "../core/holders.ts";
import { parseFlags } from "../options/flags.ts";
import type { LockFlags } from "../options/flags.ts";
import {
  acquireWait,
  AS_LONG_AS_IT_TAKES,
} from "../options/acquire_options.ts";
import { perform } from "../core/gensync.ts";
import { contestFor } from "../wait/wait_queue.ts";
import { now, Patience } from "../wait/deadline.ts";
import { waitFor } from "../wait/wait_loop.ts";

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
  if (options) checkNames(options, ["signal"]);
  const wait = acquireWait(options, AS_LONG_AS_IT_TAKES);
  wait.signal?.throwIfAborted();
  const target = lockable(file);
  if (kind === "unlock") return release(target);
  const exclusive = kind === "exclusive";
  const patience = new Patience({ ...wait, failWhenLocked: !blocking });
  const subject = { fd: target.fd, exclusive };
  const onWait = () => publish("wait", () => subject);
  let locked: boolean;
  try {
    locked = blocking && changes(target, exclusive) ||
      await perform(waitFor(target, exclusive, patience, onWait));
  } catch (error) {
    throw lockFailure("lock", target, error, patience);
  }
  if (!locked) throw alreadyLocked(target);
  isLocked(target, exclusive, patience.waited);
}

/**
 * {@linkcode lock}, blocking the thread: without `LOCK_NB` in the kernel, until
 * the lock is free, with nothing to end the wait.
 */
export function lockSync(file: FileArgument, flags: LockFlags): void {
  const { kind, blocking } = parseFlags(flags);
  const target = lockable(file);
  if (kind === "unlock") return release(target);
  const exclusive = kind === "exclusive";
  const start = now();
  let locked = true;
  try {
    if (blocking) target.lock(exclusive);
    else locked = target.tryLock(exclusive);
  } catch (error) {
    throw lockFailure("lock", target, error);
  }
  if (!locked) throw alreadyLocked(target);
  isLocked(target, exclusive, now() - start);
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
  release(lockable(file));
}

/**
 * Descriptors that were locked here. One that was closed since may be another
 * file by now, which then goes ahead of others once.
 */
const known = new Set<number>();

/**
 * Changes the lock that a file may have, if that is possible at once. It must
 * not queue behind those who wait for that very lock; if it has to wait, it
 * waits without one.
 */
function changes(target: Target, exclusive: boolean): boolean {
  if (typeof target.fd !== "number" || !known.has(target.fd)) return false;
  if (target.tryLock(exclusive)) return true;
  // Gone by now, but on macOS, where two would wait for each other.
  target.unlock();
  return false;
}

/** The locker of everything here. */
const FLOCK: LockerSettings = { name: "flock" };

/** What is to be locked, and by which number, if it has one. */
type Target = Lockable & Subject;

function release(target: Target): void {
  try {
    target.unlock();
  } catch (error) {
    throw lockFailure("release", target, error);
  } finally {
    if (typeof target.fd === "number") known.delete(target.fd);
  }
  wakeOthers(target);
  publish("release", () => ({ fd: target.fd }));
}

function isLocked(target: Target, exclusive: boolean, waited: number): void {
  if (typeof target.fd === "number") known.add(target.fd);
  // It may have been exclusive before.
  if (!exclusive) wakeOthers(target);
  publish("acquire", () => ({ fd: target.fd, exclusive, waited }));
}

/** The file stays open, so the system tells nobody of the release. */
function wakeOthers(target: Target): void {
  target.announce();
  contestFor(target)?.ring();
}

function alreadyLocked({ fd }: Target): AlreadyLocked {
  const holders = typeof fd === "number"
    ? native().holders(fd, false, FLOCK)
    : [];
  return new AlreadyLocked(
    `Cannot lock ${shown({ fd })}: already locked${by(holders)}`,
    { fd: fd ?? undefined, holderPid: holders[0]?.pid },
  );
}

function lockable(file: FileArgument): Target {
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
    return Object.assign(native().descriptor(fd), { fd });
  } catch (error) {
    throw lockFailure("lock", { fd }, error);
  }
}

function isSelfLocking(file: FileArgument): file is SelfLockingFile {
  return typeof (file as SelfLockingFile | null)?.tryLockSync === "function";
}
