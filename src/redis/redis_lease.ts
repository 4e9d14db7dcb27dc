/** `RedisLease`: one acquisition of a lock in Redis. */

import type { Acquisition } from "./acquisition/acquisition.ts";
import { holderIdOf } from "./protocol/keys.ts";

/** A lock in Redis, or a place in a semaphore, while it is held. */
export class RedisLease implements AsyncDisposable {
  /** The name of the lock. */
  readonly channel: string;
  /** Identifies this acquisition. No other has the same identifier. */
  readonly holderId: string;
  /**
   * Larger than the token of every earlier exclusive acquisition of the lock:
   * the server's clock in microseconds, or the last token plus one. Pass it to
   * the resource that the lock protects, which should refuse a token smaller
   * than one that it has seen.
   */
  readonly fencingToken: bigint;
  readonly #acquisition: Acquisition;

  /** @ignore Called by the lock classes. */
  constructor(channel: string, acquisition: Acquisition) {
    this.channel = channel;
    this.holderId = holderIdOf({
      connectionId: acquisition.connection.id,
      number: acquisition.id,
    });
    this.fencingToken = BigInt(acquisition.token);
    this.#acquisition = acquisition;
  }

  /**
   * Aborts as soon as this holder cannot be sure that it holds the lock: when
   * the connection ends, the server is silent, or the server has lost its data.
   * The reason is a {@linkcode LockLostError}. A lost lease is never held
   * again.
   */
  get signal(): AbortSignal {
    return this.#acquisition.signal;
  }

  /** @ignore Asks the server, if the thread was blocked for long. */
  confirm(): Promise<void> {
    return this.#acquisition.confirm();
  }

  /** @ignore Whether the lock is held, as far as is known. */
  get held(): boolean {
    return this.#acquisition.held;
  }

  /**
   * Releases the lock. The server grants it to the next waiter in the same
   * step. Does nothing if the lock is already released or lost. Never rejects:
   * if the server cannot be reached, it releases the lock when it notices that
   * the connection has ended.
   */
  release(): Promise<void> {
    return this.#acquisition.release();
  }

  /** Releases the lock, as {@linkcode RedisLease.release} does. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}
