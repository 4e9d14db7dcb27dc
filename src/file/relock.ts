/**
 * `Relock`: upgrades a shared lock or downgrades an exclusive one.
 *
 * Record locks: fcntl(2) keeps the old lock until it grants the new one. So an
 * upgrade skips the queue of this thread, whose waiters wait for the very lock
 * that the caller holds.
 *
 * flock(2): Linux replaces the lock under one spinlock (since 4.1), so a first
 * attempt that succeeds is atomic. If it fails, Linux has dropped the old lock
 * and macOS has kept it; two readers that both upgrade would then wait for each
 * other. So `relock` drops it in any case, waits as any other waiter, and
 * reports that the change was not atomic. If the wait times out, it acquires
 * the old lock type again, within `checkInterval`. If that fails too, the file
 * is closed, so that the program does not go on without a lock. Windows has to
 * unlock before an upgrade, so an upgrade is never atomic there.
 *
 * @module
 */

import { publish } from "../core/diagnostics.ts";
import {
  alreadyLocked,
  formatSubject,
  LockException,
  toLockError,
} from "../core/errors.ts";
import type { AlreadyLocked } from "../core/errors.ts";
import type { Gen } from "../core/gensync.ts";
import { addHold, findHold, removeHold } from "../core/held_locks.ts";
import { describeHolders, findHolders } from "../core/holders.ts";
import { WAIT_FOREVER } from "../options/acquire_options.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import { parseFlags } from "../options/flags.ts";
import type { LockFlags } from "../options/flags.ts";
import { checkModeAllowsLock } from "../options/locker.ts";
import { Deadline, isLongWait } from "../wait/deadline.ts";
import { lockBeforeDeadline } from "../wait/wait_loop.ts";
import { findWaitQueue } from "../wait/wait_queue.ts";
import type { HeldLock } from "./held_file.ts";

/** What a {@linkcode Relock} needs. */
export interface RelockInit {
  readonly held: HeldLock;
  /** Checks the options and starts the clock of one relock. */
  startDeadline(
    options: AcquireOptions | undefined,
    exclusive: boolean,
  ): Deadline;
}

/** Upgrades and downgrades one held lock, one change at a time. */
export class Relock {
  readonly #held: HeldLock;
  readonly #init: RelockInit;
  #lost = false;
  #closed = false;
  /** Whether a change is in progress, or waits for other operations. */
  #pending = false;
  /** The deadline of the change that is in progress. */
  #deadline: Deadline | undefined;

  constructor(init: RelockInit) {
    this.#held = init.held;
    this.#init = init;
  }

  /** Whether a change failed and no lock is left. The file must be closed. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Ends a change that is in progress, because the file is being closed. */
  close(): void {
    this.#closed = true;
    this.#deadline?.cancel(this.#closedFailure());
  }

  /**
   * Checks the arguments and starts the clock. The result changes the lock
   * type, and returns whether the change was atomic. It must be run.
   */
  begin(
    flags: LockFlags,
    options: AcquireOptions | undefined,
  ): Gen<boolean> {
    const { kind, blocking } = parseFlags(flags);
    if (kind === "unlock") {
      throw new RangeError(
        "flags must be LOCK_EX or LOCK_SH, not LOCK_UN; close the file instead",
      );
    }
    const { locker, mode } = this.#held;
    const exclusive = kind === "exclusive";
    const deadline = this.#init.startDeadline(
      blocking ? options : { ...options, failWhenLocked: true },
      exclusive,
    );
    checkModeAllowsLock(locker, mode, exclusive);
    if (this.#pending) {
      throw this.#failure("its lock is being changed already", "EBUSY");
    }
    this.#pending = true;
    return this.#relock(exclusive, deadline);
  }

  *#relock(exclusive: boolean, deadline: Deadline): Gen<boolean> {
    try {
      if (this.#closed) throw this.#closedFailure();
      const { notRelockable } = this.#held;
      if (exclusive === this.#held.exclusive) return true;
      if (notRelockable !== undefined) {
        throw this.#failure(notRelockable, "ENOTSUP");
      }
      deadline.throwIfAborted();
      return yield* this.#change(exclusive, deadline);
    } finally {
      this.#pending = false;
    }
  }

  *#change(exclusive: boolean, deadline: Deadline): Gen<boolean> {
    this.#deadline = deadline;
    const onChanged = this.#held.onRelock?.();
    // While it waits with flock(2), it does not have the lock.
    const isFlock = this.#held.locker.name === "flock";
    const hold = isFlock ? findHold(this.#held.file) : undefined;
    if (hold) removeHold(hold);
    try {
      return yield* isFlock
        ? this.#replaceFlock(exclusive, deadline)
        : this.#convertRecordLock(exclusive, deadline);
    } finally {
      this.#deadline = undefined;
      if (hold && !this.#lost) addHold(hold);
      onChanged?.(this.#lost);
    }
  }

  *#convertRecordLock(exclusive: boolean, deadline: Deadline): Gen<boolean> {
    const { file } = this.#held;
    const request = { exclusive, deadline, skipQueue: true };
    let changed: boolean;
    try {
      changed = yield* lockBeforeDeadline(file, request);
    } catch (error) {
      throw toLockError("relock", this.#held, error, deadline);
    }
    if (!changed) throw this.#alreadyLocked(deadline, "");
    this.#applyLockType(exclusive, deadline);
    return true;
  }

  *#replaceFlock(exclusive: boolean, deadline: Deadline): Gen<boolean> {
    const { file } = this.#held;
    let failure: { error: unknown } | undefined;
    try {
      const changed = file.tryLock(exclusive);
      if (!changed) {
        file.unlock();
        findWaitQueue(file)?.wakeAll();
      }
      if (
        changed || (yield* lockBeforeDeadline(file, { exclusive, deadline }))
      ) {
        this.#applyLockType(exclusive, deadline);
        return changed && (!exclusive || file.upgradeIsAtomic);
      }
    } catch (error) {
      failure = { error };
    }
    yield* this.#restore(deadline.checkInterval);
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

  /** Acquires the old lock type again, or records that the lock is lost. */
  *#restore(checkInterval: number): Gen<void> {
    const { file, path, exclusive } = this.#held;
    const timeout = checkInterval;
    let restored = false;
    try {
      if (this.#closed) return;
      const deadline = new Deadline(
        { ...WAIT_FOREVER, timeout, checkInterval },
        { onContended: () => publish("wait", () => ({ path, exclusive })) },
      );
      this.#deadline = deadline;
      const request = { exclusive, deadline, skipQueue: true };
      restored = yield* lockBeforeDeadline(file, request);
    } catch {
      // The lock is lost, whatever the reason.
    } finally {
      this.#lost = !restored;
    }
  }

  #applyLockType(exclusive: boolean, { elapsed }: Deadline): void {
    const { file, path } = this.#held;
    this.#held.exclusive = exclusive;
    // Nothing was closed, so the kernel does not notify waiting readers.
    if (!exclusive) {
      file.wakeWatchers();
      findWaitQueue(file)?.wakeAll();
    }
    publish("acquire", () => ({ path, exclusive, waited: elapsed }));
  }

  #closedFailure(): LockException {
    return this.#failure("it is being closed", "EBADF");
  }

  #failure(reason: string, code: string): LockException {
    const { path } = this.#held;
    return new LockException(
      `Cannot relock ${formatSubject({ path })}: ${reason}`,
      { path, code },
    );
  }

  #alreadyLocked(
    { elapsed, deadlock }: Deadline,
    remark: string,
  ): AlreadyLocked {
    const { path, file, locker } = this.#held;
    const search = isLongWait(elapsed);
    const holders = findHolders([file.fd ?? path], search, locker);
    return alreadyLocked(
      `Cannot relock ${formatSubject({ path })}: already locked` +
        `${describeHolders(holders)} ` +
        `(waited ${Math.round(elapsed)} ms)${remark}`,
      deadlock,
      { path, waited: elapsed, holder: holders[0] },
    );
  }
}
