/** Keeps a file from being closed under an operation that still uses it. */

import { runAsync, runSync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

/** Open, until somebody shuts it for good. */
export class InFlight {
  #count = 0;
  #onEmpty: (() => void) | undefined;
  #closedReason: string | undefined;
  #closing: Promise<void> | undefined;

  /** Why nobody gets in any more, `undefined` while it is open. */
  get closedReason(): string | undefined {
    return this.#closedReason;
  }

  /** Whether operations are under way. */
  get active(): boolean {
    return this.#count > 0;
  }

  /** Runs an operation; the gate must be open. */
  async run<T>(operation: () => T | Promise<T>): Promise<T> {
    this.#count++;
    try {
      return await operation();
    } finally {
      if (--this.#count === 0) this.#onEmpty?.();
    }
  }

  /**
   * Shuts the gate and does the last work once nobody is inside. Where it is
   * shut already, gives what came of that.
   *
   * @param reason What {@linkcode InFlight.closedReason} says from now on.
   */
  drainAndClose(reason: string, last: () => Gen<void>): Promise<void> {
    if (this.#closedReason === undefined) {
      this.#closedReason = reason;
      this.#closing = this.#close(last);
    }
    return this.#closing ?? Promise.resolve();
  }

  /**
   * {@linkcode InFlight.drainAndClose}, blocking the thread. The operations inside could
   * not finish meanwhile: then the last work is done after them.
   */
  drainAndCloseSync(reason: string, last: () => Gen<void>): void {
    if (this.active) {
      this.drainAndClose(reason, last).catch(() => {});
    } else if (this.#closedReason === undefined) {
      this.#closedReason = reason;
      runSync(last());
    }
  }

  #close(last: () => Gen<void>): Promise<void> {
    if (!this.active) return runAsync(last());
    // The number of a closed descriptor may already name another file when a
    // pool thread comes to use it.
    return new Promise<void>((resolve) => this.#onEmpty = resolve)
      .then(() => runAsync(last()));
  }
}
