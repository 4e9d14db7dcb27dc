/** `RedisLockBase`: what locks and semaphores in Redis have in common. */

import { publish } from "../core/diagnostics.ts";
import type { RemoteHolder } from "../core/errors.ts";
import { runAsync, yieldToEventLoop } from "../core/gensync.ts";
import { untrack, warnWhenCollected } from "../core/leak_guard.ts";
import { atEdgeAsync } from "../core/stack.ts";
import { formatName, printable, shorten } from "../options/validate.ts";
import { Acquirable, ONE_ATTEMPT } from "../wait/acquirable.ts";
import { addAbortCallback } from "../wait/abort_listeners.ts";
import { Busy } from "../wait/busy.ts";
import type { BusyReason } from "../wait/busy.ts";
import { now } from "../wait/deadline.ts";
import type { FifoMutex } from "../wait/fifo_mutex.ts";
import { Acquisition } from "./acquisition/acquisition.ts";
import type { AcquisitionSettings } from "./acquisition/acquisition.ts";
import { ConnectionLocks } from "./acquisition/connection_locks.ts";
import { acquireOrWait, sendFirstStep } from "./acquisition/wait.ts";
import type { Blockers } from "./acquisition/wait.ts";
import { withDeadline } from "./connection/attempt_limits.ts";
import type { AttemptLimits } from "./connection/attempt_limits.ts";
import type { LockConnection } from "./connection/connection.ts";
import { closeIdle } from "./connection/pool.ts";
import type { PooledUse } from "./connection/pool.ts";
import { resolveRedisWait } from "./options.ts";
import type {
  RedisAcquireOptions,
  RedisSettings,
  RedisWaitSettings,
} from "./options.ts";
import { listHolders, probeLock } from "./participants.ts";
import type { RedisProbe } from "./participants.ts";
import type { LockKeys, LockType } from "./protocol/keys.ts";
import { notAdoptable, parseTransfer } from "./protocol/transfer.ts";
import type { Transfer } from "./protocol/transfer.ts";
import { LockServer } from "./lock_server.ts";
import { RedisLease } from "./redis_lease.ts";
import { RedisDeadline } from "./wait_report.ts";
import type { WaitSubject } from "./wait_report.ts";

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
  readonly #server: LockServer;
  readonly #settings: AcquisitionSettings;
  readonly #wait: RedisWaitSettings;
  readonly #subject: WaitSubject;

  /** @ignore Called by the lock classes. */
  protected constructor(
    keys: LockKeys,
    lockType: LockType,
    settings: Omit<RedisSettings, "space">,
    mutex?: FifoMutex,
  ) {
    super(mutex);
    this.channel = keys.channel;
    const { source, wait, info, unavailableTimeout } = settings;
    const server = new LockServer(source, keys, unavailableTimeout);
    this.#server = server;
    this.#settings = { lockType, unavailableTimeout, info };
    this.#wait = wait;
    const { channel } = keys;
    const exclusive = lockType === "x";
    // The connection refers to it, so it must not refer to `this`.
    this.#subject = {
      channel,
      onContended: () => publish("wait", () => ({ channel, exclusive })),
      findHolders: () => server.ask(listHolders),
    };
  }

  /** Whether this object holds the lock, as far as is known. */
  override get locked(): boolean {
    return this.latest() !== undefined;
  }

  /**
   * Lists what holds the lock and what waits for it, at most 1,000 of each,
   * without taking part. The list may be outdated when the promise resolves, so
   * do not use it to decide whether to work.
   *
   * @example Print the holders of a lock
   * ```ts
   * import { RedisLock } from "jsr:@x/portalock/redis";
   *
   * const lock = new RedisLock("jobs", { info: "worker 3" });
   * await using _lease = await lock.acquire();
   * for (const { info, address } of (await lock.probe()).holders) {
   *   console.log(`held by ${info} at ${address}`);
   * }
   * ```
   *
   * @returns The holders, the waiters, and the clients of Python's portalocker.
   * @throws {LockException} If the server does not answer within
   * `unavailableTimeout`, or does not allow to ask.
   */
  probe(): Promise<RedisProbe> {
    return atEdgeAsync(
      RedisLockBase.prototype.probe,
      () => this.#server.ask(probeLock),
    );
  }

  /**
   * Takes over the lease that a holder has given away by
   * {@linkcode RedisLease.transfer}, in this process or another one. The lock
   * is not free in between, and nothing waits: the new lease has the same
   * `fencingToken`, and the `info` of this lock.
   *
   * @param text What `transfer()` returned.
   * @returns The lock while it is held.
   * @throws {TypeError} If `text` is not a string.
   * @throws {RangeError} If `text` is not what `transfer()` returned, or belongs
   * to a lock with another name or prefix, to a shared instead of an exclusive
   * lock, or to a semaphore with another maximum.
   * @throws {LockLostError} If the lease is gone: it was adopted before, its
   * transfer timed out, or the connection of its holder ended.
   * @throws {AlreadyLocked} If this object holds the lock until the wait times
   * out.
   * @throws {LockException} If the server cannot be reached in time. The lock
   * is released if it was adopted meanwhile.
   */
  adopt(text: string): Promise<RedisLease> {
    return atEdgeAsync(RedisLockBase.prototype.adopt, async () => {
      const { keys } = this.#server;
      const transfer = parseTransfer(text, keys, this.#settings.lockType);
      const deadline = this.startDeadline(undefined);
      deadline.transfer = transfer;
      const held = await this.attemptAsync(deadline);
      return held instanceof Busy ? this.throwBusy(held, deadline) : held;
    });
  }

  /**
   * @ignore The names that two locks of one server must not have in common: its
   * key, and the channel that Python's portalocker shares.
   */
  get names(): string[] {
    const { key, shared } = this.#server.keys;
    return shared === undefined ? [key] : [key, shared];
  }

  /**
   * @ignore Acquires the lock for {@linkcode lockAll}, with a clock that began
   * to run earlier. Rejects if one of the leases is lost meanwhile.
   */
  async acquireSince(
    start: number,
    options: RedisAcquireOptions | undefined,
    leases: Iterable<RedisLease>,
  ): Promise<RedisLease> {
    await yieldToEventLoop(now());
    const deadline = this.startDeadline(options, start);
    const watched = Array.from(leases, ({ signal }) => {
      signal.throwIfAborted();
      const cancel = () => deadline.cancel(signal.reason);
      return addAbortCallback(signal, cancel);
    });
    try {
      const held = await this.attemptAsync(deadline);
      return held instanceof Busy ? this.throwBusy(held, deadline) : held;
    } finally {
      for (const unwatch of watched) unwatch();
    }
  }

  /**
   * Releases everything that this object holds, and closes the connection if
   * no other lock uses it.
   */
  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    closeIdle(this.#server.source);
  }

  /**
   * Releases the latest lease of this object that is still held. Does nothing
   * if the object does not hold the lock. Never rejects, as
   * {@linkcode RedisLease.release}.
   */
  override release(): Promise<void> {
    // Not with `atEdgeAsync`: there is no error whose stack it would change.
    return Promise.resolve(this.releaseLatest());
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
  protected override async throwIfLost(lease: RedisLease): Promise<void> {
    if (lease.transferred) return;
    await lease.confirmed;
    lease.signal.throwIfAborted();
  }

  /** @ignore */
  protected override subject(): { name: string } {
    return { name: this.channel };
  }

  /** @ignore */
  protected override startDeadline(
    options: RedisAcquireOptions | undefined,
    start?: number,
  ): RedisDeadline {
    return new RedisDeadline(
      resolveRedisWait(options, this.#wait),
      this.#subject,
      options !== ONE_ATTEMPT,
      start,
    );
  }

  /**
   * @ignore A request to the server lets the event loop run anyway, which is
   * cheaper than an immediate for each acquisition.
   */
  protected override turnBefore(
    deadline: RedisDeadline,
  ): Promise<void> | undefined {
    const sends = this.#server.isOpen && !deadline.signal?.aborted;
    return sends ? undefined : super.turnBefore(deadline);
  }

  /** @ignore Not a generator: there is no synchronous form to share it with. */
  protected override attemptAsync(
    deadline: RedisDeadline,
  ): Promise<RedisLease | Busy> {
    deadline.throwIfAborted();
    const { mutex } = this;
    return mutex === undefined || mutex.tryAcquire()
      ? this.#acquire(deadline)
      : this.#acquireInTurn(mutex, deadline);
  }

  /** Acquires the lock once no other task has it through this object. */
  async #acquireInTurn(
    mutex: FifoMutex,
    deadline: RedisDeadline,
  ): Promise<RedisLease | Busy> {
    try {
      const acquired = await runAsync(mutex.wait(deadline));
      if (acquired) return await this.#acquire(deadline);
      const busy = this.busyHere();
      // Nothing was sent, and the caller may try again at once.
      await yieldToEventLoop(now());
      return busy;
    } finally {
      deadline.end();
    }
  }

  /**
   * Acquires the lock. If nothing has to be awaited before, the first step is
   * sent now. Nearly always, its reply grants the lock.
   */
  #acquire(deadline: RedisDeadline): Promise<RedisLease | Busy> {
    const limits = this.#server.limits(deadline);
    const pooled = this.#server.useIfOpen();
    const attempt = pooled && this.#begin(pooled, limits);
    if (attempt?.sent === undefined) return this.#reach(limits, attempt);
    return attempt.sent.then(
      () =>
        attempt.acquisition.held
          ? this.#hold(attempt, deadline)
          : this.#reach(limits, attempt),
      () => this.#reach(limits, attempt),
    );
  }

  /** Begins an attempt, and sends its first step if that is possible now. */
  #begin(pooled: PooledUse, limits: AttemptLimits<RedisDeadline>): Attempt {
    const locks = ConnectionLocks.of(pooled.connection);
    const subscription = locks.subscription(this.#server.keys);
    const acquisition = new Acquisition(subscription, this.#settings);
    const canSend = subscription.confirmed && !limits.deadline.transfer;
    const sent = canSend ? sendFirstStep(acquisition, limits) : undefined;
    return { pooled, acquisition, sent };
  }

  /** Acquires the lock, also if it has to be waited for or tried again. */
  async #reach(
    limits: AttemptLimits<RedisDeadline>,
    begun: Attempt | undefined,
  ): Promise<RedisLease | Busy> {
    const { deadline } = limits;
    let held: RedisLease | Busy | undefined;
    try {
      return held = await this.#server.reach(
        limits,
        deadline.transfer ? "adopt" : "lock",
        (pooled) => this.#finish(this.#begin(pooled, limits), limits),
        begun && this.#finish(begun, limits),
      );
    } finally {
      deadline.end();
      if (held === undefined || held instanceof Busy) this.unlockMutex?.();
    }
  }

  async #finish(
    attempt: Attempt,
    limits: AttemptLimits<RedisDeadline>,
  ): Promise<RedisLease | Busy> {
    const { pooled, acquisition, sent } = attempt;
    const { deadline } = limits;
    const { transfer } = deadline;
    let held = false;
    try {
      const busy = transfer
        ? await adopt(acquisition, limits, transfer)
        : await waitFor(acquisition, limits, sent);
      acquisition.throwIfLost();
      held = acquisition.held;
      if (held) return this.#hold(attempt, deadline);
      if (busy) return busy;
      throw notAdoptable(this.channel);
    } finally {
      if (!held) {
        // Removes the record and the subscription, unless the server is silent.
        await waitAtMost(RELEASE_GRACE_MS, acquisition.release());
        pooled.release();
      }
    }
  }

  /** Returns the lease of an acquisition that holds the lock. */
  #hold(
    { pooled, acquisition }: Attempt,
    deadline: RedisDeadline,
  ): RedisLease {
    const { channel, unlockMutex } = this;
    const exclusive = acquisition.lockType === "x";
    const since = now();
    deadline.end();
    // The connection refers to this function, so it must not refer to `this`.
    acquisition.onEnd = () => {
      if (acquisition.checked) untrack(acquisition);
      unlockMutex?.();
      publish("release", () => ({ channel, exclusive, held: now() - since }));
    };
    // If the use ended earlier, the connection could be closed before the
    // command that releases the lock is sent.
    acquisition.onLeft = pooled.release;
    publish("acquire", () => {
      return { channel, exclusive, waited: since - deadline.start };
    });
    const lease = new RedisLease(channel, acquisition);
    // The timer of its connection keeps the acquisition, and with it the signal
    // and the mutex, so the lock stays held if the program loses the lease.
    acquisition.onFirstCheck = watching(lease, acquisition);
    replaceEnded(this.held, lease);
    return lease;
  }
}

/** One attempt to acquire a lock, on one connection. */
interface Attempt {
  readonly pooled: PooledUse;
  readonly acquisition: Acquisition;
  /** Settles as `sendFirstStep` says, if the first step has been sent. */
  readonly sent: Promise<unknown> | undefined;
}

/**
 * Returns what begins to watch a lease. To watch each of them would take longer
 * than most are held. It is a function of its own because the closures of one
 * call share their variables, so others would keep the lease reachable.
 */
function watching(lease: RedisLease, acquisition: Acquisition): () => void {
  return () => warnWhenCollected(lease, lease.channel, acquisition);
}

/** Adds a lease, and removes those that have been released or lost. */
function replaceEnded(leases: RedisLease[], latest: RedisLease): void {
  let count = 0;
  for (const lease of leases) if (lease.held) leases[count++] = lease;
  // The array of most locks keeps its length of 1, so it is not allocated anew.
  leases[count++] = latest;
  leases.length = count;
}

/** Waits until a promise settles, for a number of milliseconds at most. */
async function waitAtMost(
  limit: number,
  work: Promise<unknown>,
): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timedOut = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limit);
  });
  await Promise.race([work, timedOut]);
  clearTimeout(timer);
}

/** Waits for a lock. Returns why it is not granted, unless it is. */
async function waitFor(
  acquisition: Acquisition,
  limits: AttemptLimits<RedisDeadline>,
  sent: Promise<unknown> | undefined,
): Promise<Busy | undefined> {
  const { connection, subscription: { keys } } = acquisition;
  const { liveness } = ConnectionLocks.of(connection);
  const blockers = await acquireOrWait(acquisition, { limits, liveness }, sent);
  if (acquisition.held) return undefined;
  // The lock may be granted, or lost, while the server is asked.
  const holder = limits.deadline.namesHolder
    ? await firstHolder(connection, keys)
    : undefined;
  const strangers = describeStrangers(blockers, keys);
  if (strangers !== undefined) return new Busy(() => ({ reason: strangers }));
  return new Busy(() => describeBlockers(holder));
}

/** Takes over a lease that was transferred, if it is still there. */
async function adopt(
  acquisition: Acquisition,
  { deadline, replyTimeout }: AttemptLimits,
  transfer: Transfer,
): Promise<undefined> {
  const adopted = acquisition.adopt(transfer);
  const end = now() + replyTimeout;
  await acquisition.connection.keepAliveWhile(
    withDeadline(deadline, end, adopted),
  );
}

/** Returns one of the holders, or nothing if the server does not answer soon. */
async function firstHolder(
  connection: LockConnection,
  keys: LockKeys,
): Promise<RemoteHolder | undefined> {
  let holder: RemoteHolder | undefined;
  const asked = listHolders(connection, keys).then(
    ([first]) => holder = first,
    () => {},
  );
  await waitAtMost(RELEASE_GRACE_MS, asked);
  return holder;
}

/** Says which subscribers prevent the acquisition, if no holder does. */
function describeStrangers(
  { pythonClients, position, holders }: Blockers,
  { key, shared = "" }: LockKeys,
): string | undefined {
  if (pythonClients < 0) {
    return `clients that are not portalock are subscribed to ` +
      `${formatName(key)}, which hides whether Python's portalocker has the ` +
      "lock; unsubscribe them";
  }
  if (pythonClients === 0 || position > 0 || holders.length > 0) return;
  return "already locked by another program, such as Python's portalocker: " +
    "clients that do not have this lock, or have it with another prefix, are " +
    `subscribed to ${formatName(shared)}; if they use it for their own ` +
    "messages, give the lock another name or another prefix";
}

function describeBlockers(holder: RemoteHolder | undefined): BusyReason {
  const { info } = holder ?? {};
  const by = info === undefined ? "" : ` by ${formatInfo(info)}`;
  return { reason: `already locked${by}`, holder };
}

/** Formats the info of a holder: a string as a name, anything else as JSON. */
function formatInfo(info: unknown): string {
  return typeof info === "string"
    ? formatName(info)
    : printable(shorten(JSON.stringify(info)));
}
