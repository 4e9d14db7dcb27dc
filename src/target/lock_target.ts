/** Claims: how each kind of lock takes what it locks, and gives it back. */

import type { LockerSettings } from "../../ffi/types.ts";
import type { Hold } from "../file/held_file.ts";
import type { Recipe } from "../core/gensync.ts";
import type { Patience } from "../wait/deadline.ts";

export type { Hold };

/** What one kind of lock locks. */
export interface Claim {
  /** What messages and events call it. */
  readonly path: string;
  /** Whether it excludes every other. */
  readonly exclusive: boolean;
  /** The files to ask the system about when somebody wants to know holders. */
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  /**
   * Takes it, waiting if need be; `waits` is called when the first attempt is
   * not enough. Whatever this throws, nothing is held or left open.
   */
  take(patience: Patience, waits: () => void): Recipe<Hold | Refused>;
}

/** The wait was in vain. Says why, if somebody wants to know. */
export class Refused {
  readonly explain: (patience: Patience) => Explanation;

  constructor(explain: (patience: Patience) => Explanation) {
    this.explain = explain;
  }
}

/** Why a wait was in vain. */
export interface Explanation {
  /** Goes on from "Cannot lock cache.json: ". */
  readonly reason: string;
  readonly holderPid?: number;
}
