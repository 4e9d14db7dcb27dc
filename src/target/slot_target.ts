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
 * @module
 */

import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type { LockerSettings, PlatformFile } from "../../ffi/types.ts";
import { isAsync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { describeHolders } from "../core/holders.ts";
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
    this.files = files;
    this.locker = settings.locker;
    this.throwOnReleaseError = settings.throwOnReleaseError;
    this.#slots = files.map((file) =>
      new SlotTarget(file, { ...settings, mode })
    );
    this.#key = files.join("\0");
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
        if (!locked) return this.#busy();
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

  #busy(): Busy {
    const { length } = this.files;
    const taken = length === 1
      ? "its slot is taken"
      : `all ${length} slots are taken`;
    const here = this.#held === length;
    return new Busy((elapsed) => {
      const search = isLongWait(elapsed);
      const holders = this.files.flatMap((file) =>
        platform().holders(file, search)
      );
      const by = here ? " through this same object" : describeHolders(holders);
      return { reason: taken + by, holderPid: holders[0]?.pid };
    });
  }
}

/** One slot. It may belong to another user and be read-only for this one. */
class SlotTarget extends FileTarget {
  override *open(deadline: Deadline): Gen<PlatformFile> {
    try {
      return yield* super.open(deadline);
    } catch (error) {
      const code = errorCode(error);
      // Windows reports EPERM.
      if (code !== "EACCES" && code !== "EPERM") throw error;
      const mode = { ...parseMode("r"), noFollow: true };
      const readOnly = new FileTarget(this.path, { ...this.settings, mode });
      try {
        return yield* readOnly.open(deadline);
      } catch {
        deadline.throwIfAborted();
        throw error;
      }
    }
  }
}
