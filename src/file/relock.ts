/** How the kind of a lock that is held is changed. */

import { platform } from "../../ffi/mod.ts";
import type { HeldLock } from "./held_file.ts";
import { publish } from "../core/diagnostics.ts";
import {
  AlreadyLocked,
  formatSubject,
  LockException,
  toLockError,
} from "../core/errors.ts";
import { parseFlags } from "../options/flags.ts";
import type { LockFlags } from "../options/flags.ts";
import { describeHolders, excludeSelf } from "../core/holders.ts";
import { checkModeAllowsLock } from "../options/locker.ts";
import { WAIT_FOREVER } from "../options/acquire_options.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import type { Gen } from "../core/gensync.ts";
import { findWaitQueue } from "../wait/wait_queue.ts";
import { Deadline, isLongWait } from "../wait/deadline.ts";
import { acquireWithWait } from "../wait/wait_loop.ts";

/** What a {@linkcode Relock} is made of. */
export interface RelockInit {
  readonly held: HeldLock;
  /** Checks the options of one wait and fills in those of the lock. */
  deadline(options: AcquireOptions | undefined): Deadline;
}

/** Changes the kind of one lock that is held, one change at a time. */
export class Relock {
  readonly #held: HeldLock;
  readonly #init: RelockInit;
  #lost = false;
  #closed = false;
  /** That of the change that is under way. */
  #deadline: Deadline | undefined;

  constructor(init: RelockInit) {
    this.#held = init.held;
    this.#init = init;
  }

  /** Whether a change went wrong and left nothing: the file must be closed. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Ends a change that is under way, for the file is being closed. */
  close(): void {
    this.#closed = true;
    this.#deadline?.cancel(this.#failure("it is being closed", "EBADF"));
  }

  /** Changes the kind of the lock; whether nobody could come in between. */
  *relock(
    flags: LockFlags,
    options: AcquireOptions | undefined,
  ): Gen<boolean> {
    const { kind, blocking } = parseFlags(flags);
    if (kind === "unlock") {
      throw new RangeError(
        "flags must be LOCK_EX or LOCK_SH, not LOCK_UN; close the file instead",
      );
    }
    const { locker, mode, notRelockable } = this.#held;
    const deadline = this.#init.deadline(
      blocking ? options : { ...options, failWhenLocked: true },
    );
    const exclusive = kind === "exclusive";
    checkModeAllowsLock(locker, mode, exclusive);
    if (this.#deadline) {
      throw this.#failure("its lock is being changed already", "EBUSY");
    }
    if (exclusive === this.#held.exclusive) return true;
    if (notRelockable !== undefined) {
      throw this.#failure(notRelockable, "ENOTSUP");
    }
    deadline.signal?.throwIfAborted();
    this.#deadline = deadline;
    const changed = this.#held.onRelock?.();
    try {
      return yield* locker.name === "flock"
        ? this.#replaceFlock(exclusive, deadline)
        : this.#convertRecordLock(exclusive, deadline);
    } finally {
      this.#deadline = undefined;
      changed?.(this.#lost);
    }
  }

  /** fcntl(2) keeps the old lock until it has the new one. */
  *#convertRecordLock(exclusive: boolean, deadline: Deadline): Gen<boolean> {
    let changed: boolean;
    try {
      changed = yield* this.#wait(exclusive, deadline, true);
    } catch (error) {
      throw toLockError("relock", this.#held, error, deadline);
    }
    if (!changed) throw this.#alreadyLocked(deadline, "");
    this.#applyLockType(exclusive, deadline);
    return true;
  }

  /**
   * flock(2) takes the old lock away and gives the new one in one go (Linux
   * since 4.1, under one spinlock), or takes it away and gives nothing. macOS
   * leaves the old one then: two who both wait to have it alone would wait for
   * each other, so it goes in any case. Windows has to unlock to go from shared
   * to exclusive.
   */
  *#replaceFlock(exclusive: boolean, deadline: Deadline): Gen<boolean> {
    const { file } = this.#held;
    let failure: { error: unknown } | undefined;
    try {
      const changed = file.tryLock(exclusive);
      if (!changed) {
        file.unlock();
        findWaitQueue(file)?.wakeAll();
      }
      if (changed || (yield* this.#wait(exclusive, deadline, false))) {
        this.#applyLockType(exclusive, deadline);
        return changed && !(exclusive && file.gapInUpgrade);
      }
    } catch (error) {
      failure = { error };
    }
    yield* this.#restore();
    if (failure) {
      throw toLockError("relock", this.#held, failure.error, deadline);
    }
    throw this.#alreadyLocked(
      deadline,
      this.#lost
        ? "; the lock it had is lost and the file closed"
        : "; the lock it had is back, but was not held meanwhile",
    );
  }

  /** Takes the old kind of lock again, or says that it is lost. */
  *#restore(): Gen<void> {
    const { checkInterval } = this.#deadline!;
    const timeout = checkInterval;
    const last = { ...WAIT_FOREVER, timeout, checkInterval };
    let back = false;
    try {
      if (this.#closed) return;
      this.#deadline = new Deadline(last);
      back = yield* this.#wait(this.#held.exclusive, this.#deadline, true);
    } catch {
      // Whatever it was, the lock is not held.
    } finally {
      this.#lost = !back;
    }
  }

  #wait(
    exclusive: boolean,
    deadline: Deadline,
    ahead: boolean,
  ): Gen<boolean> {
    const { file, path } = this.#held;
    const onWait = () => {
      if (deadline.markContended()) {
        publish("wait", () => ({ path, exclusive }));
      }
    };
    return acquireWithWait(file, exclusive, deadline, onWait, ahead);
  }

  #applyLockType(exclusive: boolean, { elapsed: waited }: Deadline): void {
    const { file, path } = this.#held;
    this.#held.exclusive = exclusive;
    // Nobody closes anything, so the system tells no reader of it.
    if (!exclusive) {
      file.wakeWatchers();
      findWaitQueue(file)?.wakeAll();
    }
    publish("acquire", () => ({ path, exclusive, waited }));
  }

  #failure(reason: string, code: string): LockException {
    const { path } = this.#held;
    return new LockException(
      `Cannot relock ${formatSubject({ path })}: ${reason}`,
      {
        path,
        code,
      },
    );
  }

  #alreadyLocked({ elapsed: waited }: Deadline, remark: string): AlreadyLocked {
    const { path, file, locker } = this.#held;
    const all = platform().holders(file.fd ?? path, isLongWait(waited), locker);
    // This process is among them, for what it had before.
    const holders = excludeSelf(all);
    return new AlreadyLocked(
      `Cannot relock ${formatSubject({ path })}: already locked${
        describeHolders(holders)
      } ` +
        `(waited ${Math.round(waited)} ms)${remark}`,
      { path, waited, holderPid: holders[0]?.pid },
    );
  }
}
