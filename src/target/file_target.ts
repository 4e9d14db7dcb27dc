/** `FileTarget`: locks one file, which stays when the lock is released. */

import { platform } from "../../ffi/mod.ts";
import type {
  LockerSettings,
  LockHolder,
  PlatformFile,
} from "../../ffi/types.ts";
import { toLockError, toOpenError } from "../core/errors.ts";
import { abortReason } from "../core/stack.ts";
import { ignoreErrors } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { describeHolders, findHolders } from "../core/holders.ts";
import { absolute } from "../core/paths.ts";
import { empty, unlockAndClose } from "../file/file_io.ts";
import type { HeldLock } from "../file/held_file.ts";
import type { LockSettings } from "../options/lock_options.ts";
import type { LockedMode } from "../options/open_mode.ts";
import { Busy } from "../wait/busy.ts";
import { isLongWait } from "../wait/deadline.ts";
import type { Deadline } from "../wait/deadline.ts";
import { lockBeforeDeadline } from "../wait/wait_loop.ts";
import { findWaitQueue } from "../wait/wait_queue.ts";
import type { WaitQueue } from "../wait/wait_queue.ts";
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
    const file = yield* this.open(deadline.signal);
    if (!(yield* this.lock(file, deadline))) return this.busy();
    const held = new HeldFile(this, file);
    return this.settings.mode.truncate ? yield* this.finishAcquire(held) : held;
  }

  /** Opens the file and does not truncate it. */
  *open(signal: AbortSignal | undefined): Gen<PlatformFile> {
    const { locker, absolutePath: path } = this;
    const { mode, creationMode } = this.settings;
    if (signal?.aborted) throw abortReason(signal);
    try {
      const system = platform();
      // Yields the step itself: `op` would add a generator to each acquire.
      return (yield {
        async: () => {
          const file = system.open(path, mode, creationMode, locker);
          return file instanceof Promise
            ? abortable(
              file,
              signal,
              (late) => this.discardLateOpen(late),
            )
            : file;
        },
        sync: () => system.openSync(path, mode, creationMode, locker),
      }) as PlatformFile;
    } catch (error) {
      if (signal?.aborted && error === signal.reason) throw error;
      throw toOpenError(this, error);
    }
  }

  /** Closes a file that was opened after the acquisition was aborted. */
  discardLateOpen(file: PlatformFile): void | Promise<void> {
    return file.close();
  }

  /** Locks the file before the deadline, or closes it. */
  *lock(file: PlatformFile, deadline: Deadline): Gen<boolean> {
    let locked = false;
    try {
      const { exclusive } = this;
      locked = yield* lockBeforeDeadline(file, { exclusive, deadline });
    } catch (error) {
      yield* ignoreErrors(unlockAndClose(file));
      throw toLockError("lock", this, error, deadline);
    }
    if (!locked) yield* ignoreErrors(unlockAndClose(file));
    return locked;
  }

  /** Prepares the locked file for the caller. Releases it if that fails. */
  *finishAcquire(held: HeldFile): Gen<HeldLock> {
    try {
      yield* this.prepare(held);
      return held;
    } catch (error) {
      yield* ignoreErrors(held.release());
      throw error;
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

/** Rejects when the signal is aborted, and discards the file once it is open. */
function abortable(
  opening: Promise<PlatformFile>,
  signal: AbortSignal | undefined,
  discard: (file: PlatformFile) => void | Promise<void>,
): Promise<PlatformFile> {
  if (!signal) return opening;
  return new Promise((resolve, reject) => {
    const abort = () => {
      reject(abortReason(signal));
      opening.then(discard).catch(() => {});
    };
    // Removes the listener synchronously: an abort between here and a later
    // microtask would close a file that the caller already owns.
    const settled = () => signal.removeEventListener("abort", abort);
    signal.addEventListener("abort", abort, { once: true });
    opening.then((file) => {
      settled();
      resolve(file);
    }, (error) => {
      settled();
      reject(error);
    });
  });
}
