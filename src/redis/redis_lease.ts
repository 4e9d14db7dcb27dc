/** `RedisLease`: one acquisition of a lock in Redis. */

import { LockLostError } from "../core/errors.ts";
import { atEdge } from "../core/stack.ts";
import { formatName } from "../options/validate.ts";
import { resolveTransferTimeout } from "./options.ts";
import type { TransferOptions } from "./options.ts";
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
  #transferred = false;

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

  /** @ignore Settles once the server replied, if the thread was blocked. */
  get confirmed(): Promise<void> {
    return this.#acquisition.confirm();
  }

  /** @ignore Whether the lock is held, as far as is known. */
  get held(): boolean {
    return this.#acquisition.held;
  }

  /** @ignore Whether the lease ended because it was transferred. */
  get transferred(): boolean {
    return this.#transferred;
  }

  /**
   * Ends the lease so that another process can take it over with
   * {@linkcode RedisLockBase.adopt}. The lock stays held meanwhile: it is never
   * free between the two, and the fencing token stays the same. Finish your
   * work before, because nothing protects it afterwards: `signal` aborts with a
   * {@linkcode LockLostError} of the code `"ERR_LOCK_TRANSFERRED"`.
   *
   * This process has to run until the other one has adopted the lease, and
   * stays alive for it. If it dies earlier, the lock is free. To take the lease
   * back, adopt it yourself.
   *
   * @example Hand a lock over to another process
   * ```ts ignore
   * const lease = await new RedisLock("deploy").acquire();
   * process.send({ lease: lease.transfer() });
   *
   * // The other process:
   * process.on("message", async ({ lease }) => {
   *   await using adopted = await new RedisLock("deploy").adopt(lease);
   * });
   * ```
   *
   * @param options How long to wait for the other process.
   * @returns A text to send to the other process, which can use it once. It
   * contains no secret.
   * @throws {LockLostError} If the lock is not held any more.
   * @throws {TypeError} If an option is unknown or has the wrong type.
   * @throws {RangeError} If `timeout` is out of range.
   */
  transfer(options?: TransferOptions): string {
    return atEdge(RedisLease.prototype.transfer, () => {
      const timeout = resolveTransferTimeout(options);
      this.signal.throwIfAborted();
      if (!this.held) {
        throw new LockLostError(
          `Cannot transfer the lock on ${formatName(this.channel)}: it has ` +
            "been released",
        );
      }
      this.#transferred = true;
      return this.#acquisition.transfer(timeout);
    });
  }

  /**
   * Releases the lock. The server grants it to the next waiter in the same
   * step. Does nothing if the lock is already released, lost or transferred.
   * Never rejects:
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
