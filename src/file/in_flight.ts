/** Keeps a file from being closed under an operation that still uses it. */

import { perform, performSync } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";

/** Open, until somebody shuts it for good. */
export class Gate {
  #inside = 0;
  #onEmpty: (() => void) | undefined;
  #shut: string | undefined;
  #closing: Promise<void> | undefined;

  /** Why nobody gets in any more, `undefined` while it is open. */
  get shut(): string | undefined {
    return this.#shut;
  }

  /** Whether operations are under way. */
  get busy(): boolean {
    return this.#inside > 0;
  }

  /** Runs an operation; the gate must be open. */
  async pass<T>(operation: () => T | Promise<T>): Promise<T> {
    this.#inside++;
    try {
      return await operation();
    } finally {
      if (--this.#inside === 0) this.#onEmpty?.();
    }
  }

  /**
   * Shuts the gate and does the last work once nobody is inside. Where it is
   * shut already, gives what came of that.
   *
   * @param reason What {@linkcode Gate.shut} says from now on.
   */
  close(reason: string, last: () => Recipe<void>): Promise<void> {
    if (this.#shut === undefined) {
      this.#shut = reason;
      this.#closing = this.#close(last);
    }
    return this.#closing ?? Promise.resolve();
  }

  /**
   * {@linkcode Gate.close}, blocking the thread. The operations inside could
   * not finish meanwhile: then the last work is done after them.
   */
  closeSync(reason: string, last: () => Recipe<void>): void {
    if (this.busy) {
      this.close(reason, last).catch(() => {});
    } else if (this.#shut === undefined) {
      this.#shut = reason;
      performSync(last());
    }
  }

  #close(last: () => Recipe<void>): Promise<void> {
    if (!this.busy) return perform(last());
    // The number of a closed descriptor may already name another file when a
    // pool thread comes to use it.
    return new Promise<void>((resolve) => this.#onEmpty = resolve)
      .then(() => perform(last()));
  }
}
