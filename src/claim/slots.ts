/** The claim on any one of several files. */

import { native } from "../../ffi/mod.ts";
import type { LockerSettings, NativeFile, Watch } from "../../ffi/types.ts";
import { lockFailure } from "../errors.ts";
import { unlockAndClose } from "../file_recipes.ts";
import { by } from "../holders.ts";
import { parseMode } from "../open_mode.ts";
import { quietly, step } from "../recipe.ts";
import type { Recipe } from "../recipe.ts";
import { contestFor } from "../wait/contest.ts";
import type { Contested } from "../wait/contest.ts";
import { worthTelling } from "../wait/patience.ts";
import type { Patience } from "../wait/patience.ts";
import { Turns } from "../wait/turns.ts";
import { waitFor } from "../wait/wait.ts";
import { Refused } from "./claim.ts";
import type { Claim, Hold } from "./claim.ts";
import { FileClaim, FileHold, release } from "./file.ts";
import type { FileSettings } from "./file.ts";

/**
 * A number of files, each of which one holder can lock. Who finds all of them
 * locked keeps them open and waits for whichever is released first.
 */
export class SlotsClaim implements Claim {
  readonly path: string;
  readonly exclusive = true;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly #claims: FileClaim[];
  /** Among the tasks that may wait: only one has all the files open. */
  readonly #turns = new Turns();

  /** `path` names all of them together. */
  constructor(path: string, files: string[], settings: FileSettings) {
    const mode = { ...settings.mode, noFollow: true };
    this.path = path;
    this.files = files;
    this.locker = settings.locker;
    this.#claims = files.map((file) =>
      new SlotClaim(file, { ...settings, mode })
    );
  }

  *take(patience: Patience, waits: () => void): Recipe<Hold | Refused> {
    const queues = patience.left > 0 && (yield* step(() => true, () => false));
    if (!queues) return yield* this.#takeAny(patience, waits);
    const mine = this.#turns.tryTake() ||
      (yield* step(() => (waits(), this.#turns.take(patience)), () => false));
    if (!mine) return this.#refused();
    try {
      return yield* this.#takeAny(patience, waits);
    } finally {
      this.#turns.pass();
    }
  }

  *#takeAny(patience: Patience, waits: () => void): Recipe<Hold | Refused> {
    const slots = new Slots(this.#claims);
    try {
      const won = (yield* slots.openAndTry(patience.signal)) ||
        (patience.left > 0 && (yield* waitFor(slots, false, patience, waits)));
      return won ? slots.take() : this.#refused();
    } catch (error) {
      throw lockFailure("lock", this, error, patience);
    } finally {
      yield* slots.close();
    }
  }

  #refused(): Refused {
    return new Refused(({ waited }) => {
      const search = worthTelling(waited);
      const holders = this.files.flatMap((file) =>
        native().holders(file, search)
      );
      const reason = `all ${this.files.length} slots are taken${by(holders)}`;
      return { reason, holderPid: holders[0]?.pid };
    });
  }
}

/** A slot, which may belong to another user who lets everybody read it. */
class SlotClaim extends FileClaim {
  override *open(signal: AbortSignal | undefined): Recipe<NativeFile> {
    try {
      return yield* super.open(signal);
    } catch (error) {
      if ((error as { code?: string }).code !== "EACCES") throw error;
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

/** Open slots, which are locked and waited for as if they were one file. */
class Slots implements Contested {
  readonly #claims: FileClaim[];
  /** By claim, in the order in which they are tried. */
  readonly #open = new Map<FileClaim, NativeFile>();
  #won: FileClaim | undefined;

  constructor(claims: FileClaim[]) {
    this.#claims = claims;
  }

  /** Opens one after the other until one can be locked. */
  *openAndTry(signal: AbortSignal | undefined): Recipe<boolean> {
    const { length } = this.#claims;
    // Not always from the first, which is the most likely to be taken.
    const first = Math.floor(Math.random() * length);
    for (let i = 0; i < length; i++) {
      const claim = this.#claims[(first + i) % length];
      const file = yield* claim.open(signal);
      this.#open.set(claim, file);
      if (this.#try(claim, file)) return true;
    }
    return false;
  }

  tryLock(): boolean {
    for (const [claim, file] of this.#open) {
      if (this.#try(claim, file)) return true;
    }
    return false;
  }

  #try(claim: FileClaim, file: NativeFile): boolean {
    if (!file.tryLock(true)) return false;
    this.#won = claim;
    return true;
  }

  /** The slot that was won, no longer one of these. */
  take(): Hold {
    const claim = this.#won!;
    const file = this.#open.get(claim)!;
    this.#open.delete(claim);
    return new SlotHold(claim, file, this.identity());
  }

  *close(): Recipe<void> {
    for (const file of this.#open.values()) {
      yield* quietly(unlockAndClose(file));
    }
  }

  identity(): string {
    return this.#claims.map(({ path }) => path).join("\0");
  }

  watch(closed: () => void): Watch | null {
    const watches = [...this.#open.values()].flatMap((file) =>
      file.watch(closed) ?? []
    );
    if (watches.length === 0) return null;
    return {
      listen: () => watches.forEach((watch) => watch.listen()),
      // Whatever happens to any file that is watched ends it.
      block: (milliseconds) => watches[0].block(milliseconds),
      end: () => watches.forEach((watch) => watch.end()),
    };
  }
}

class SlotHold extends FileHold {
  override readonly fixed = "a slot of a semaphore cannot be shared";
  readonly #identity: string;

  constructor(claim: FileClaim, file: NativeFile, identity: string) {
    super(claim, file);
    this.#identity = identity;
  }

  override *giveBack(): Recipe<void> {
    try {
      yield* release(this.file);
    } finally {
      contestFor({ identity: () => this.#identity })?.ring();
    }
  }
}
