/** A claim that may be taken again while it is held. */

import type { LockerSettings } from "../../ffi/types.ts";
import { step } from "../recipe.ts";
import type { Recipe } from "../recipe.ts";
import type { Patience } from "../wait/patience.ts";
import { Turns } from "../wait/turns.ts";
import { Refused } from "./claim.ts";
import type { Claim, Hold } from "./claim.ts";

/** What runs inside one outermost `run`; it ends with the last of them. */
export class Scope {
  entered = false;
  runs = 0;
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
  #hold: Hold | undefined;
  #count = 0;

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
    return this.#hold !== undefined && this.#entering() === undefined;
  }

  *take(patience: Patience, waits: () => void): Recipe<Hold | Refused> {
    const scope = this.#entering();
    if (scope && !(yield* queue(this.#scopes, patience, waits))) {
      return refused("already locked by another task through this same object");
    }
    if (scope) Object.assign(scope, { entered: true, runs: 1 });
    while (this.#hold === undefined) {
      if (!(yield* queue(this.#turns, patience, waits))) {
        return refused(
          "already locked, and waited for through this same object",
        );
      }
      try {
        if (this.#hold) break;
        const hold = yield* this.#claim.take(patience, waits);
        if (hold instanceof Refused) return hold;
        this.#hold = hold;
      } finally {
        this.#turns.pass();
      }
    }
    return this.#again(this.#hold);
  }

  /** Leaves the scope, which ends it if nobody else is in it. */
  leave(scope: Scope): void {
    // A scope that was never entered has none, and no turn to pass.
    if (--scope.runs === 0) this.#scopes.pass();
  }

  #again(hold: Hold): Hold {
    this.#count++;
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
      afterwards: undefined,
      release: () => this.#release(hold),
    };
  }

  *#release(hold: Hold): Recipe<void> {
    if (--this.#count > 0) return;
    this.#hold = undefined;
    yield* hold.release();
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
