/**
 * `OpenSlots`: open slots, locked and waited for as if they were one file.
 *
 * A slot counts only while its path names it. A file that was opened before
 * another program removed or replaced it can be locked, but excludes no process
 * that comes later. So the path is checked after the lock. If it names another
 * file or none, that file is opened and the wait goes on. A waiter for a
 * removed file does not look for its successor earlier: its holder is still
 * inside, so one more holder would be one too many.
 *
 * @module
 */

import type { PlatformFile, Watch } from "../../ffi/types.ts";
import { errorCode } from "../../ffi/types.ts";
import { LockUnsupported, toLockError } from "../core/errors.ts";
import type { Gen } from "../core/gensync.ts";
import { unlockAndClose } from "../file/file_io.ts";
import type { HeldLock } from "../file/held_file.ts";
import type { Deadline } from "../wait/deadline.ts";
import { cleanUpInTime } from "../wait/in_time.ts";
import { findWaitQueue } from "../wait/wait_queue.ts";
import type { Waitable } from "../wait/wait_queue.ts";
import { HeldFile, unlockAndWake } from "./file_target.ts";
import type { FileTarget } from "./file_target.ts";

/** The codes of errors that say something about one slot only. */
const SLOT_CODES: readonly unknown[] = [
  "EACCES",
  "EBUSY",
  "EDQUOT",
  "EIO",
  "EISDIR",
  "ELOOP",
  "ENODEV",
  "ENOSPC",
  "ENXIO",
  "EPERM",
  "EROFS",
];

/** The slots that could not be opened. */
export interface UnusableSlot {
  /** How many there are. */
  readonly count: number;
  /** The path and the error of the first one. */
  readonly path: string;
  readonly error: unknown;
}

/** The slots that one acquisition has open. */
export class OpenSlots implements Waitable {
  readonly #slots: readonly FileTarget[];
  readonly #key: string;
  readonly #open = new Map<FileTarget, PlatformFile>();
  readonly #failed = new Map<FileTarget, unknown>();
  #locked: { slot: FileTarget; file: PlatformFile } | undefined;

  /** Objects with the same slots have the same `key`. */
  constructor(slots: readonly FileTarget[], key: string) {
    // Starts at a random slot: the first one is the most likely to be locked.
    const first = Math.floor(Math.random() * slots.length);
    this.#slots = [...slots.slice(first), ...slots.slice(0, first)];
    this.#key = key;
  }

  /**
   * Opens the slots that are not open, one after the other, until one can be
   * locked. Keeps only one open at a time after the deadline. Throws if none of
   * them can be opened.
   */
  *openAndTryLock(deadline: Deadline): Gen<boolean> {
    for (const slot of this.#slots) {
      if (this.#open.has(slot)) continue;
      const file = yield* this.#tryOpen(slot, deadline);
      if (file === undefined) continue;
      this.#open.set(slot, file);
      if (this.#tryLock(slot, file)) return true;
      if (deadline.remaining <= 0) yield* this.#close(slot, file, deadline);
    }
    const { unusable } = this;
    if (unusable?.count === this.#slots.length) throw unusable.error;
    return false;
  }

  /** Opens a slot. Returns `undefined` if this one cannot be opened. */
  *#tryOpen(
    slot: FileTarget,
    deadline: Deadline,
  ): Gen<PlatformFile | undefined> {
    try {
      const file = yield* slot.open(deadline);
      this.#failed.delete(slot);
      return file;
    } catch (error) {
      const ofOneSlot = SLOT_CODES.includes(errorCode(error)) ||
        error instanceof LockUnsupported;
      if (deadline.signal?.aborted || !ofOneSlot) throw error;
      this.#failed.set(slot, error);
    }
  }

  /** The slots that could not be opened, if there are any. */
  get unusable(): UnusableSlot | undefined {
    const [first] = this.#failed;
    if (first === undefined) return undefined;
    const [{ path }, error] = first;
    return { count: this.#failed.size, path, error };
  }

  tryLock(): boolean {
    for (const [slot, file] of this.#open) {
      if (this.#tryLock(slot, file)) return true;
    }
    return false;
  }

  #tryLock(slot: FileTarget, file: PlatformFile): boolean {
    try {
      if (!file.tryLock(true)) return false;
    } catch (error) {
      throw toLockError("lock", slot, error);
    }
    this.#locked = { slot, file };
    return true;
  }

  /**
   * Removes the locked slot from this object and returns it. Returns
   * `undefined` if its path names another file or none: a process that comes
   * later would not see the lock.
   */
  *takeLocked(deadline: Deadline): Gen<HeldLock | undefined> {
    const { slot, file } = this.#locked!;
    deadline.allowChecks();
    const check = slot.isAt(file, deadline);
    const inPlace = yield* slot.whileHeld(file, check);
    this.#open.delete(slot);
    const held = new HeldSlot(slot, file, this.#key);
    if (inPlace) return held;
    yield* cleanUpInTime(held.release(), deadline);
    return undefined;
  }

  /** Closes the slots that are still open. */
  *close(deadline: Deadline): Gen<void> {
    for (const [slot, file] of this.#open) {
      yield* this.#close(slot, file, deadline);
    }
  }

  *#close(
    slot: FileTarget,
    file: PlatformFile,
    deadline: Deadline,
  ): Gen<void> {
    this.#open.delete(slot);
    yield* cleanUpInTime(unlockAndClose(file), deadline);
  }

  alternatives(): Iterable<PlatformFile> {
    return this.#open.values();
  }

  lockKey(): string {
    return this.#key;
  }

  watchClose(closed: () => void): Watch | null {
    const watches = [...this.#open.values()].flatMap((file) =>
      file.watchClose(closed) ?? []
    );
    // Each watch listens and blocks for all watches of the thread.
    const [first] = watches;
    if (first === undefined) return null;
    return {
      listen: () => first.listen(),
      block: (milliseconds) => first.block(milliseconds),
      end: () => watches.forEach((watch) => watch.end()),
    };
  }
}

/** A locked slot. Its release wakes the waiters for any of the slots. */
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
