/** A contest: those in this thread who wait for one file, and what wakes them. */

import type { Lockable, Watch } from "../../ffi/types.ts";
import { sleepSync } from "../core/sleep.ts";
import type { Patience } from "./deadline.ts";
import { Turns } from "./fifo_mutex.ts";

/** What can be waited for: a file, or several that count as one. */
export type Contested =
  & Pick<Lockable, "tryLock" | "identity" | "watch">
  & Partial<Pick<Lockable, "lock">>;

/** By the identity of the file, while somebody waits for it. */
const contests = new Map<string, Contest>();

/** The contest for a file, if anybody in this thread waits for it. */
export function contestFor(
  file: Pick<Contested, "identity">,
): Contest | undefined {
  // Asking for the identity takes as long as locking: only if it can matter.
  if (contests.size === 0) return undefined;
  const identity = file.identity();
  return identity === null ? undefined : contests.get(identity);
}

/** Takes part in the contest for a file until {@linkcode Contest.leave}. */
export function join(file: Contested): Contest {
  const identity = file.identity();
  let contest = identity === null ? undefined : contests.get(identity);
  if (!contest) {
    contest = new Contest(file, identity);
    if (identity !== null) contests.set(identity, contest);
  }
  contest.join();
  return contest;
}

/** Who waits for one file. The one who has the turn competes for the lock. */
export class Contest {
  readonly turns = new Turns();
  /** How often somebody may have released the lock since the beginning. */
  rings = 0;
  /** Until {@linkcode Contest.rings} goes on from here the lock is taken. */
  takenAt = -1;
  readonly #identity: string | null;
  readonly #watch: Watch | null;
  #members = 0;
  /** Whoever has the turn, and those who went ahead. */
  readonly #asleep = new Set<() => void>();

  constructor(file: Contested, identity: string | null) {
    this.#identity = identity;
    this.#watch = file.watch(() => this.ring());
  }

  join(): void {
    this.#members++;
  }

  leave(): void {
    if (--this.#members > 0) return;
    if (this.#identity !== null) contests.delete(this.#identity);
    this.#watch?.end();
  }

  /** Says that the lock may be free. */
  ring(): void {
    this.rings++;
    for (const wake of [...this.#asleep]) wake();
  }

  /** Waits for the next ring, but not longer than that. */
  pause(milliseconds: number, patience: Patience): Promise<boolean> {
    this.#watch?.listen();
    return patience.untilWoken(milliseconds, (wake) => {
      this.#asleep.add(wake);
      return () => this.#asleep.delete(wake);
    });
  }

  /** {@linkcode Contest.pause}, blocking the thread. */
  pauseSync(milliseconds: number): void {
    if (this.#watch) this.#watch.block(milliseconds);
    else sleepSync(milliseconds);
  }
}
