/**
 * The waiters of this thread for one file, and what wakes them.
 *
 * Waiters take turns in FIFO order, readers and writers alike. The one whose
 * turn it is tries to lock the file; the others make no system call. A release
 * in the same thread wakes it directly. After a writer has got the lock, the
 * next waiter does not try before something happens to the lock. So a thousand
 * waiting tasks cost two system calls for each release.
 *
 * @module
 */

import { shared } from "../../ffi/mod.ts";
import type { Lockable, Watch } from "../../ffi/types.ts";
import { sleepSync } from "../core/gensync.ts";
import type { Wanted } from "../core/held_locks.ts";
import type { Deadline } from "./deadline.ts";
import { FifoMutex } from "./fifo_mutex.ts";

/** What a task can wait for: a file, or several files that count as one. */
export type Waitable =
  & Pick<Lockable, "tryLock" | "lockKey" | "watchClose">
  & Partial<Pick<Lockable, "lock">>
  & Wanted;

/** The queues in use, by the key of the lock. */
const queues = shared("queues", () => new Map<string, WaitQueue>());

/** Returns the queue for a file, if a task of this thread waits for it. */
export function findWaitQueue(
  file: Pick<Waitable, "lockKey">,
): WaitQueue | undefined {
  // The key costs as much as an attempt to lock.
  if (queues.size === 0) return undefined;
  const key = file.lockKey();
  return key === null ? undefined : queues.get(key);
}

/** Joins the queue for a file, until {@linkcode WaitQueue.exit}. */
export function enterWaitQueue(file: Waitable): WaitQueue {
  const key = file.lockKey();
  let queue = key === null ? undefined : queues.get(key);
  if (!queue) {
    queue = new WaitQueue(file, key);
    if (key !== null) queues.set(key, queue);
  }
  queue.enter();
  return queue;
}

/** The waiters for one file. */
export class WaitQueue {
  /** Held by the waiter whose turn it is. */
  readonly mutex: FifoMutex = new FifoMutex();
  /** How many events may have freed the lock since the queue exists. */
  wakeups = 0;
  /** The lock is held at this number of {@linkcode WaitQueue.wakeups}. */
  heldAtWakeup = -1;
  readonly #key: string | null;
  readonly #watch: Watch | null;
  #refCount = 0;
  /** The waiter whose turn it is, and those that skipped the queue. */
  readonly #sleepers = new Set<() => void>();

  constructor(file: Waitable, key: string | null) {
    this.#key = key;
    this.#watch = file.watchClose(() => this.wakeAll());
  }

  /** Adds a waiter. */
  enter(): void {
    this.#refCount++;
  }

  /** Removes a waiter. The last one removes the queue. */
  exit(): void {
    if (--this.#refCount > 0) return;
    if (this.#key !== null) queues.delete(this.#key);
    this.#watch?.end();
  }

  /** Records that the lock may be free, and wakes all sleepers. */
  wakeAll(): void {
    this.wakeups++;
    for (const wake of [...this.#sleepers]) wake();
  }

  /** Sleeps until the next wake-up, at most for the given time. */
  sleep(milliseconds: number, deadline: Deadline): Promise<boolean> {
    this.#watch?.listen();
    return deadline.sleepUntilWoken(milliseconds, (wake) => {
      this.#sleepers.add(wake);
      return () => this.#sleepers.delete(wake);
    });
  }

  /** {@linkcode WaitQueue.sleep}, blocking the thread. */
  sleepSync(milliseconds: number): void {
    if (this.#watch) this.#watch.block(milliseconds);
    else sleepSync(milliseconds);
  }
}
