/** The claim on any one of several files. */

import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type { LockerSettings, PlatformFile } from "../../ffi/types.ts";
import { describeHolders } from "../core/holders.ts";
import { parseMode } from "../options/open_mode.ts";
import { op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { isLongWait } from "../wait/deadline.ts";
import type { Deadline } from "../wait/deadline.ts";
import { FifoMutex } from "../wait/fifo_mutex.ts";
import { acquireWithWait } from "../wait/wait_loop.ts";
import { Busy } from "./lock_target.ts";
import type { Hold, LockTarget } from "./lock_target.ts";
import { FileTarget } from "./file_target.ts";
import type { FileSettings } from "./file_target.ts";
import { OpenSlots } from "./open_slots.ts";
import { MAX_REPLACED, replacedTooOften } from "./temporary_file_target.ts";

/**
 * A number of files, each of which one holder can lock. Who finds all of them
 * locked keeps them open and waits for whichever is released first.
 */
export class SlotsTarget implements LockTarget {
  readonly path: string;
  readonly exclusive = true;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly #slots: readonly FileTarget[];
  readonly #key: string;
  /** Among the tasks that may wait: only one has all the files open. */
  readonly #mutex = new FifoMutex();
  /** How many of them are held through this claim. */
  #held = 0;
  readonly #released = () => void this.#held--;

  /** `path` names all of them together. */
  constructor(path: string, files: string[], settings: FileSettings) {
    const mode = { ...settings.mode, noFollow: true };
    this.path = path;
    this.files = files;
    this.locker = settings.locker;
    this.#slots = files.map((file) =>
      new SlotTarget(file, { ...settings, mode })
    );
    this.#key = files.join("\0");
  }

  *acquire(deadline: Deadline, waits: () => void): Gen<Hold | Busy> {
    const queues = yield* op({
      async: () => deadline.remaining > 0,
      sync: () => false,
    });
    if (!queues) {
      // Nobody could release one of them while the thread is blocked.
      const none = this.#held === this.files.length;
      return none ? this.#busy() : yield* this.#acquireAny(deadline, waits);
    }
    const inTurn = this.#mutex.tryAcquire() ||
      (yield* this.#queue(deadline, waits));
    if (!inTurn) return this.#busy();
    try {
      return yield* this.#acquireAny(deadline, waits);
    } finally {
      this.#mutex.release();
    }
  }

  #queue(deadline: Deadline, waits: () => void): Gen<boolean> {
    const wait = () => (waits(), this.#mutex.acquire(deadline));
    return op({ async: wait, sync: () => false });
  }

  *#acquireAny(deadline: Deadline, waits: () => void): Gen<Hold | Busy> {
    const slots = new OpenSlots(this.#slots, this.#key);
    try {
      for (let replaced = 0; replaced < MAX_REPLACED; replaced++) {
        const won = (yield* slots.openAndTryLock(deadline)) ||
          (yield* acquireWithWait(slots, false, deadline, waits));
        if (!won) return this.#busy();
        const held = yield* slots.takeLocked();
        if (held) return this.#count(held);
      }
      throw replacedTooOften(this);
    } finally {
      yield* slots.close();
    }
  }

  #count(held: Hold): Hold {
    this.#held++;
    held.onReleased = this.#released;
    return held;
  }

  #busy(): Busy {
    const { length } = this.files;
    const taken = length === 1
      ? "its slot is taken"
      : `all ${length} slots are taken`;
    const here = this.#held === length;
    return new Busy(({ elapsed: waited }) => {
      const search = isLongWait(waited);
      const holders = this.files.flatMap((file) =>
        platform().holders(file, search)
      );
      const whom = here
        ? " through this same object"
        : describeHolders(holders);
      return { reason: taken + whom, holderPid: holders[0]?.pid };
    });
  }
}

/** A slot, which may belong to another user who lets everybody read it. */
class SlotTarget extends FileTarget {
  override *open(signal: AbortSignal | undefined): Gen<PlatformFile> {
    try {
      return yield* super.open(signal);
    } catch (error) {
      // The latter on Windows.
      const code = errorCode(error);
      if (code !== "EACCES" && code !== "EPERM") throw error;
      const mode = { ...parseMode("r"), noFollow: true };
      const readOnly = new FileTarget(this.path, { ...this.settings, mode });
      try {
        return yield* readOnly.open(signal);
      } catch {
        throw error;
      }
    }
  }
}
