/** `InFlight`: closes a file only after the operations that still use it. */

import { runAsync, runSync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

/** The operations in flight on one open file. */
export class InFlight {
  #count = 0;
  #onEmpty: (() => void) | undefined;
  #closedReason: string | undefined;
  #closing: Promise<void> | void = undefined;

  /** Why no operation may start; `undefined` while the file is open. */
  get closedReason(): string | undefined {
    return this.#closedReason;
  }

  /** Whether operations are in flight. */
  get active(): boolean {
    return this.#count > 0;
  }

  /** Runs an operation. The file must be open. */
  async run<T>(operation: () => T | Promise<T>): Promise<T> {
    this.#count++;
    try {
      return await operation();
    } finally {
      if (--this.#count === 0) this.#onEmpty?.();
    }
  }

  /**
   * Lets no new operation start, waits for those in flight, then closes.
   * Returns a promise if it has to wait, also if it was called before.
   *
   * @param reason The new {@linkcode InFlight.closedReason}.
   * @param close Closes the file.
   */
  drainAndClose(
    reason: string,
    close: () => Gen<void>,
  ): Promise<void> | void {
    if (this.#closedReason === undefined) {
      this.#closedReason = reason;
      this.#closing = this.#drainAndClose(close);
    }
    return this.#closing;
  }

  /**
   * {@linkcode InFlight.drainAndClose}, blocking the thread. Operations in
   * flight cannot finish meanwhile, so then the file is closed after them.
   */
  drainAndCloseSync(reason: string, close: () => Gen<void>): void {
    if (this.active) {
      this.drainAndClose(reason, close)?.catch(() => {});
    } else if (this.#closedReason === undefined) {
      this.#closedReason = reason;
      runSync(close());
    }
  }

  #drainAndClose(close: () => Gen<void>): Promise<void> | void {
    if (!this.active) return runAsync(close());
    // A thread of the pool would otherwise use a descriptor whose number may
    // belong to another file by then.
    return new Promise<void>((resolve) => this.#onEmpty = resolve)
      .then(() => runAsync(close()));
  }
}
