/** What locks and semaphores in Redis have in common. */

import { releaseWhenCollected, untrack } from "../core/leak_guard.ts";
import type { WaitSettings } from "../options/acquire_options.ts";
import { checkFunction } from "../options/validate.ts";
import { publish } from "../core/diagnostics.ts";
import { AlreadyLocked, formatSubject } from "../core/errors.ts";
import { Deadline, now } from "../wait/deadline.ts";
import type { FifoMutex } from "../wait/fifo_mutex.ts";
import { Acquisition } from "./acquisition/acquisition.ts";
import { ConnectionLocks } from "./acquisition/connection_locks.ts";
import { AcquireWait } from "./acquisition/wait.ts";
import type { Blockers } from "./acquisition/wait.ts";
import { AttemptLimits, withDeadline } from "./connection/attempt_limits.ts";
import type { RedisSource } from "./connection/client_adapter.ts";
import { acquireConnection, closeIdle } from "./connection/pool.ts";
import type { PooledUse } from "./connection/pool.ts";
import { resolveRedisWait } from "./options.ts";
import type { RedisAcquireOptions, RedisSettings } from "./options.ts";
import {
  isRetryable,
  replyCode,
  ReplyTimeout,
  toLockException,
} from "./protocol/errors.ts";
import type { LockKeys, LockType } from "./protocol/keys.ts";
import { RedisLease } from "./redis_lease.ts";

/** The first pause after a server was out of reach, in milliseconds. */
const INITIAL_DELAY_MS = 10;

/** For how long who gave up waits for the server, in milliseconds. */
const RELEASE_GRACE_MS = 250;

/** Anything in Redis that can be acquired and released. */
export abstract class RedisLockBase implements AsyncDisposable {
  /** What all who share it call it. */
  readonly channel: string;
  readonly #keys: LockKeys;
  readonly #lockType: LockType;
  readonly #source: RedisSource;
  readonly #wait: WaitSettings;
  readonly #unavailableTimeout: number;
  /** Makes it a mutex among the tasks that share it, if it is to be one. */
  readonly #mutex: FifoMutex | undefined;
  /** The latest last; those that ended are removed now and then. */
  #leases: RedisLease[] = [];

  /** @ignore Made by the classes of locks. */
  protected constructor(
    keys: LockKeys,
    lockType: LockType,
    { source, wait, unavailableTimeout }: RedisSettings,
    mutex?: FifoMutex,
  ) {
    this.channel = keys.channel;
    this.#keys = keys;
    this.#lockType = lockType;
    this.#source = source;
    this.#wait = wait;
    this.#unavailableTimeout = unavailableTimeout;
    this.#mutex = mutex;
  }

  /** Whether anything is held through this object, as far as it knows. */
  get locked(): boolean {
    return this.#leases.some(({ held }) => held);
  }

  /**
   * Acquires the lock, waiting if need be. First come, first served, by the
   * order in which the server meets them. While the server is out of reach it
   * is tried again until the wait is over.
   *
   * @param options What differs from the options of the lock.
   * @returns The lease. Releasing it releases the lock.
   * @throws {AlreadyLocked} If the lock is still held when the wait is over.
   * @throws {LockException} If the server refuses or cannot be reached.
   * @throws The signal's reason if it is aborted.
   */
  async acquire(options?: RedisAcquireOptions): Promise<RedisLease> {
    const deadline = new Deadline(resolveRedisWait(options, this.#wait));
    const lease = await this.#acquire(deadline);
    if (lease instanceof RedisLease) return lease;
    const { elapsed: waited } = deadline;
    throw new AlreadyLocked(
      `${this.#messagePrefix()}: ${lease} (waited ${Math.round(waited)} ms)`,
      { waited },
    );
  }

  /**
   * Acquires the lock if that needs no waiting but for the server.
   *
   * @returns The lease, or `null` if the lock is held or waited for already.
   * @throws Whatever {@linkcode RedisLockBase.acquire} throws, but for
   * {@linkcode AlreadyLocked}.
   */
  async tryAcquire(): Promise<RedisLease | null> {
    const wait = resolveRedisWait({ failWhenLocked: true }, this.#wait);
    const lease = await this.#acquire(new Deadline(wait));
    return lease instanceof RedisLease ? lease : null;
  }

  /**
   * Acquires the lock, runs a function and releases the lock, whatever comes
   * of it.
   *
   * @param body What to do while the lock is held. Its lease's `signal` tells
   * when to stop early.
   * @param options What differs from the options of the lock.
   * @returns What the function returns.
   * @throws {TypeError} If `body` is no function.
   * @throws What {@linkcode RedisLockBase.acquire} or the function throws, and
   * the signal's reason if the lock was lost meanwhile.
   */
  async run<T>(
    body: (lease: RedisLease) => T | Promise<T>,
    options?: RedisAcquireOptions,
  ): Promise<T> {
    checkFunction("body", body);
    const lease = await this.acquire(options);
    try {
      const result = await body(lease);
      lease.signal.throwIfAborted();
      return result;
    } finally {
      await lease.release();
    }
  }

  /**
   * Releases what was acquired last through this object and is still held, if
   * anything is: the same as releasing the lease.
   */
  async release(): Promise<void> {
    await this.#leases.findLast(({ held }) => held)?.release();
  }

  /**
   * Releases everything that is held through this object, and closes the
   * connection if no other lock uses it.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#leases.map((lease) => lease.release()));
    closeIdle(this.#source);
  }

  /** The lease, or why there is none. */
  async #acquire(deadline: Deadline): Promise<RedisLease | string> {
    deadline.signal?.throwIfAborted();
    const mutex = this.#mutex;
    const onWait = publishWaitOnce(this.channel, this.#lockType, deadline);
    const inTurn = mutex === undefined || mutex.tryAcquire();
    if (!inTurn && deadline.remaining > 0) onWait();
    if (!inTurn && !(await mutex.acquire(deadline))) {
      return this.locked
        ? "already locked through this same object, which is not reentrant"
        : "already locked, and waited for through this same object";
    }
    let lease: RedisLease | string = "";
    try {
      return lease = await this.#retryUntilReachable(deadline, onWait);
    } finally {
      if (typeof lease === "string") mutex?.release();
    }
  }

  /** Retries until the server replies or the time is over. */
  async #retryUntilReachable(
    deadline: Deadline,
    onWait: () => void,
  ): Promise<RedisLease | string> {
    const limits = new AttemptLimits(deadline, this.#unavailableTimeout);
    let reason: unknown;
    for (let delay = INITIAL_DELAY_MS;; delay *= 2) {
      try {
        return await this.#attempt(limits, onWait);
      } catch (error) {
        if (deadline.wasCancelledWith(error)) throw error;
        if (replyCode(error) === "MOVED") await this.#refreshSlots(limits);
        // An earlier error says more than that the time is over.
        if (!(error instanceof ReplyTimeout)) reason = error;
        const { remaining, checkInterval } = deadline;
        if (
          !limits.canWait || !isRetryable(error) || remaining < INITIAL_DELAY_MS
        ) {
          throw toLockException(
            this.#messagePrefix(),
            reason ?? error,
            deadline.elapsed,
          );
        }
        // Half of the time is left for the next attempt.
        delay = Math.min(delay, checkInterval, remaining / 2);
        await deadline.sleepUntilWoken(delay, () => () => {});
      }
    }
  }

  /** Has a cluster client update its slots, if its node replies. */
  async #refreshSlots(
    { deadline, replyTimeout }: AttemptLimits,
  ): Promise<void> {
    const refreshed = this.#source.refreshSlots(this.#keys.key);
    try {
      await withDeadline(deadline, now() + replyTimeout, refreshed);
    } catch (error) {
      if (deadline.wasCancelledWith(error)) throw error;
    }
  }

  async #attempt(
    limits: AttemptLimits,
    onWait: () => void,
  ): Promise<RedisLease | string> {
    const keys = this.#keys;
    const pooled = await acquireConnection(this.#source, keys.key, limits);
    const { connection } = pooled;
    const locks = ConnectionLocks.of(connection);
    const acquisition = new Acquisition(
      locks.subscription(keys),
      this.#lockType,
    );
    let held = false;
    try {
      const { liveness } = locks;
      const wait = new AcquireWait(acquisition, { limits, liveness, onWait });
      await connection.keepAliveWhile(wait.run());
      acquisition.throwIfLost();
      held = acquisition.held;
      return held
        ? this.#lease(acquisition, pooled, limits.deadline)
        : describeBlockers(wait.blockers);
    } finally {
      if (!held) {
        // Removes the record and the subscription, unless the server is silent.
        await waitAtMost(RELEASE_GRACE_MS, acquisition.release());
        pooled.release();
      }
    }
  }

  #lease(
    acquisition: Acquisition,
    pooled: PooledUse,
    deadline: Deadline,
  ): RedisLease {
    const { channel } = this;
    const mutex = this.#mutex;
    const exclusive = acquisition.lockType === "x";
    const { elapsed: waited } = deadline;
    const since = now();
    // What ends does not know this object, so that it can be collected.
    acquisition.onEnd = (remaining) => {
      untrack(acquisition);
      mutex?.release();
      // Or the connection could be closed before the release is sent.
      remaining.then(() => pooled.release());
      publish("release", () => ({ channel, exclusive, held: now() - since }));
    };
    publish("acquire", () => ({ channel, exclusive, waited }));
    const lease = new RedisLease(channel, acquisition);
    releaseWhenCollected(
      lease,
      channel,
      () => acquisition.release(),
      acquisition,
    );
    this.#leases = [...this.#leases.filter(({ held }) => held), lease];
    return lease;
  }

  #messagePrefix(): string {
    return `Cannot lock ${formatSubject({ path: this.channel })}`;
  }
}

/**
 * Tells observers, once, that a lock is waited for. What it gives does not know
 * the lock's object, which may be collected as long as the entry lives.
 */
function publishWaitOnce(
  channel: string,
  lockType: LockType,
  deadline: Deadline,
): () => void {
  return () => {
    if (deadline.contentions > 0) return;
    deadline.markContended();
    publish("wait", () => ({ channel, exclusive: lockType === "x" }));
  };
}

/** Waits for something, but not for ever. */
async function waitAtMost(limit: number, work: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timedOut = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limit);
  });
  await Promise.race([work, timedOut]);
  clearTimeout(timer);
}

function describeBlockers(
  { pythonClients: foreigners, holders }: Blockers,
): string {
  return foreigners > 0 && holders.length === 0
    ? "already locked by a participant that is not this package, " +
      "such as Python's"
    : "already locked";
}
