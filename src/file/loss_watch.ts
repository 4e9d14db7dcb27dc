/**
 * `LossWatch`: notifies a holder when its lock file was removed or replaced.
 *
 * A lock is on an inode, and other processes find it by its path. P holds the
 * lock, X replaces the file, R locks the new one. P watches the file (P.1), and
 * then checks the path (P.2) and checks it again after each event:
 *
 * 1. `X P.1 P.2`: there is no event. The first check finds it.
 * 2. `P.1 X P.2`: the check finds it. The event is ignored afterwards.
 * 3. `P.1 P.2 X`: the event leads to a check that finds it.
 * 4. `P.1 P.2 X R P.check`: R is inside already. A report always comes late, so
 *    the signal makes the overlap short. It cannot prevent it.
 * 5. `P.1 P.2 X.rename X.renameBack P.check`: the lock is not lost.
 * 6. P releases the lock and unlinks a temporary file: the watch ends before.
 *
 * @module
 */

import { formatSubject, LockLostError } from "../core/errors.ts";
import type { Gen } from "../core/gensync.ts";
import type { HeldLock } from "./held_file.ts";

/** Watches one held lock from its creation to its end. */
export class LossWatch {
  readonly #controller = new AbortController();
  readonly #held: HeldLock;
  #unwatch: (() => void) | null = null;

  /** `active` is whether the lock is still held. */
  constructor(held: HeldLock, active: boolean) {
    this.#held = held;
    if (!active) return;
    this.#unwatch = held.file.watchName(() => this.#check());
    this.#check();
  }

  /** Aborts when the lock is lost. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Ends the watch and aborts the signal. */
  abort(reason: string): void {
    this.#end();
    const { path } = this.#held;
    this.#controller.abort(
      new LockLostError(
        `Lost the lock on ${formatSubject({ path })}: ${reason}`,
        {
          path,
        },
      ),
    );
  }

  /** Ends the watch, then releases the lock. */
  *endThen(release: () => Gen<void>): Gen<void> {
    this.#end();
    yield* release();
  }

  #end(): void {
    this.#unwatch?.();
    this.#unwatch = null;
  }

  async #check(): Promise<void> {
    if (this.#unwatch === null) return;
    try {
      const checked = this.#held.isInPlace();
      if (checked instanceof Promise ? await checked : checked) return;
    } catch {
      // The path cannot be read, so nothing is known.
      return;
    }
    // The lock may have been released meanwhile.
    if (this.#unwatch !== null) this.abort("its file was removed or replaced");
  }
}
