/** The claim on any one of several files. */

import { native } from "../../ffi/mod.ts";
import type { LockerSettings, NativeFile } from "../../ffi/types.ts";
import { by } from "../core/holders.ts";
import { parseMode } from "../options/open_mode.ts";
import { step } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";
import { worthTelling } from "../wait/deadline.ts";
import type { Patience } from "../wait/deadline.ts";
import { Turns } from "../wait/fifo_mutex.ts";
import { waitFor } from "../wait/wait_loop.ts";
import { Refused } from "./lock_target.ts";
import type { Claim, Hold } from "./lock_target.ts";
import { FileClaim } from "./file_target.ts";
import type { FileSettings } from "./file_target.ts";
import { OpenSlots } from "./open_slots.ts";
import { MOST_REPLACED, replacedTooOften } from "./temporary_file_target.ts";

/**
 * A number of files, each of which one holder can lock. Who finds all of them
 * locked keeps them open and waits for whichever is released first.
 */
export class SlotsClaim implements Claim {
  readonly path: string;
  readonly exclusive = true;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly #claims: readonly FileClaim[];
  readonly #identity: string;
  /** Among the tasks that may wait: only one has all the files open. */
  readonly #turns = new Turns();
  /** How many of them are held through this claim. */
  #held = 0;
  readonly #released = () => void this.#held--;

  /** `path` names all of them together. */
  constructor(path: string, files: string[], settings: FileSettings) {
    const mode = { ...settings.mode, noFollow: true };
    this.path = path;
    this.files = files;
    this.locker = settings.locker;
    this.#claims = files.map((file) =>
      new SlotClaim(file, { ...settings, mode })
    );
    this.#identity = files.join("\0");
  }

  *take(patience: Patience, waits: () => void): Recipe<Hold | Refused> {
    const queues = yield* step(() => patience.left > 0, () => false);
    if (!queues) {
      // Nobody could release one of them while the thread is blocked.
      const none = this.#held === this.files.length;
      return none ? this.#refused() : yield* this.#takeAny(patience, waits);
    }
    const mine = this.#turns.tryTake() || (yield* this.#queue(patience, waits));
    if (!mine) return this.#refused();
    try {
      return yield* this.#takeAny(patience, waits);
    } finally {
      this.#turns.pass();
    }
  }

  #queue(patience: Patience, waits: () => void): Recipe<boolean> {
    const wait = () => (waits(), this.#turns.take(patience));
    return step(wait, () => false);
  }

  *#takeAny(patience: Patience, waits: () => void): Recipe<Hold | Refused> {
    const slots = new OpenSlots(this.#claims, this.#identity);
    try {
      for (let replaced = 0; replaced < MOST_REPLACED; replaced++) {
        const won = (yield* slots.openAndTry(patience)) ||
          (yield* waitFor(slots, false, patience, waits));
        if (!won) return this.#refused();
        const hold = yield* slots.takeWon();
        if (hold) return this.#count(hold);
      }
      throw replacedTooOften(this);
    } finally {
      yield* slots.close();
    }
  }

  #count(hold: Hold): Hold {
    this.#held++;
    hold.afterwards = this.#released;
    return hold;
  }

  #refused(): Refused {
    const { length } = this.files;
    const taken = length === 1
      ? "its slot is taken"
      : `all ${length} slots are taken`;
    const here = this.#held === length;
    return new Refused(({ waited }) => {
      const search = worthTelling(waited);
      const holders = this.files.flatMap((file) =>
        native().holders(file, search)
      );
      const whom = here ? " through this same object" : by(holders);
      return { reason: taken + whom, holderPid: holders[0]?.pid };
    });
  }
}

/** A slot, which may belong to another user who lets everybody read it. */
class SlotClaim extends FileClaim {
  override *open(signal: AbortSignal | undefined): Recipe<NativeFile> {
    try {
      return yield* super.open(signal);
    } catch (error) {
      // The latter on Windows.
      const { code } = error as { code?: string };
      if (code !== "EACCES" && code !== "EPERM") throw error;
      const mode = { ...parseMode("r"), noFollow: true };
      const readOnly = new FileClaim(this.path, { ...this.settings, mode });
      try {
        return yield* readOnly.open(signal);
      } catch {
        throw error;
      }
    }
  }
}
