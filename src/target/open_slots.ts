/** Slots that are open: tried, and waited for, as if they were one file. */

import type { PlatformFile, Watch } from "../../ffi/types.ts";
import { toLockError } from "../core/errors.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { ignoreErrors } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { findWaitQueue } from "../wait/wait_queue.ts";
import type { Waitable } from "../wait/wait_queue.ts";
import type { Deadline } from "../wait/deadline.ts";
import type { Hold } from "./lock_target.ts";
import { HeldFile, unlockAndWake } from "./file_target.ts";
import type { FileTarget } from "./file_target.ts";

/** The slots that one acquisition has open. */
export class OpenSlots implements Waitable {
  readonly #slots: readonly FileTarget[];
  readonly #key: string;
  readonly #open = new Map<FileTarget, PlatformFile>();
  #locked: FileTarget | undefined;

  /** `key` is one for all who have the same slots. */
  constructor(slots: readonly FileTarget[], lockKey: string) {
    // Not always from the first, which is the most likely to be taken.
    const first = Math.floor(Math.random() * slots.length);
    this.#slots = [...slots.slice(first), ...slots.slice(0, first)];
    this.#key = lockKey;
  }

  /**
   * Opens those that are not open, one after the other, until one can be
   * locked. Who will not wait for the others has no more than one open.
   */
  *openAndTryLock(deadline: Deadline): Gen<boolean> {
    for (const slot of this.#slots) {
      if (this.#open.has(slot)) continue;
      const file = yield* slot.open(deadline.signal);
      this.#open.set(slot, file);
      if (this.#try(slot, file)) return true;
      if (deadline.remaining <= 0) yield* this.#close(slot, file);
    }
    return false;
  }

  tryLock(): boolean {
    for (const [slot, file] of this.#open) {
      if (this.#try(slot, file)) return true;
    }
    return false;
  }

  #try(slot: FileTarget, file: PlatformFile): boolean {
    try {
      if (!file.tryLock(true)) return false;
    } catch (error) {
      throw toLockError("lock", slot, error);
    }
    this.#locked = slot;
    return true;
  }

  /**
   * The slot that was won, no longer one of these. None if its path names
   * another file by now, or nothing: those who come later would not see it.
   */
  *takeLocked(): Gen<Hold | undefined> {
    const slot = this.#locked!;
    const file = this.#open.get(slot)!;
    const held = new HeldSlot(slot, file, this.#key);
    const inPlace = file.isStillAt(slot.path);
    this.#open.delete(slot);
    if (inPlace) return held;
    yield* ignoreErrors(held.release());
  }

  *close(): Gen<void> {
    for (const [slot, file] of this.#open) yield* this.#close(slot, file);
  }

  *#close(slot: FileTarget, file: PlatformFile): Gen<void> {
    this.#open.delete(slot);
    yield* ignoreErrors(unlockAndClose(file));
  }

  lockKey(): string {
    return this.#key;
  }

  watchClose(closed: () => void): Watch | null {
    const watches = [...this.#open.values()].flatMap((file) =>
      file.watchClose(closed) ?? []
    );
    if (watches.length === 0) return null;
    // Each of them listens and blocks for all that the thread watches.
    const [one] = watches;
    return {
      listen: () => one.listen(),
      block: (milliseconds) => one.block(milliseconds),
      end: () => watches.forEach((watch) => watch.end()),
    };
  }
}

/** Whoever waits for any of the slots is told when one of them is released. */
class HeldSlot extends HeldFile {
  override readonly notRelockable = "a slot of a semaphore cannot be shared";
  readonly #key: string;

  constructor(slot: FileTarget, file: PlatformFile, key: string) {
    super(slot, file);
    this.#key = key;
  }

  override *unlockFile(): Gen<void> {
    try {
      yield* unlockAndWake(this.file);
    } finally {
      findWaitQueue({ lockKey: () => this.#key })?.wakeAll();
    }
  }
}
