/** Slots that are open: tried, and waited for, as if they were one file. */

import type { NativeFile, Watch } from "../../ffi/types.ts";
import { lockFailure } from "../core/errors.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { quietly } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";
import { contestFor } from "../wait/wait_queue.ts";
import type { Contested } from "../wait/wait_queue.ts";
import type { Patience } from "../wait/deadline.ts";
import type { Hold } from "./lock_target.ts";
import { FileHold, release } from "./file_target.ts";
import type { FileClaim } from "./file_target.ts";

/** The slots that one acquisition has open. */
export class OpenSlots implements Contested {
  readonly #claims: readonly FileClaim[];
  readonly #identity: string;
  readonly #open = new Map<FileClaim, NativeFile>();
  #won: FileClaim | undefined;

  /** `identity` is one for all who have the same slots. */
  constructor(claims: readonly FileClaim[], identity: string) {
    // Not always from the first, which is the most likely to be taken.
    const first = Math.floor(Math.random() * claims.length);
    this.#claims = [...claims.slice(first), ...claims.slice(0, first)];
    this.#identity = identity;
  }

  /**
   * Opens those that are not open, one after the other, until one can be
   * locked. Who will not wait for the others has no more than one open.
   */
  *openAndTry(patience: Patience): Recipe<boolean> {
    for (const claim of this.#claims) {
      if (this.#open.has(claim)) continue;
      const file = yield* claim.open(patience.signal);
      this.#open.set(claim, file);
      if (this.#try(claim, file)) return true;
      if (patience.left <= 0) yield* this.#close(claim, file);
    }
    return false;
  }

  tryLock(): boolean {
    for (const [claim, file] of this.#open) {
      if (this.#try(claim, file)) return true;
    }
    return false;
  }

  #try(claim: FileClaim, file: NativeFile): boolean {
    try {
      if (!file.tryLock(true)) return false;
    } catch (error) {
      throw lockFailure("lock", claim, error);
    }
    this.#won = claim;
    return true;
  }

  /**
   * The slot that was won, no longer one of these. None if its path names
   * another file by now, or nothing: those who come later would not see it.
   */
  *takeWon(): Recipe<Hold | undefined> {
    const claim = this.#won!;
    const file = this.#open.get(claim)!;
    const hold = new SlotHold(claim, file, this.#identity);
    const inPlace = file.isAt(claim.path);
    this.#open.delete(claim);
    if (inPlace) return hold;
    yield* quietly(hold.release());
  }

  *close(): Recipe<void> {
    for (const [claim, file] of this.#open) yield* this.#close(claim, file);
  }

  *#close(claim: FileClaim, file: NativeFile): Recipe<void> {
    this.#open.delete(claim);
    yield* quietly(unlockAndClose(file));
  }

  identity(): string {
    return this.#identity;
  }

  watch(closed: () => void): Watch | null {
    const watches = [...this.#open.values()].flatMap((file) =>
      file.watch(closed) ?? []
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
class SlotHold extends FileHold {
  override readonly fixed = "a slot of a semaphore cannot be shared";
  readonly #identity: string;

  constructor(claim: FileClaim, file: NativeFile, identity: string) {
    super(claim, file);
    this.#identity = identity;
  }

  override *giveBack(): Recipe<void> {
    try {
      yield* release(this.file);
    } finally {
      contestFor({ identity: () => this.#identity })?.ring();
    }
  }
}
