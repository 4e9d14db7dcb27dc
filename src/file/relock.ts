/** How the kind of a lock that is held is changed. */

import { native } from "../../ffi/mod.ts";
import type { Hold } from "./held_file.ts";
import { publish } from "../core/diagnostics.ts";
import {
  AlreadyLocked,
  LockException,
  lockFailure,
  shown,
} from "../core/errors.ts";
import { parseFlags } from "../options/flags.ts";
import type { LockFlags } from "../options/flags.ts";
import { by, others } from "../core/holders.ts";
import { checkAccess } from "../options/locker.ts";
import { AS_LONG_AS_IT_TAKES } from "../options/acquire_options.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import type { Recipe } from "../core/gensync.ts";
import { contestFor } from "../wait/wait_queue.ts";
import { Patience, worthTelling } from "../wait/deadline.ts";
import { waitFor } from "../wait/wait_loop.ts";

/** What a {@linkcode Relock} is made of. */
export interface RelockInit {
  readonly hold: Hold;
  /** Checks the options of one wait and fills in those of the lock. */
  patience(options: AcquireOptions | undefined): Patience;
}

/** Changes the kind of one lock that is held, one change at a time. */
export class Relock {
  readonly #hold: Hold;
  readonly #init: RelockInit;
  #lost = false;
  #closed = false;
  /** That of the change that is under way. */
  #patience: Patience | undefined;

  constructor(init: RelockInit) {
    this.#hold = init.hold;
    this.#init = init;
  }

  /** Whether a change went wrong and left nothing: the file must be closed. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Ends a change that is under way, for the file is being closed. */
  close(): void {
    this.#closed = true;
    this.#patience?.stop(this.#failure("it is being closed", "EBADF"));
  }

  /** Changes the kind of the lock; whether nobody could come in between. */
  *relock(
    flags: LockFlags,
    options: AcquireOptions | undefined,
  ): Recipe<boolean> {
    const { kind, blocking } = parseFlags(flags);
    if (kind === "unlock") {
      throw new RangeError(
        "flags must be LOCK_EX or LOCK_SH, not LOCK_UN; close the file instead",
      );
    }
    const { locker, mode, fixed } = this.#hold;
    const patience = this.#init.patience(
      blocking ? options : { ...options, failWhenLocked: true },
    );
    const exclusive = kind === "exclusive";
    checkAccess(locker, mode, exclusive);
    if (this.#patience) {
      throw this.#failure("its lock is being changed already", "EBUSY");
    }
    if (exclusive === this.#hold.exclusive) return true;
    if (fixed !== undefined) throw this.#failure(fixed, "ENOTSUP");
    patience.signal?.throwIfAborted();
    this.#patience = patience;
    const changed = this.#hold.changing?.();
    try {
      return yield* locker.name === "flock"
        ? this.#exchange(exclusive, patience)
        : this.#convert(exclusive, patience);
    } finally {
      this.#patience = undefined;
      changed?.(this.#lost);
    }
  }

  /** fcntl(2) keeps the old lock until it has the new one. */
  *#convert(exclusive: boolean, patience: Patience): Recipe<boolean> {
    let changed: boolean;
    try {
      changed = yield* this.#wait(exclusive, patience, true);
    } catch (error) {
      throw lockFailure("relock", this.#hold, error, patience);
    }
    if (!changed) throw this.#alreadyLocked(patience, "");
    this.#is(exclusive, patience);
    return true;
  }

  /**
   * flock(2) takes the old lock away and gives the new one in one go (Linux
   * since 4.1, under one spinlock), or takes it away and gives nothing. macOS
   * leaves the old one then: two who both wait to have it alone would wait for
   * each other, so it goes in any case. Windows has to unlock to go from shared
   * to exclusive.
   */
  *#exchange(exclusive: boolean, patience: Patience): Recipe<boolean> {
    const { file } = this.#hold;
    let failure: { error: unknown } | undefined;
    try {
      const changed = file.tryLock(exclusive);
      if (!changed) {
        file.unlock();
        contestFor(file)?.ring();
      }
      if (changed || (yield* this.#wait(exclusive, patience, false))) {
        this.#is(exclusive, patience);
        return changed && !(exclusive && file.gapInUpgrade);
      }
    } catch (error) {
      failure = { error };
    }
    yield* this.#retake();
    if (failure) {
      throw lockFailure("relock", this.#hold, failure.error, patience);
    }
    throw this.#alreadyLocked(
      patience,
      this.#lost
        ? "; the lock it had is lost and the file closed"
        : "; the lock it had is back, but was not held meanwhile",
    );
  }

  /** Takes the old kind of lock again, or says that it is lost. */
  *#retake(): Recipe<void> {
    const { checkInterval } = this.#patience!;
    const timeout = checkInterval;
    const last = { ...AS_LONG_AS_IT_TAKES, timeout, checkInterval };
    let back = false;
    try {
      if (this.#closed) return;
      this.#patience = new Patience(last);
      back = yield* this.#wait(this.#hold.exclusive, this.#patience, true);
    } catch {
      // Whatever it was, the lock is not held.
    } finally {
      this.#lost = !back;
    }
  }

  #wait(
    exclusive: boolean,
    patience: Patience,
    ahead: boolean,
  ): Recipe<boolean> {
    const { file, path } = this.#hold;
    const onWait = () => {
      if (patience.needed()) publish("wait", () => ({ path, exclusive }));
    };
    return waitFor(file, exclusive, patience, onWait, ahead);
  }

  #is(exclusive: boolean, { waited }: Patience): void {
    const { file, path } = this.#hold;
    this.#hold.exclusive = exclusive;
    // Nobody closes anything, so the system tells no reader of it.
    if (!exclusive) {
      file.announce();
      contestFor(file)?.ring();
    }
    publish("acquire", () => ({ path, exclusive, waited }));
  }

  #failure(reason: string, code: string): LockException {
    const { path } = this.#hold;
    return new LockException(`Cannot relock ${shown({ path })}: ${reason}`, {
      path,
      code,
    });
  }

  #alreadyLocked({ waited }: Patience, remark: string): AlreadyLocked {
    const { path, file, locker } = this.#hold;
    const all = native().holders(file.fd ?? path, worthTelling(waited), locker);
    // This process is among them, for what it had before.
    const holders = others(all);
    return new AlreadyLocked(
      `Cannot relock ${shown({ path })}: already locked${by(holders)} ` +
        `(waited ${Math.round(waited)} ms)${remark}`,
      { path, waited, holderPid: holders[0]?.pid },
    );
  }
}
