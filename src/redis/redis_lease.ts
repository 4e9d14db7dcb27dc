/** `RedisLease`: one acquisition of a lock in Redis. */

import type { Acquisition } from "./acquisition/acquisition.ts";

/** A lock in Redis, or a place in a semaphore, while it is held. */
export class RedisLease implements AsyncDisposable {
  /** What is locked. */
  readonly channel: string;
  /** Names this acquisition; nobody else's has the same. */
  readonly holderId: string;
  /**
   * Larger for every exclusive acquisition of the channel than for those before
   * it: the server's clock in microseconds, or one more than the last. Hand it
   * to what the lock protects, which should refuse smaller ones than it has
   * seen.
   */
  readonly fencingToken: bigint;
  readonly #acquisition: Acquisition;

  /** @ignore Made by the classes of locks. */
  constructor(channel: string, acquisition: Acquisition) {
    this.channel = channel;
    this.holderId = `${acquisition.connection.id}-${acquisition.id}`;
    this.fencingToken = BigInt(acquisition.token);
    this.#acquisition = acquisition;
  }

  /**
   * Aborts, with a {@linkcode LockException} as the reason, the moment this
   * holder can no longer be sure that it holds: its connection ended or is
   * silent, or the server has lost its data. It never holds again.
   */
  get signal(): AbortSignal {
    return this.#acquisition.signal;
  }

  /** @ignore Whether it holds, as far as anybody knows. */
  get held(): boolean {
    return this.#acquisition.held;
  }

  /**
   * Releases the lock; whoever waits first gets it in the same step. Does
   * nothing when it is released or lost already, and never fails: if the server
   * cannot be reached, the lock goes with the connection.
   */
  release(): Promise<void> {
    return this.#acquisition.release();
  }

  /** {@linkcode RedisLease.release}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}
