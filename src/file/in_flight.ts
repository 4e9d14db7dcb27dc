/** `InFlight`: closes a file only after the operations that still use it. */

import { runAsync, runSync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { OperationQueue } from "./operation_queue.ts";

/** The operations in flight on one open file. */
export class InFlight {
  #count = 0;
  #onEmpty: (() => void) | undefined;
  #closedReason: string | undefined;
  #closing: Promise<void> | void = undefined;
  #queue: OperationQueue | undefined;
  #lostReason: string | undefined;

  /** `queue` is given if other objects share the open file. */
  constructor(queue?: OperationQueue) {
    this.#queue = queue;
  }

  /** Why no operation may start; `undefined` while the file is open. */
  get closedReason(): string | undefined {
    return this.#closedReason;
  }

  /** Why operations that have not started must not; see `lose`. */
  get lostReason(): string | undefined {
    return this.#lostReason;
  }

  /** Lets the operations that wait for their turn fail. */
  lose(reason: string): void {
    this.#lostReason = reason;
  }

  /** Whether operations are in flight. */
  get active(): boolean {
    return this.#count > 0;
  }

  /**
   * Whether operations of the open file are in flight, also those that were
   * started through another object.
   */
  get fileIsBusy(): boolean {
    return this.#queue?.busy ?? false;
  }

  /**
   * Runs an operation, after those that were called before. The file must be
   * open.
   */
  async run<T>(operation: () => T | Promise<T>): Promise<T> {
    this.#count++;
    const queue = this.#queue ??= new OperationQueue();
    const turn = queue.enter();
    if (turn) await turn;
    try {
      return await operation();
    } finally {
      queue.leave();
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
