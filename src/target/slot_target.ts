/**
 * `SlotsTarget`: locks any one of several files, the slots of a semaphore.
 *
 * An acquisition that finds all slots locked keeps them open and waits for all
 * of them as if they were one file: one watch on each, and each attempt tries
 * every slot. So the wait loop and its interleavings hold here too: a slot that
 * is released while the others are tried has its event in the queue. An attempt
 * that does not wait closes each file before it opens the next. Of the tasks
 * that share one object, only the first has the files open: 100 tasks that wait
 * for 10 slots take 10 descriptors.
 *
 * A slot that cannot be opened, because of its owner or what is at its path,
 * does not prevent the use of the others. Its error is thrown if no slot can be
 * opened. If the others are taken, it is the cause of the `AlreadyLocked`.
 *
 * @module
 */

import { errorCode } from "../../ffi/types.ts";
import type { LockerSettings, PlatformFile } from "../../ffi/types.ts";
import { formatSubject } from "../core/errors.ts";
import { ignoreErrors, isAsync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { describeHolders, findHolders } from "../core/holders.ts";
import { unlockAndClose } from "../file/file_io.ts";
import type { HeldLock } from "../file/held_file.ts";
import { parseMode } from "../options/open_mode.ts";
import { Busy } from "../wait/busy.ts";
import { isLongWait } from "../wait/deadline.ts";
import type { Deadline } from "../wait/deadline.ts";
import { FifoMutex } from "../wait/fifo_mutex.ts";
import { lockBeforeDeadline } from "../wait/wait_loop.ts";
import { FileTarget } from "./file_target.ts";
import type { FileSettings } from "./file_target.ts";
import { MAX_REPLACED, replacedTooOften } from "./lock_target.ts";
import type { LockTarget } from "./lock_target.ts";
import { OpenSlots } from "./open_slots.ts";
import type { UnusableSlot } from "./open_slots.ts";

/** Several files, any one of which is the lock. */
export class SlotsTarget implements LockTarget {
  readonly path: string;
  readonly exclusive = true;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly throwOnReleaseError: boolean;
  readonly #slots: readonly FileTarget[];
  readonly #key: string;
  /** Held by the task that has the files open. */
  readonly #mutex = new FifoMutex();
  /** How many slots are held through this object. */
  #held = 0;
  readonly #onReleased = () => void this.#held--;

  /** `path` names all slots together. */
  constructor(path: string, files: string[], settings: FileSettings) {
    const mode = { ...settings.mode, noFollow: true };
    this.path = path;
    this.locker = settings.locker;
    this.throwOnReleaseError = settings.throwOnReleaseError;
    this.#slots = files.map((file) =>
      new SlotTarget(file, { ...settings, mode })
    );
    this.files = this.#slots.map(({ absolutePath }) => absolutePath);
    this.#key = this.files.join("\0");
  }

  *acquire(deadline: Deadline): Gen<HeldLock | Busy> {
    if (deadline.remaining <= 0 || !(yield* isAsync())) {
      // A blocked thread could not release a slot of its own meanwhile.
      const allHeld = this.#held === this.files.length;
      if (!allHeld) return yield* this.#acquireAny(deadline);
      if (deadline.remaining > 0) deadline.deadlock = "holds";
      return this.#busy();
    }
    const inTurn = this.#mutex.tryAcquire() ||
      (yield* this.#mutex.wait(deadline));
    if (!inTurn) return this.#busy();
    try {
      return yield* this.#acquireAny(deadline);
    } finally {
      this.#mutex.release();
    }
  }

  *#acquireAny(deadline: Deadline): Gen<HeldLock | Busy> {
    const slots = new OpenSlots(this.#slots, this.#key);
    const request = { exclusive: true, deadline };
    try {
      for (let replaced = 0; replaced < MAX_REPLACED; replaced++) {
        const locked = (yield* slots.openAndTryLock(deadline)) ||
          (yield* lockBeforeDeadline(slots, request));
        if (!locked) return this.#busy(slots.unusable);
        const held = yield* slots.takeLocked(deadline);
        if (held) return this.#count(held);
      }
      throw replacedTooOften(this);
    } finally {
      yield* slots.close(deadline);
    }
  }

  #count(held: HeldLock): HeldLock {
    this.#held++;
    held.onReleased = this.#onReleased;
    return held;
  }

  #busy(unusable?: UnusableSlot): Busy {
    const here = this.#held === this.files.length - (unusable?.count ?? 0);
    return new Busy((elapsed) => {
      const search = isLongWait(elapsed);
      const holders = findHolders(this.files, search, this.locker);
      const by = here ? " through this same object" : describeHolders(holders);
      const taken = describeTaken(this.files.length, unusable?.count ?? 0) + by;
      const holder = holders[0];
      if (!unusable) return { reason: taken, holder };
      const { path, error } = unusable;
      const code = errorCode(error);
      const why = ` cannot be opened${code === undefined ? "" : ` (${code})`}`;
      const reason = `${taken}; ${formatSubject({ path })}${why}`;
      return { reason, holder, cause: error };
    });
  }
}

function describeTaken(slots: number, unusable: number): string {
  if (unusable > 0) return `${slots - unusable} of ${slots} slots are taken`;
  return slots === 1 ? "its slot is taken" : `all ${slots} slots are taken`;
}

/**
 * The codes of a file that may not be written: it belongs to another user, or
 * its file system is mounted read-only. Windows reports `EPERM`.
 */
const READ_ONLY_CODES: readonly unknown[] = ["EACCES", "EPERM", "EROFS"];

/** One slot. It may be read-only for this process. */
class SlotTarget extends FileTarget {
  override *open(deadline: Deadline): Gen<PlatformFile> {
    try {
      return yield* super.open(deadline);
    } catch (error) {
      if (!READ_ONLY_CODES.includes(errorCode(error))) throw error;
      const mode = { ...parseMode("r"), noFollow: true };
      const settings = { ...this.settings, mode };
      const readOnly = new FileTarget(this.absolutePath, settings);
      let file: PlatformFile;
      try {
        file = yield* readOnly.open(deadline);
      } catch {
        deadline.throwIfAborted();
        throw error;
      }
      if (isRegular(file)) return file;
      yield* ignoreErrors(unlockAndClose(file));
      throw error;
    }
  }
}

/** Windows opens a directory for reading, but cannot lock it. */
function isRegular(file: PlatformFile): boolean {
  try {
    return file.statSync().isFile;
  } catch {
    return false;
  }
}
