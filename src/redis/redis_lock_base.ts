/** `RedisLockBase`: what locks and semaphores in Redis have in common. */

import { publish } from "../core/diagnostics.ts";
import { formatSubject } from "../core/errors.ts";
import { op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { untrack, warnWhenCollected } from "../core/leak_guard.ts";
import type { WaitSettings } from "../options/acquire_options.ts";
import { Acquirable } from "../wait/acquirable.ts";
import { Busy } from "../wait/busy.ts";
import type { BusyReason } from "../wait/busy.ts";
import { Deadline, now } from "../wait/deadline.ts";
import type { FifoMutex } from "../wait/fifo_mutex.ts";
import { Acquisition } from "./acquisition/acquisition.ts";
import { ConnectionLocks } from "./acquisition/connection_locks.ts";
import { AcquireWait } from "./acquisition/wait.ts";
import type { Blockers } from "./acquisition/wait.ts";
import type { RedisSource } from "./clients/types.ts";
import { AttemptLimits, withDeadline } from "./connection/attempt_limits.ts";
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

/** The first delay before a server is tried again, in milliseconds. */
const INITIAL_DELAY_MS = 10;

/** How long an acquisition that failed waits for its clean-up, in milliseconds. */
const RELEASE_GRACE_MS = 250;

/**
 * A lock or a semaphore in Redis: the base of {@linkcode RedisLock} and
 * {@linkcode RedisSemaphore}. `acquire` returns a lease.
 *
 * Waiters of all processes are served in FIFO order, by the order in which
 * their requests reach the server. If the server cannot be reached, `acquire`
 * retries until the wait times out. If the lock is lost while `run` runs its
 * function, `run` rejects with the reason of the lease's `signal`.
 */
export abstract class RedisLockBase
  extends Acquirable<RedisLease, RedisAcquireOptions> {
  /** The name of the lock. All processes that share it use the same name. */
  readonly channel: string;
  readonly #keys: LockKeys;
  readonly #lockType: LockType;
  readonly #source: RedisSource;
  readonly #wait: WaitSettings;
  readonly #unavailableTimeout: number;

  /** @ignore Called by the lock classes. */
  protected constructor(
    keys: LockKeys,
    lockType: LockType,
    { source, wait, unavailableTimeout }: Omit<RedisSettings, "space">,
    mutex?: FifoMutex,
  ) {
    super(mutex);
    this.channel = keys.channel;
    this.#keys = keys;
    this.#lockType = lockType;
    this.#source = source;
    this.#wait = wait;
    this.#unavailableTimeout = unavailableTimeout;
  }

  /** Whether this object holds the lock, as far as is known. */
  override get locked(): boolean {
    return this.latest() !== undefined;
  }

  /**
   * Releases everything that this object holds, and closes the connection if
   * no other lock uses it.
   */
  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    closeIdle(this.#source);
  }

  /** @ignore */
  protected override latest(): RedisLease | undefined {
    return this.held.findLast(({ held }) => held);
  }

  /** @ignore */
  protected override end(lease: RedisLease): Promise<void> {
    return lease.release();
  }

  /** @ignore */
  protected override throwIfLost(lease: RedisLease): void {
    lease.signal.throwIfAborted();
  }

  /** @ignore */
  protected override subject(): { name: string } {
    return { name: this.channel };
  }

  /** @ignore */
  protected override startDeadline(
    options: RedisAcquireOptions | undefined,
  ): Deadline {
    const { channel } = this;
    const exclusive = this.#lockType === "x";
    // The connection refers to the deadline, so it must not refer to `this`.
    return new Deadline(resolveRedisWait(options, this.#wait), {
      onContended: () => publish("wait", () => ({ channel, exclusive })),
    });
  }

  /** @ignore */
  protected override acquireTarget(
    deadline: Deadline,
    onReleased: (() => void) | undefined,
  ): Gen<RedisLease | Busy> {
    return op({
      async: () => this.#retryUntilReachable(deadline, onReleased),
      sync: () => {
        throw new Error("Redis locks do not have a synchronous form");
      },
    });
  }

  /** Retries until the server answers or the time is over. */
  async #retryUntilReachable(
    deadline: Deadline,
    onReleased: (() => void) | undefined,
  ): Promise<RedisLease | Busy> {
    const limits = new AttemptLimits(deadline, this.#unavailableTimeout);
    let reason: unknown;
    for (let delay = INITIAL_DELAY_MS;; delay *= 2) {
      try {
        return await this.#attempt(limits, onReleased);
      } catch (error) {
        if (deadline.wasCancelledWith(error)) throw error;
        if (replyCode(error) === "MOVED") await this.#refreshSlots(limits);
        // An earlier error says more than that the time is over.
        if (!(error instanceof ReplyTimeout)) reason = error;
        const { remaining, checkInterval } = deadline;
        const canRetry = limits.canWait && isRetryable(error) &&
          remaining >= INITIAL_DELAY_MS;
        if (!canRetry) {
          throw toLockException(
            `Cannot lock ${formatSubject({ path: this.channel })}`,
            reason ?? error,
            deadline.elapsed,
          );
        }
        // Leaves half of the time for the next attempt.
        delay = Math.min(delay, checkInterval, remaining / 2);
        await deadline.sleepUntilWoken(delay, () => () => {});
      }
    }
  }

  /** Updates the slots of a cluster client, if its node answers. */
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
    onReleased: (() => void) | undefined,
  ): Promise<RedisLease | Busy> {
    const keys = this.#keys;
    const pooled = await acquireConnection(this.#source, keys, limits);
    const { connection } = pooled;
    const locks = ConnectionLocks.of(connection);
    const subscription = locks.subscription(keys);
    const acquisition = new Acquisition(subscription, {
      lockType: this.#lockType,
      unavailableTimeout: this.#unavailableTimeout,
    });
    let held = false;
    try {
      const { liveness } = locks;
      const wait = new AcquireWait(acquisition, { limits, liveness });
      await connection.keepAliveWhile(wait.run());
      acquisition.throwIfLost();
      held = acquisition.held;
      if (!held) return new Busy(() => describeBlockers(wait.blockers));
      return this.#lease(acquisition, {
        pooled,
        waited: limits.deadline.elapsed,
        onReleased,
      });
    } finally {
      if (!held) {
        // Removes the record and the subscription, unless the server is silent.
        await waitAtMost(RELEASE_GRACE_MS, acquisition.release());
        pooled.release();
      }
    }
  }

  #lease(acquisition: Acquisition, granted: Granted): RedisLease {
    const { channel } = this;
    const { pooled, waited, onReleased } = granted;
    const exclusive = acquisition.lockType === "x";
    const since = now();
    // The connection refers to this function, so it must not refer to `this`.
    acquisition.onEnd = (left) => {
      untrack(acquisition);
      onReleased?.();
      // If the use ended earlier, the connection could be closed before the
      // command that releases the lock is sent.
      left.then(() => pooled.release());
      publish("release", () => ({ channel, exclusive, held: now() - since }));
    };
    publish("acquire", () => ({ channel, exclusive, waited }));
    const lease = new RedisLease(channel, acquisition);
    // The timer of its connection keeps the acquisition, and with it the signal
    // and the mutex, so the lock stays held if the program loses the lease.
    warnWhenCollected(lease, channel, acquisition);
    removeEnded(this.held);
    this.held.push(lease);
    return lease;
  }
}

/** What belongs to an acquisition that holds the lock. */
interface Granted {
  readonly pooled: PooledUse;
  /** How long the acquisition waited, in milliseconds. */
  readonly waited: number;
  readonly onReleased: (() => void) | undefined;
}

/** Removes the leases that have been released or lost. */
function removeEnded(leases: RedisLease[]): void {
  let count = 0;
  for (const lease of leases) if (lease.held) leases[count++] = lease;
  leases.length = count;
}

/** Waits until a promise settles, for a number of milliseconds at most. */
async function waitAtMost(limit: number, work: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timedOut = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limit);
  });
  await Promise.race([work, timedOut]);
  clearTimeout(timer);
}

function describeBlockers({ pythonClients, holders }: Blockers): BusyReason {
  const onlyPython = pythonClients > 0 && holders.length === 0;
  return {
    reason: onlyPython
      ? "already locked by another program, such as Python's portalocker"
      : "already locked",
  };
}
