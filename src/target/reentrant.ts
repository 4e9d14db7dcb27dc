/** A claim that may be taken again while it is held. */

import type { LockerSettings } from "../../ffi/types.ts";
import { step } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";
import type { Patience } from "../wait/deadline.ts";
import { Turns } from "../wait/fifo_mutex.ts";
import { Refused } from "./lock_target.ts";
import type { Claim, Hold } from "./lock_target.ts";

/** What runs inside one outermost `run`; it ends with the last of them. */
export class Scope {
  entered = false;
  runs = 0;
}

/** What was taken, and by how many. */
interface Taken {
  readonly hold: Hold;
  count: number;
}

/** Counts; the first taker takes the claim, the last release gives it back. */
export class Reentrant implements Claim {
  readonly path: string;
  readonly exclusive: boolean;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly #claim: Claim;
  readonly #entering: () => Scope | undefined;
  /** Among those who take the claim. */
  readonly #turns = new Turns();
  /** Among the scopes. */
  readonly #scopes = new Turns();
  /** What others may take as well, unless it is being changed. */
  #taken: Taken | undefined;

  /** `entering` gives the scope that a taker has yet to enter. */
  constructor(claim: Claim, entering: () => Scope | undefined) {
    this.path = claim.path;
    this.exclusive = claim.exclusive;
    this.files = claim.files;
    this.locker = claim.locker;
    this.#claim = claim;
    this.#entering = entering;
  }

  /** Whether taking it would do no more than count. */
  get counts(): boolean {
    return this.#taken !== undefined && this.#entering() === undefined;
  }

  *take(patience: Patience, waits: () => void): Recipe<Hold | Refused> {
    const scope = this.#entering();
    if (scope && !(yield* queue(this.#scopes, patience, waits))) {
      return refused("already locked by another task through this same object");
    }
    if (scope) Object.assign(scope, { entered: true, runs: 1 });
    while (this.#taken === undefined) {
      if (!(yield* queue(this.#turns, patience, waits))) {
        return refused(
          "already locked, and waited for through this same object",
        );
      }
      try {
        if (this.#taken) break;
        const hold = yield* this.#claim.take(patience, waits);
        if (hold instanceof Refused) return hold;
        this.#taken = { hold, count: 0 };
      } finally {
        this.#turns.pass();
      }
    }
    return this.#again(this.#taken);
  }

  /** Leaves the scope, which ends it if nobody else is in it. */
  leave(scope: Scope): void {
    // A scope that was never entered has none, and no turn to pass.
    if (--scope.runs === 0) this.#scopes.pass();
  }

  #again(taken: Taken): Hold {
    taken.count++;
    const { hold } = taken;
    const { path, file, mode, locker } = hold;
    return {
      path,
      file,
      mode,
      locker,
      get exclusive() {
        return hold.exclusive;
      },
      set exclusive(value) {
        hold.exclusive = value;
      },
      get fixed() {
        return taken.count > 1
          ? "it was acquired more than once, and each relies on its kind"
          : hold.fixed;
      },
      changing: () => this.#withdraw(taken),
      afterwards: undefined,
      release: () => this.#release(taken),
    };
  }

  /** Until it is over whoever comes waits, and takes what is there then. */
  #withdraw(taken: Taken): (lost: boolean) => void {
    this.#taken = undefined;
    // Who has the turn already will compete for the file.
    const mine = this.#turns.tryTake();
    return (lost) => {
      if (!lost && taken.count > 0) this.#taken ??= taken;
      if (mine) this.#turns.pass();
    };
  }

  *#release(taken: Taken): Recipe<void> {
    if (--taken.count > 0) return;
    if (this.#taken === taken) this.#taken = undefined;
    yield* taken.hold.release();
  }
}

function queue(
  turns: Turns,
  patience: Patience,
  waits: () => void,
): Recipe<boolean> {
  return step(() => {
    const mine = turns.tryTake();
    if (!mine && patience.left > 0) waits();
    return mine || turns.take(patience);
  }, () => turns.tryTake());
}

function refused(reason: string): Refused {
  return new Refused(() => ({ reason }));
}
