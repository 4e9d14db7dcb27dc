/**
 * `FileTarget`: locks one file, which stays when the lock is released.
 *
 * Other programs may remove or replace the file all the same: a cleaner of old
 * files, `mv`, an editor. A waiter then waits for a file that no process finds
 * at the path anymore. So after a wait, it checks that its path still leads to
 * the file that it locked, and else opens the path again, before the same
 * deadline. P holds the lock, X replaces the file, Q acquires the lock (Q.1
 * open, Q.2 first attempt, Q.3 wait, Q.4 check), R comes later:
 *
 * 1. `Q.1 Q.2 Q.3 X P.close Q.4`: the check fails. Q opens the new file, and
 *    waits for R if R holds it.
 * 2. `Q.1 Q.2 X Q.3 P.close Q.4`: the same. The wait does not end earlier, so Q
 *    waits for the holder of the old file, too.
 * 3. `X Q.1`: P holds the old file and Q gets the new one at once. Both are
 *    inside. Only P can know: see `LossWatch`.
 * 4. `Q.1 Q.2 Q.3 P.close Q.4 X`: Q holds the old file, as P does in 3.
 * 5. `Q.1 X P.close Q.2`: Q locks the old file without a wait, and does not
 *    check. The check would cost each acquisition two system calls, and X must
 *    fall into the microseconds between Q.1 and Q.2.
 *
 * @module
 */

import { platform } from "../../ffi/mod.ts";
import type {
  FileName,
  LockerSettings,
  LockHolder,
  LockIdentity,
  PlatformFile,
} from "../../ffi/types.ts";
import {
  LockException,
  toLockError,
  toNoFollowError,
  toOpenError,
} from "../core/errors.ts";
import { abortReason } from "../core/stack.ts";
import { op, runAsync, throwAfter } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { addHold, removeHold } from "../core/held_locks.ts";
import type { Hold } from "../core/held_locks.ts";
import { describeHolders, findHolders } from "../core/holders.ts";
import { absolute } from "../core/paths.ts";
import { empty, unlockAndClose } from "../file/file_io.ts";
import type { HeldLock } from "../file/held_file.ts";
import type { LockSettings } from "../options/lock_options.ts";
import type { LockedMode } from "../options/open_mode.ts";
import { Busy } from "../wait/busy.ts";
import { isLongWait } from "../wait/deadline.ts";
import type { Deadline } from "../wait/deadline.ts";
import { cleanUpInTime, inTime, runInTime } from "../wait/in_time.ts";
import { lockBeforeDeadline } from "../wait/wait_loop.ts";
import { findWaitQueue } from "../wait/wait_queue.ts";
import type { WaitQueue } from "../wait/wait_queue.ts";
import { MAX_REPLACED, replacedTooOften } from "./lock_target.ts";
import type { LockTarget } from "./lock_target.ts";

/** How a file is opened and locked. */
export type FileSettings = Omit<LockSettings, "wait">;

/**
 * A file, and how it is opened and locked. A relative path is resolved when the
 * object is created: the first attempt, the queue of the waiters, each look at
 * the path and the release must mean one file, although the program may change
 * its current directory in between.
 */
export class FileTarget implements LockTarget {
  readonly path: string;
  /** The path that system calls get. */
  readonly absolutePath: string;
  readonly exclusive: boolean;
  readonly locker: LockerSettings;
  readonly settings: FileSettings;

  constructor(path: string, settings: FileSettings) {
    this.path = path;
    this.absolutePath = absolute(path);
    this.exclusive = settings.exclusive;
    this.locker = settings.locker;
    this.settings = settings;
  }

  get throwOnReleaseError(): boolean {
    return this.settings.throwOnReleaseError;
  }

  get files(): readonly string[] {
    return [this.absolutePath];
  }

  *acquire(deadline: Deadline): Gen<HeldLock | Busy> {
    for (let replaced = 0; replaced < MAX_REPLACED; replaced++) {
      const file = yield* this.open(deadline);
      const { contentions } = deadline;
      if (!(yield* this.lock(file, deadline))) return this.busy();
      const held = new HeldFile(this, file);
      const waited = deadline.contentions > contentions;
      if (!waited || (yield* this.isInPlace(held, deadline))) {
        return this.settings.mode.truncate
          ? yield* this.finishInTime(held, deadline)
          : held;
      }
      yield* cleanUpInTime(held.release(), deadline);
      if (deadline.remaining <= 0) return this.busy();
    }
    throw replacedTooOften(this);
  }

  /** Checks a locked file, which counts as held by this thread meanwhile. */
  *whileHeld<T>(file: PlatformFile, check: Gen<T>): Gen<T> {
    const hold = new HeldFile(this, file);
    try {
      return yield* check;
    } finally {
      removeHold(hold);
    }
  }

  /** Returns whether the path leads to the file, or cannot be read. */
  *isInPlace(held: HeldFile, deadline: Deadline): Gen<boolean> {
    if (this.settings.replaced === "ignore") return true;
    try {
      return yield* this.isAt(held.file, deadline);
    } catch (error) {
      const ended = error instanceof LockException ||
        deadline.wasCancelledWith(error);
      if (!ended) return true;
      yield* cleanUpInTime(held.release(), deadline);
      throw error;
    }
  }

  /** Opens the file and does not truncate it. */
  *open(deadline: Deadline): Gen<PlatformFile> {
    const { locker, absolutePath: path } = this;
    const { mode, creationMode } = this.settings;
    const { signal } = deadline;
    if (signal?.aborted) throw abortReason(signal);
    try {
      const system = platform();
      // Yields the step itself: `op` would add a generator to each acquire.
      return (yield {
        async: () => {
          const file = system.open(path, mode, creationMode, locker);
          if (!(file instanceof Promise)) return file;
          return inTime(file, {
            deadline,
            subject: this,
            discard: (late) => this.discardLateOpen(late),
          });
        },
        sync: () => system.openSync(path, mode, creationMode, locker),
      }) as PlatformFile;
    } catch (error) {
      if (deadline.wasCancelledWith(error)) throw error;
      throw mode.noFollow
        ? toNoFollowError(this, error)
        : toOpenError(this, error);
    }
  }

  /** Returns whether the path leads to the file. */
  isAt(file: PlatformFile, deadline: Deadline): Gen<boolean> {
    const { absolutePath: path, settings: { mode: { noFollow = false } } } =
      this;
    return op({
      async: () => {
        const result = file.isAt(path, noFollow);
        return result instanceof Promise
          ? inTime(result, { deadline, subject: this })
          : result;
      },
      sync: () => file.isAtSync(path, noFollow),
    });
  }

  /** Describes the file if the path leads to it. Returns `null` if not. */
  nameAt(file: PlatformFile, deadline: Deadline): Gen<FileName | null> {
    const { absolutePath: path, settings: { mode: { noFollow = false } } } =
      this;
    return op<FileName | null>({
      async: () => {
        const name = file.nameAt(path, noFollow);
        return name instanceof Promise
          ? inTime(name, { deadline, subject: this })
          : name;
      },
      sync: () => file.nameAtSync(path, noFollow),
    });
  }

  /** Closes a file that was opened after the acquisition had ended. */
  discardLateOpen(file: PlatformFile): void | Promise<void> {
    return file.close();
  }

  /** Locks the file before the deadline, or closes it. */
  *lock(file: PlatformFile, deadline: Deadline): Gen<boolean> {
    let locked = false;
    try {
      const { exclusive } = this;
      locked = yield* lockBeforeDeadline(file, { exclusive, deadline });
      if (locked) deadline.allowChecks();
    } catch (error) {
      yield* cleanUpInTime(unlockAndClose(file), deadline);
      throw toLockError("lock", this, error, deadline);
    }
    if (!locked) yield* cleanUpInTime(unlockAndClose(file), deadline);
    return locked;
  }

  /**
   * {@linkcode FileTarget.finishAcquire} before the deadline. The lock is held
   * until the file is prepared: later, that would change another holder's file.
   */
  *finishInTime(held: HeldFile, deadline: Deadline): Gen<HeldLock> {
    try {
      deadline.throwIfAborted();
    } catch (reason) {
      return yield* throwAfter(reason, held.release());
    }
    return yield* runInTime(this.finishAcquire(held), {
      deadline,
      abortable: false,
      subject: this,
      discard: (late) => runAsync(late.release()),
    });
  }

  /** Prepares the locked file for the caller. Releases it if that fails. */
  *finishAcquire(held: HeldFile): Gen<HeldLock> {
    try {
      yield* this.prepare(held);
      return held;
    } catch (error) {
      return yield* throwAfter(error, held.release());
    }
  }

  /** Prepares the locked file: truncates it if the mode says so. */
  *prepare(held: HeldFile): Gen<void> {
    if (!this.settings.mode.truncate) return;
    try {
      yield* empty(held.file);
    } catch (error) {
      throw toLockError("lock", this, error);
    }
  }

  /** Returns the holders whose locks conflict with that of this target. */
  findHolders(search: boolean): LockHolder[] {
    return findHolders(this.files, search, this.locker);
  }

  /** Returns the result that names the holders of the file. */
  busy(): Busy {
    return new Busy((elapsed) => {
      const search = isLongWait(elapsed);
      const holders = this.findHolders(search);
      const reason = `already locked${describeHolders(holders)}`;
      return { reason, holder: holders[0] };
    });
  }
}

/** A locked file. */
export class HeldFile implements HeldLock, Hold {
  readonly path: string;
  readonly mode: LockedMode;
  readonly locker: LockerSettings;
  exclusive: boolean;
  readonly notRelockable?: string;
  readonly mayBeLost?: boolean;
  readonly file: PlatformFile;
  /** Any close of the file ends a lock that belongs to the process. */
  readonly mayHaveEnded: boolean;
  index = -1;
  onReleased: (() => void) | undefined;
  readonly absolutePath: string;
  readonly #throws: boolean;
  #released = false;

  constructor(target: FileTarget, file: PlatformFile) {
    const { path, absolutePath, settings } = target;
    this.path = path;
    this.absolutePath = absolutePath;
    this.mode = settings.mode;
    this.locker = settings.locker;
    this.exclusive = settings.exclusive;
    this.file = file;
    this.mayHaveEnded = settings.locker.name === "lockf";
    this.#throws = settings.throwOnReleaseError;
    addHold(this);
  }

  *release(): Gen<void> {
    // After the first release, the descriptor may belong to another file.
    if (this.#released) return;
    this.#released = true;
    removeHold(this);
    try {
      yield* this.unlockFile();
    } catch (error) {
      if (this.#throws) throw toLockError("release", this, error);
    } finally {
      this.onReleased?.();
    }
  }

  isInPlace(): boolean | Promise<boolean> {
    return this.file.isAt(this.absolutePath, this.mode.noFollow ?? false);
  }

  identity(): LockIdentity | null {
    return this.file.identity();
  }

  isLocked(): boolean | null {
    return this.file.isLocked();
  }

  /** Unlocks and closes the file. */
  unlockFile(): Gen<void> {
    return unlockAndWake(this.file);
  }
}

/** Unlocks and closes a file, and wakes its waiters in this thread. */
export function* unlockAndWake(file: PlatformFile): Gen<void> {
  let queue: WaitQueue | undefined;
  try {
    queue = findWaitQueue(file);
  } catch {
    // fstat(2) failed. Waiters try again after `checkInterval`.
  }
  try {
    yield* unlockAndClose(file);
  } finally {
    queue?.wakeAll();
  }
}
