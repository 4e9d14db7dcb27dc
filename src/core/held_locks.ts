/**
 * The file locks that this thread holds, and whether it would wait for itself.
 *
 * The list keeps each lock reachable until it is released. So the garbage
 * collector closes no file of a lock that a program relies on.
 *
 * A blocked thread cannot release what it holds. T is a thread, P another
 * process, and T blocks in `acquireSync` or `lockSync` (T.3):
 *
 * 1. `T.1 locks, T.3 blocks`: no other task of T runs, so T waits for itself.
 * 2. `T.1 shares, P.2 shares, T.3 blocks for an exclusive lock`: P will release
 *    its lock, but T will not. T waits for itself.
 * 3. `P.1 locks, T.3 blocks`: T holds nothing, and P ends the wait. While T is
 *    blocked it cannot acquire anything, so one check before the wait is enough.
 * 4. `T.1 locks, T.2 closes with operations in flight, T.3 blocks`: the release
 *    is a task of T, so the lock is in the list until the task has run.
 * 5. `T.1 shares, T.2 upgrades asynchronously, T.3 blocks`: flock(2) has dropped
 *    the shared lock meanwhile, so it is not in the list until it is back.
 * 6. Another thread of the process holds the lock: it has a list of its own. It
 *    can release the lock, so T waits as in 3.
 *
 * @module
 */

import { shared } from "../../ffi/mod.ts";
import type {
  Lockable,
  LockerSettings,
  LockIdentity,
  PlatformFile,
} from "../../ffi/types.ts";

/** A lock that this thread holds. */
export interface Hold extends Pick<Lockable, "identity" | "isLocked"> {
  /** The open file, if this package has opened it. */
  readonly file?: PlatformFile;
  readonly exclusive: boolean;
  /**
   * Whether the lock may have ended without a release, because another part of
   * the program closed the file. The system is asked, if it reports that.
   */
  readonly mayHaveEnded: boolean;
  /** Its place in the list. Only this module uses it. */
  index: number;
}

/** The locks, in no order. */
const holds = shared<Hold[]>("holds", () => []);

/** Adds a lock that this thread has acquired. */
export function addHold(hold: Hold): void {
  // A place in an array costs a tenth of a place in a `Set`.
  hold.index = holds.length;
  holds.push(hold);
}

/** Removes a lock. Does nothing if it is not in the list. */
export function removeHold(hold: Hold): void {
  const { index } = hold;
  if (holds[index] !== hold) return;
  const last = holds.pop()!;
  if (last === hold) return;
  holds[index] = last;
  last.index = index;
}

/** Returns the lock of an open file, if it is in the list. */
export function findHold(file: PlatformFile): Hold | undefined {
  return holds.find((hold) => hold.file === file);
}

/** Returns the lock of a descriptor, if this package has opened it. */
export function findHoldOfFd(fd: number): Hold | undefined {
  return holds.find((hold) => hold.file?.fd === fd);
}

/** What a thread wants to lock: a file, or any one of several files. */
export interface Wanted {
  readonly identity?: Lockable["identity"];
  /** The files, if any one of them is enough. */
  readonly alternatives?: () => Iterable<Wanted>;
}

/**
 * Returns whether a lock of this thread prevents it from locking the file, no
 * matter what other processes hold.
 */
export function isHeldByThread(wanted: Wanted, exclusive: boolean): boolean {
  if (holds.length === 0) return false;
  const files = [...wanted.alternatives?.() ?? [wanted]];
  return files.length > 0 &&
    files.every((file) => isFileHeldByThread(file, exclusive));
}

function isFileHeldByThread(file: Wanted, exclusive: boolean): boolean {
  const identity = identityOf(file);
  return identity !== null &&
    holds.some((hold) =>
      (exclusive || hold.exclusive) &&
      conflict(identity, identityOf(hold)) && !hasEnded(hold)
    );
}

/** Returns `null` if the file is closed or cannot be identified. */
export function identityOf(file: Wanted): LockIdentity | null {
  try {
    return file.identity?.() ?? null;
  } catch {
    return null;
  }
}

/**
 * If the system does not report it, the lock is taken to have ended: a wait that
 * does not end is a bug of the program, but an error would break a correct one.
 */
function hasEnded(hold: Hold): boolean {
  return hold.mayHaveEnded && hold.isLocked() !== true;
}

/** Returns whether two open files of this thread exclude each other. */
function conflict(one: LockIdentity, other: LockIdentity | null): boolean {
  if (other === null || one.file !== other.file) return false;
  // The lock of the same open file is replaced.
  if (one.open === other.open) return false;
  return kindsConflict(one.locker, other.locker) &&
    rangesOverlap(one.locker.range, other.locker.range);
}

/**
 * Returns whether two kinds of locks of one process conflict: see fcntl(2). On
 * Windows all of them are `"flock"`.
 */
function kindsConflict(one: LockerSettings, other: LockerSettings): boolean {
  if (one.name === "flock" || other.name === "flock") {
    return one.name === other.name;
  }
  return one.name === "ofd" || other.name === "ofd";
}

function rangesOverlap(
  one: LockerSettings["range"],
  other: LockerSettings["range"],
): boolean {
  return !one || !other ||
    one.start < other.start + other.length &&
      other.start < one.start + one.length;
}
