/** Makes any claim a mutex among the tasks that share one lock object. */

import type { LockerSettings } from "../../ffi/types.ts";
import { step } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";
import type { Patience } from "../wait/deadline.ts";
import { Turns } from "../wait/fifo_mutex.ts";
import { Refused } from "./lock_target.ts";
import type { Claim, Hold } from "./lock_target.ts";

/** A claim that is held once at a time; the others queue for it. */
export class OneAtATime implements Claim {
  readonly path: string;
  readonly exclusive: boolean;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly #claim: Claim;
  readonly #turns = new Turns();
  #held = false;
  readonly #released = () => {
    this.#held = false;
    this.#turns.pass();
  };

  constructor(claim: Claim) {
    this.#claim = claim;
    this.path = claim.path;
    this.exclusive = claim.exclusive;
    this.files = claim.files;
    this.locker = claim.locker;
  }

  *take(patience: Patience, waits: () => void): Recipe<Hold | Refused> {
    const mine = this.#turns.tryTake() || (yield* this.#queue(patience, waits));
    if (!mine) return this.#refused(this.#held);
    try {
      const hold = yield* this.#claim.take(patience, waits);
      if (hold instanceof Refused) return hold;
      this.#held = true;
      hold.afterwards = this.#released;
      return hold;
    } finally {
      if (!this.#held) this.#turns.pass();
    }
  }

  #queue(patience: Patience, waits: () => void): Recipe<boolean> {
    return step(
      () => {
        if (patience.left > 0) waits();
        return this.#turns.take(patience);
      },
      // Nobody could pass the turn on while the thread is blocked.
      () => false,
    );
  }

  #refused(held: boolean): Refused {
    const reason = held
      ? "already locked through this same object, which is not reentrant"
      : "already locked, and waited for through this same object";
    return new Refused(() => ({ reason }));
  }
}
