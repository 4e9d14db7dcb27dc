/** The claim on a file that stays when the lock is released. */

import { platform } from "../../ffi/mod.ts";
import type { LockerSettings, PlatformFile } from "../../ffi/types.ts";
import { toLockError, toOpenError } from "../core/errors.ts";
import { empty, unlockAndClose } from "../file/file_io.ts";
import { describeHolders } from "../core/holders.ts";
import type { LockedMode } from "../options/open_mode.ts";
import type { LockSettings } from "../options/lock_options.ts";
import { ignoreErrors } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { findWaitQueue } from "../wait/wait_queue.ts";
import type { WaitQueue } from "../wait/wait_queue.ts";
import { isLongWait } from "../wait/deadline.ts";
import type { Deadline } from "../wait/deadline.ts";
import { acquireWithWait } from "../wait/wait_loop.ts";
import { Busy } from "./lock_target.ts";
import type { Hold, LockTarget } from "./lock_target.ts";

/** How a file is opened and locked. */
export type FileSettings = Omit<LockSettings, "wait">;

/** A file, and how it is opened and locked. */
export class FileTarget implements LockTarget {
  readonly path: string;
  readonly exclusive: boolean;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly settings: FileSettings;

  constructor(path: string, settings: FileSettings) {
    this.path = path;
    this.exclusive = settings.exclusive;
    this.files = [path];
    this.locker = settings.locker;
    this.settings = settings;
  }

  *acquire(deadline: Deadline, waits: () => void): Gen<Hold | Busy> {
    const file = yield* this.open(deadline.signal);
    if (!(yield* this.lock(file, deadline, waits))) return this.busy();
    const held = new HeldFile(this, file);
    return this.settings.mode.truncate ? yield* this.finishAcquire(held) : held;
  }

  /** Opens the file, without truncating it; `path` is where it is now. */
  *open(
    signal: AbortSignal | undefined,
    path: string = this.path,
  ): Gen<PlatformFile> {
    const { locker } = this;
    const { mode, creationMode } = this.settings;
    signal?.throwIfAborted();
    try {
      const system = platform();
      const wait = () => {
        const file = system.open(path, mode, creationMode, locker);
        return file instanceof Promise
          ? abortable(file, signal, (late) => this.discardLateOpen(late, path))
          : file;
      };
      const block = () => system.openSync(path, mode, creationMode, locker);
      // Not by way of `step`: every acquisition comes through here.
      return (yield { async: wait, sync: block }) as PlatformFile;
    } catch (error) {
      if (signal?.aborted && error === signal.reason) throw error;
      throw toOpenError(this, error);
    }
  }

  /** What is done with a file that was opened too late for anybody. */
  discardLateOpen(file: PlatformFile, _path: string): void | Promise<void> {
    return file.close();
  }

  /** Locks the file, or closes it. */
  *lock(
    file: PlatformFile,
    deadline: Deadline,
    waits: () => void,
  ): Gen<boolean> {
    let locked = false;
    try {
      locked = yield* acquireWithWait(file, this.exclusive, deadline, waits);
    } catch (error) {
      yield* ignoreErrors(unlockAndClose(file));
      throw toLockError("lock", this, error, deadline);
    }
    if (!locked) yield* ignoreErrors(unlockAndClose(file));
    return locked;
  }

  /** Prepares what is held, or gives it back. */
  *finishAcquire(held: HeldFile, path: string = this.path): Gen<Hold> {
    try {
      yield* this.prepare(held.file, path);
      return held;
    } catch (error) {
      yield* ignoreErrors(held.release());
      throw error;
    }
  }

  /** What happens to the locked file before anybody has it. */
  *prepare(file: PlatformFile, _path: string): Gen<void> {
    if (!this.settings.mode.truncate) return;
    try {
      yield* empty(file);
    } catch (error) {
      throw toLockError("lock", this, error);
    }
  }

  /** The refusal that names those who hold the file. */
  busy(): Busy {
    return new Busy(({ elapsed: waited }) => {
      const search = isLongWait(waited);
      const holders = platform().holders(this.path, search, this.locker);
      const reason = `already locked${describeHolders(holders)}`;
      return { reason, holderPid: holders[0]?.pid };
    });
  }
}

/** A file whose lock is held. */
export class HeldFile implements Hold {
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
    // By then its descriptor may name a file of somebody else.
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

  /** What is done to the file. */
  unlockFile(): Gen<void> {
    return unlockAndWake(this.file);
  }
}

/** Unlocks and closes a file, and lets others in this thread know. */
export function* unlockAndWake(file: PlatformFile): Gen<void> {
  let queue: WaitQueue | undefined;
  try {
    queue = findWaitQueue(file);
  } catch {
    // It does not even tell what file it is. Whoever waits attempts sometimes.
  }
  try {
    yield* unlockAndClose(file);
  } finally {
    queue?.wakeAll();
  }
}

/** Lets an abort overtake a file that is slow to open; discards it later. */
function abortable(
  opening: Promise<PlatformFile>,
  signal: AbortSignal | undefined,
  discard: (file: PlatformFile) => void | Promise<void>,
): Promise<PlatformFile> {
  if (!signal) return opening;
  return new Promise((resolve, reject) => {
    const abort = () => {
      reject(signal.reason);
      opening.then(discard).catch(() => {});
    };
    // At once, not in a later turn: an abort in between would close the file
    // of somebody who has it already.
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
