/** `FileTarget`: locks one file, which stays when the lock is released. */

import { platform } from "../../ffi/mod.ts";
import type { LockerSettings, PlatformFile } from "../../ffi/types.ts";
import { toLockError, toNoFollowError, toOpenError } from "../core/errors.ts";
import { abortReason } from "../core/stack.ts";
import { ignoreErrors, op, runAsync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { describeHolders } from "../core/holders.ts";
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
import type { LockTarget } from "./lock_target.ts";

/** How a file is opened and locked. */
export type FileSettings = Omit<LockSettings, "wait">;

/** A file, and how it is opened and locked. */
export class FileTarget implements LockTarget {
  readonly path: string;
  readonly exclusive: boolean;
  readonly locker: LockerSettings;
  readonly settings: FileSettings;

  constructor(path: string, settings: FileSettings) {
    this.path = path;
    this.exclusive = settings.exclusive;
    this.locker = settings.locker;
    this.settings = settings;
  }

  get throwOnReleaseError(): boolean {
    return this.settings.throwOnReleaseError;
  }

  get files(): readonly string[] {
    return [this.path];
  }

  *acquire(deadline: Deadline): Gen<HeldLock | Busy> {
    const file = yield* this.open(deadline);
    if (!(yield* this.lock(file, deadline))) return this.busy();
    const held = new HeldFile(this, file);
    return this.settings.mode.truncate
      ? yield* this.finishInTime(held, deadline)
      : held;
  }

  /** Opens the file and does not truncate it. `path` is its present path. */
  *open(
    deadline: Deadline,
    path: string = this.path,
  ): Gen<PlatformFile> {
    const { locker } = this;
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
            discard: (late) => this.discardLateOpen(late, path),
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

  /** Returns whether the path names the file, and not a link to it. */
  isStillAt(
    file: PlatformFile,
    path: string,
    deadline: Deadline,
  ): Gen<boolean> {
    return op({
      async: () => {
        const result = file.isStillAtAsync(path);
        return result instanceof Promise
          ? inTime(result, { deadline, subject: this })
          : result;
      },
      sync: () => file.isStillAt(path),
    });
  }

  /** Closes a file that was opened after the acquisition had ended. */
  discardLateOpen(file: PlatformFile, _path: string): void | Promise<void> {
    return file.close();
  }

  /** Locks the file before the deadline, or closes it. */
  *lock(file: PlatformFile, deadline: Deadline): Gen<boolean> {
    let locked = false;
    try {
      const { exclusive } = this;
      locked = yield* lockBeforeDeadline(file, { exclusive, deadline });
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
  finishInTime(
    held: HeldFile,
    deadline: Deadline,
    path: string = this.path,
  ): Gen<HeldLock> {
    return runInTime(this.finishAcquire(held, path), {
      deadline,
      subject: this,
      discard: (late) => runAsync(late.release()),
    });
  }

  /** Prepares the locked file for the caller. Releases it if that fails. */
  *finishAcquire(held: HeldFile, path: string = this.path): Gen<HeldLock> {
    try {
      yield* this.prepare(held.file, path);
      return held;
    } catch (error) {
      yield* ignoreErrors(held.release());
      throw error;
    }
  }

  /** Prepares the locked file: truncates it if the mode says so. */
  *prepare(file: PlatformFile, _path: string): Gen<void> {
    if (!this.settings.mode.truncate) return;
    try {
      yield* empty(file);
    } catch (error) {
      throw toLockError("lock", this, error);
    }
  }

  /** Returns the result that names the holders of the file. */
  busy(): Busy {
    return new Busy((elapsed) => {
      const search = isLongWait(elapsed);
      const holders = platform().holders(this.path, search, this.locker);
      const reason = `already locked${describeHolders(holders)}`;
      return { reason, holderPid: holders[0]?.pid };
    });
  }
}

/** A locked file. */
export class HeldFile implements HeldLock {
  readonly path: string;
  readonly mode: LockedMode;
  readonly locker: LockerSettings;
  exclusive: boolean;
  readonly notRelockable?: string;
  readonly keepUntilExit?: boolean;
  readonly file: PlatformFile;
  onReleased: (() => void) | undefined;
  readonly #throws: boolean;
  #released = false;

  constructor({ path, settings }: FileTarget, file: PlatformFile) {
    this.path = path;
    this.mode = settings.mode;
    this.locker = settings.locker;
    this.exclusive = settings.exclusive;
    this.file = file;
    this.#throws = settings.throwOnReleaseError;
  }

  *release(): Gen<void> {
    // After the first release, the descriptor may belong to another file.
    if (this.#released) return;
    this.#released = true;
    try {
      yield* this.unlockFile();
    } catch (error) {
      if (this.#throws) throw toLockError("release", this, error);
    } finally {
      this.onReleased?.();
    }
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
