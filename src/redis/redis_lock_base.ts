/** What locks and semaphores in Redis have in common. */

import { abandon, keep } from "../core/leak_guard.ts";
import type { Wait } from "../options/acquire_options.ts";
import { checkFunction } from "../options/validate.ts";
import { publish } from "../core/diagnostics.ts";
import { AlreadyLocked, shown } from "../core/errors.ts";
import { now, Patience } from "../wait/deadline.ts";
import type { Turns } from "../wait/fifo_mutex.ts";
import type { Entry } from "./acquisition/acquisition.ts";
import { failure, isPassing, replyCode, Unanswered } from "./errors.ts";
import type { Kind, Names } from "./keys.ts";
import { redisWait } from "./options.ts";
import type { RedisAcquireOptions, RedisSettings } from "./options.ts";
import { RedisLease } from "./redis_lease.ts";
import { closeIdle, limitOf, useSession, within } from "./connection/pool.ts";
import type { Use } from "./connection/pool.ts";
import type { Source } from "./connection/client_adapter.ts";
import type { Others } from "./acquisition/wait.ts";

/** The first pause after a server was out of reach, in milliseconds. */
const FIRST_PAUSE = 10;

/** For how long who gave up waits for the server, in milliseconds. */
const LAST_WORD = 250;

/** Anything in Redis that can be acquired and released. */
export abstract class RedisLockBase implements AsyncDisposable {
  /** What all who share it call it. */
  readonly channel: string;
  readonly #names: Names;
  readonly #kind: Kind;
  readonly #source: Source;
  readonly #wait: Wait;
  readonly #unavailableTimeout: number;
  /** Makes it a mutex among the tasks that share it, if it is to be one. */
  readonly #turns: Turns | undefined;
  /** The latest last; those that ended are removed now and then. */
  #leases: RedisLease[] = [];

  /** @ignore Made by the classes of locks. */
  protected constructor(
    names: Names,
    kind: Kind,
    { source, wait, unavailableTimeout }: RedisSettings,
    turns?: Turns,
  ) {
    this.channel = names.channel;
    this.#names = names;
    this.#kind = kind;
    this.#source = source;
    this.#wait = wait;
    this.#unavailableTimeout = unavailableTimeout;
    this.#turns = turns;
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
    const patience = new Patience(redisWait(options, this.#wait));
    const lease = await this.#acquire(patience);
    if (lease instanceof RedisLease) return lease;
    const { waited } = patience;
    throw new AlreadyLocked(
      `${this.#verb()}: ${lease} (waited ${Math.round(waited)} ms)`,
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
    const wait = redisWait({ failWhenLocked: true }, this.#wait);
    const lease = await this.#acquire(new Patience(wait));
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
  async #acquire(patience: Patience): Promise<RedisLease | string> {
    patience.signal?.throwIfAborted();
    const turns = this.#turns;
    const onWait = teller(this.channel, this.#kind, patience);
    const mine = turns === undefined || turns.tryTake();
    if (!mine && patience.left > 0) onWait();
    if (!mine && !(await turns.take(patience))) {
      return this.locked
        ? "already locked through this same object, which is not reentrant"
        : "already locked, and waited for through this same object";
    }
    let lease: RedisLease | string = "";
    try {
      return lease = await this.#enter(patience, onWait);
    } finally {
      if (typeof lease === "string") turns?.pass();
    }
  }

  /** Again and again until the server has answered or the time is over. */
  async #enter(
    patience: Patience,
    onWait: () => void,
  ): Promise<RedisLease | string> {
    const waits = patience.left > 0;
    let reason: unknown;
    for (let pause = FIRST_PAUSE;; pause *= 2) {
      try {
        return await this.#attempt(patience, waits, onWait);
      } catch (error) {
        if (patience.endedBy(error)) throw error;
        if (replyCode(error) === "MOVED") {
          await this.#moved(patience, waits);
        }
        // What was said before tells more than that the time was over.
        if (!(error instanceof Unanswered)) reason = error;
        const { left, checkInterval } = patience;
        if (!waits || !isPassing(error) || left < FIRST_PAUSE) {
          throw failure(this.#verb(), reason ?? error, patience.waited);
        }
        // So that there is time left to try it.
        pause = Math.min(pause, checkInterval, left / 2);
        await patience.untilWoken(pause, () => () => {});
      }
    }
  }

  /** Lets the user's client learn where the lock is now, if it answers. */
  async #moved(patience: Patience, waits: boolean): Promise<void> {
    const moved = this.#source.moved(this.#names.key);
    const limit = limitOf(patience, waits, this.#unavailableTimeout);
    try {
      await within(patience, now() + limit, moved);
    } catch (error) {
      if (patience.endedBy(error)) throw error;
    }
  }

  async #attempt(
    patience: Patience,
    waits: boolean,
    onWait: () => void,
  ): Promise<RedisLease | string> {
    const unavailableTimeout = this.#unavailableTimeout;
    const use = await useSession(
      this.#source,
      this.#names.key,
      patience,
      waits,
      unavailableTimeout,
    );
    const { session } = use;
    const { entry, subscribed } = session.presence(this.#names)
      .enter(this.#kind);
    let holds = false;
    try {
      const pace = { patience, waits, unavailableTimeout, onWait };
      await session.awaiting(entry.begin(subscribed, pace));
      entry.throwIfLost();
      holds = entry.held;
      return holds ? this.#lease(entry, use, patience) : said(entry.others);
    } finally {
      if (!holds) {
        // So that nothing is left behind, unless the server is silent.
        await settledIn(LAST_WORD, entry.leave());
        use.done();
      }
    }
  }

  #lease(entry: Entry, use: Use, patience: Patience): RedisLease {
    const { channel } = this;
    const turns = this.#turns;
    const exclusive = entry.kind === "x";
    const { waited } = patience;
    const since = now();
    // What ends does not know this object, so that it can be collected.
    entry.onEnd = (left) => {
      abandon(entry);
      turns?.pass();
      // Or the connection could be closed before the release is sent.
      left.then(() => use.done());
      publish("release", () => ({ channel, exclusive, held: now() - since }));
    };
    publish("acquire", () => ({ channel, exclusive, waited }));
    const lease = new RedisLease(channel, entry);
    keep(lease, channel, () => entry.leave(), entry);
    this.#leases = [...this.#leases.filter(({ held }) => held), lease];
    return lease;
  }

  #verb(): string {
    return `Cannot lock ${shown({ path: this.channel })}`;
  }
}

/**
 * Tells observers, once, that a lock is waited for. What it gives does not know
 * the lock's object, which may be collected as long as the entry lives.
 */
function teller(channel: string, kind: Kind, patience: Patience): () => void {
  return () => {
    if (!patience.needed()) return;
    publish("wait", () => ({ channel, exclusive: kind === "x" }));
  };
}

/** Waits for something, but not for ever. */
async function settledIn(limit: number, work: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limit);
  });
  await Promise.race([work, over]);
  clearTimeout(timer);
}

function said({ foreigners, holders }: Others): string {
  return foreigners > 0 && holders.length === 0
    ? "already locked by a participant that is not this package, " +
      "such as Python's"
    : "already locked";
}
