/** The result of an acquisition that ended without the lock. */

import type { LockHolder } from "../../ffi/types.ts";
import type { RemoteHolder } from "../core/errors.ts";

/** Says that another holder has the lock. The public methods throw it. */
export class Busy {
  /** Finds out why. Called only if the caller gets an error, not `null`. */
  readonly describe: (elapsed: number) => BusyReason;

  /** `describe` gets the duration of the wait, in milliseconds. */
  constructor(describe: (elapsed: number) => BusyReason) {
    this.describe = describe;
  }
}

/** Why a lock could not be acquired. */
export interface BusyReason {
  /** Continues the message `Cannot lock cache.json: `. */
  readonly reason: string;
  /** What holds the lock, if the system or the server knows. */
  readonly holder?: LockHolder | RemoteHolder | undefined;
  /** An error that is another reason. */
  readonly cause?: unknown;
}
