/** Reaches the server of a lock. */

import { formatSubject, LockLostError } from "../core/errors.ts";
import { WAIT_FOREVER } from "../options/acquire_options.ts";
import { Deadline, now } from "../wait/deadline.ts";
import { AttemptLimits, withDeadline } from "./connection/attempt_limits.ts";
import type { RedisSource } from "./clients/types.ts";
import type { LockConnection } from "./connection/connection.ts";
import { acquireConnection, addressOf, findOpen } from "./connection/pool.ts";
import type { PooledConnection, PooledUse } from "./connection/pool.ts";
import {
  isRetryable,
  replyCode,
  ReplyTimeout,
  toLockException,
} from "./protocol/errors.ts";
import type { LockKeys } from "./protocol/keys.ts";

/** The first delay before a server is tried again, in milliseconds. */
const INITIAL_DELAY_MS = 10;

/** The server of one lock. */
export class LockServer {
  readonly source: RedisSource;
  readonly keys: LockKeys;
  /** How long the server may be silent, in milliseconds. */
  readonly unavailableTimeout: number;

  /** Where the pool has the connection, if the server cannot change. */
  #address: string | undefined;

  /** Creates a server, without connecting to it. */
  constructor(source: RedisSource, keys: LockKeys, unavailableTimeout: number) {
    this.source = source;
    this.keys = keys;
    this.unavailableTimeout = unavailableTimeout;
  }

  /** Starts the clock of the server. */
  limits<D extends Deadline>(deadline: D): AttemptLimits<D> {
    return new AttemptLimits(deadline, this.unavailableTimeout);
  }

  /** Whether the connection is open and the server cannot have changed. */
  get isOpen(): boolean {
    return this.#findOpen() !== undefined;
  }

  /** Returns the connection if it is open, to be released. */
  useIfOpen(): PooledUse | undefined {
    return this.#findOpen()?.use();
  }

  #findOpen(): PooledConnection | undefined {
    const { poolKey, server } = this.source;
    if (server === undefined) return undefined;
    this.#address ??= addressOf(server, this.keys);
    return findOpen(poolKey, this.#address);
  }

  /**
   * Works on a connection. If the server cannot be reached, or the connection
   * ends, works on another one, until the time is over.
   *
   * @param limits How long to retry.
   * @param verb What the error says that cannot be done.
   * @param work The work, which releases the connection.
   * @param first The result of the first attempt, if it has begun.
   * @throws {LockException} If the server cannot be reached in time.
   * @throws What ended the wait, as the deadline has it.
   */
  async reach<T>(
    limits: AttemptLimits,
    verb: string,
    work: (pooled: PooledUse) => Promise<T>,
    first?: Promise<T>,
  ): Promise<T> {
    const { source, keys } = this;
    const { deadline } = limits;
    let attempt = first;
    let reason: unknown;
    for (let delay = INITIAL_DELAY_MS;; delay *= 2) {
      try {
        attempt ??= work(await acquireConnection(source, keys, limits));
        return await attempt;
      } catch (error) {
        attempt = undefined;
        if (deadline.wasCancelledWith(error)) throw error;
        if (error instanceof LockLostError) throw error;
        if (replyCode(error) === "MOVED") await this.#refreshSlots(limits);
        // An earlier error says more than that the time is over.
        if (!(error instanceof ReplyTimeout)) reason = error;
        const { remaining, checkInterval } = deadline;
        const canRetry = limits.canWait && isRetryable(error) &&
          remaining >= INITIAL_DELAY_MS;
        if (!canRetry) {
          throw toLockException(
            `Cannot ${verb} ${formatSubject({ path: keys.channel })}`,
            reason ?? error,
            deadline.elapsed,
            keys,
          );
        }
        // Leaves half of the time for the next attempt.
        delay = Math.min(delay, checkInterval, remaining / 2);
        await deadline.sleepUntilWoken(delay, () => () => {});
      }
    }
  }

  /**
   * Asks the server once.
   *
   * @param question Sends the commands.
   * @throws What {@linkcode LockServer.reach} throws.
   */
  ask<T>(
    question: (connection: LockConnection, keys: LockKeys) => Promise<T>,
  ): Promise<T> {
    const deadline = new Deadline({ ...WAIT_FOREVER, failWhenLocked: true });
    const limits = this.limits(deadline);
    return this.reach(limits, "probe", async (pooled) => {
      const { connection } = pooled;
      try {
        const answer = question(connection, this.keys);
        const end = now() + limits.replyTimeout;
        return await connection.keepAliveWhile(
          withDeadline(deadline, end, answer),
        );
      } finally {
        pooled.release();
      }
    });
  }

  /** Updates the slots of a cluster client, if its node answers. */
  async #refreshSlots(
    { deadline, replyTimeout }: AttemptLimits,
  ): Promise<void> {
    const refreshed = this.source.refreshSlots(this.keys.key);
    try {
      await withDeadline(deadline, now() + replyTimeout, refreshed);
    } catch (error) {
      if (deadline.wasCancelledWith(error)) throw error;
    }
  }
}
