/** A contest: those in this thread who wait for one file, and what wakes them. */

import type { Lockable, Watch } from "../../ffi/types.ts";
import { sleepSync } from "../core/gensync.ts";
import type { Deadline } from "./deadline.ts";
import { FifoMutex } from "./fifo_mutex.ts";

/** What can be waited for: a file, or several that count as one. */
export type Waitable =
  & Pick<Lockable, "tryLock" | "lockKey" | "watchClose">
  & Partial<Pick<Lockable, "lock">>;

/** By the key of the file, while somebody waits for it. */
const queues = new Map<string, WaitQueue>();

/** The contest for a file, if anybody in this thread waits for it. */
export function findWaitQueue(
  file: Pick<Waitable, "lockKey">,
): WaitQueue | undefined {
  // Asking for the key takes as long as locking: only if it can matter.
  if (queues.size === 0) return undefined;
  const key = file.lockKey();
  return key === null ? undefined : queues.get(key);
}

/** Takes part in the contest for a file until {@linkcode WaitQueue.exit}. */
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

/** Who waits for one file. The one who has the turn competes for the lock. */
export class WaitQueue {
  readonly mutex = new FifoMutex();
  /** How often somebody may have released the lock since the beginning. */
  wakeups = 0;
  /** Until {@linkcode WaitQueue.wakeups} goes on from here the lock is taken. */
  heldAtWakeup = -1;
  readonly #key: string | null;
  readonly #watch: Watch | null;
  #refCount = 0;
  /** Whoever has the turn, and those who went ahead. */
  readonly #sleepers = new Set<() => void>();

  constructor(file: Waitable, key: string | null) {
    this.#key = key;
    this.#watch = file.watchClose(() => this.wakeAll());
  }

  enter(): void {
    this.#refCount++;
  }

  exit(): void {
    if (--this.#refCount > 0) return;
    if (this.#key !== null) queues.delete(this.#key);
    this.#watch?.end();
  }

  /** Says that the lock may be free. */
  wakeAll(): void {
    this.wakeups++;
    for (const wake of [...this.#sleepers]) wake();
  }

  /** Waits for the next ring, but not longer than that. */
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
