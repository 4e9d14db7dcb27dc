/** `lockAll`: acquires several locks in Redis, or none of them. */

import { atEdgeAsync, callerError } from "../core/stack.ts";
import { formatName, throwInvalid } from "../options/validate.ts";
import { WAIT_FOREVER } from "../options/acquire_options.ts";
import { now } from "../wait/deadline.ts";
import { lookFirst } from "./acquisition/looking_signal.ts";
import { resolveRedisWait } from "./options.ts";
import type { RedisAcquireOptions } from "./options.ts";
import type { RedisLease } from "./redis_lease.ts";
import type { RedisLockBase } from "./redis_lock_base.ts";

/** The leases that {@linkcode lockAll} returns. */
export class RedisLeases implements AsyncDisposable, Iterable<RedisLease> {
  readonly #leases: readonly RedisLease[];
  /** The leases in the order in which they were acquired. */
  readonly #acquired: readonly RedisLease[];
  #controller: AbortController | undefined;

  /** @ignore Called by {@linkcode lockAll}. */
  constructor(
    leases: readonly RedisLease[],
    acquired: readonly RedisLease[],
  ) {
    this.#leases = leases;
    this.#acquired = acquired;
  }

  /** The number of locks. */
  get length(): number {
    return this.#leases.length;
  }

  /** Returns the lease of one lock, by the index of the lock. */
  at(index: number): RedisLease | undefined {
    return this.#leases.at(index);
  }

  /** Iterates over the leases, in the order of the locks. */
  [Symbol.iterator](): Iterator<RedisLease> {
    return this.#leases[Symbol.iterator]();
  }

  /**
   * Aborts as soon as one of the leases is lost, with the reason of its signal.
   * Its `aborted` and `throwIfAborted` look at the signals of all leases.
   */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = this.#controller = new AbortController();
      const look = () => {
        const lost = this.#leases.find(({ signal }) => signal.aborted);
        if (lost) controller.abort(lost.signal.reason);
      };
      for (const { signal } of this.#leases) {
        signal.addEventListener("abort", look, { once: true });
      }
      lookFirst(controller.signal, look);
      look();
    }
    return this.#controller.signal;
  }

  /**
   * Releases all locks, the last one first. Does nothing the second time. Never
   * rejects, as {@linkcode RedisLease.release}.
   */
  async release(): Promise<void> {
    await releaseAll(this.#acquired);
  }

  /** Releases all locks, as {@linkcode RedisLeases.release} does. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}

/**
 * Acquires several locks: all of them, or none if one cannot be acquired in
 * time.
 *
 * It acquires them one after the other, in the order of their names. So two
 * processes that list the same locks in different orders do not deadlock. The
 * time starts with the call, for all of them: each lock has its own `timeout`,
 * or that of `options`. If an acquisition fails, or a lease is lost meanwhile,
 * it releases what it has acquired, and rejects.
 *
 * @example Lock two accounts
 * ```ts
 * import { lockAll, RedisLock } from "jsr:@x/portalock/redis";
 *
 * const locks = ["account-7", "account-4"].map((name) => new RedisLock(name));
 * await using leases = await lockAll(locks, { timeout: 2000 });
 * leases.signal.throwIfAborted();
 * ```
 *
 * @param locks The locks and semaphores, each of another name. Locks of one
 * name on different servers are refused, too: processes could not agree on
 * their order.
 * @param options How to wait. Options that are absent are those of each lock.
 * @returns The leases. Releasing or disposing the object releases all locks.
 * @throws {AlreadyLocked} If another holder still has one of the locks when the
 * wait times out.
 * @throws {LockLostError} If a lease was lost while the others were acquired.
 * @throws {TypeError} If `locks` is not an iterable of locks, or an option is
 * unknown or has the wrong type.
 * @throws {RangeError} If two locks have the same name, with the prefix as a
 * part of it, or an option is out of range.
 * @throws What {@linkcode RedisLock.acquire} throws.
 */
export function lockAll(
  locks: Iterable<RedisLockBase>,
  options?: RedisAcquireOptions,
): Promise<RedisLeases> {
  return atEdgeAsync(lockAll, () => acquireAll(lockList(locks), options));
}

async function acquireAll(
  locks: RedisLockBase[],
  options: RedisAcquireOptions | undefined,
): Promise<RedisLeases> {
  const start = now();
  const ordered = lockOrder(locks);
  // A wrong option is reported before anything is acquired.
  resolveRedisWait(options, WAIT_FOREVER);
  const held = new Map<RedisLockBase, RedisLease>();
  try {
    for (const lock of ordered) {
      held.set(lock, await lock.acquireSince(start, options, held.values()));
    }
    for (const { signal } of held.values()) signal.throwIfAborted();
  } catch (error) {
    await releaseAll([...held.values()]);
    throw error;
  }
  const leases = locks.map((lock) => held.get(lock)!);
  return new RedisLeases(leases, [...held.values()]);
}

/**
 * Releases leases, the last one first. The next one follows without waiting for
 * the reply: the server executes the commands of a connection in their order.
 */
async function releaseAll(acquired: readonly RedisLease[]): Promise<void> {
  const lastFirst = [...acquired].reverse();
  await Promise.all(lastFirst.map((lease) => lease.release()));
}

function lockList(locks: Iterable<RedisLockBase>): RedisLockBase[] {
  const several = typeof locks === "object" && locks !== null &&
    Symbol.iterator in locks;
  if (!several) throwInvalid("locks", "an iterable of Redis locks", locks);
  let list: RedisLockBase[];
  try {
    list = [...locks];
  } catch (error) {
    throw callerError(error);
  }
  for (const lock of list) {
    // Not `instanceof`, because another copy of this package may have made it.
    if (typeof lock?.acquireSince === "function") continue;
    throwInvalid("locks", "an iterable of Redis locks", lock);
  }
  return list;
}

/** Not by locale, which may differ between processes. */
function compare(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

/**
 * Returns the order in which every process acquires the locks: that of their
 * names. Locks of one name on two servers do not have an order, because what
 * identifies a server differs between processes (an address behind a proxy) or
 * changes (a failover).
 *
 * @throws {RangeError} If two locks have one name, or exclude each other.
 */
function lockOrder(locks: readonly RedisLockBase[]): RedisLockBase[] {
  const seen = new Set<string>();
  for (const { channel, names } of locks) {
    if (names.some((name) => seen.has(name))) {
      throw new RangeError(
        `locks must have different names, not ${formatName(channel)} twice, ` +
          "with the prefix as a part of the name, and also if they are on " +
          "different servers",
      );
    }
    for (const name of names) seen.add(name);
  }
  return [...locks].sort((a, b) =>
    compare(rank(a), rank(b)) || b.names.length - a.names.length ||
    compare(`${a.names}`, `${b.names}`)
  );
}

/** Locks that exclude each other by their shared channel have the same rank. */
function rank({ channel, names: [, shared] }: RedisLockBase): string {
  return shared ?? channel;
}
