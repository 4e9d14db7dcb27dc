/** How long one acquisition may wait, and what ends the wait early. */

import type { Deadlock } from "../core/errors.ts";
import { abortReason, callerError } from "../core/stack.ts";
import { addAbortCallback } from "./abort_listeners.ts";
import type { WaitSettings } from "../options/acquire_options.ts";

/** The longest delay that `setTimeout` accepts, in milliseconds. */
export const MAX_TIMER_MS: number = 2 ** 31 - 1;

/**
 * A wait of this length is reported, in milliseconds. A user takes a shorter
 * one for instantaneous.
 */
const NOTIFY_AFTER_MS = 100;

/** Returns the time of a clock that is never set back, in milliseconds. */
export function now(): number {
  return performance.now();
}

/** Returns whether a wait is long enough to be reported. */
export function isLongWait(elapsed: number): boolean {
  return elapsed >= NOTIFY_AFTER_MS;
}

/** Sets a timer and returns a function that clears it. */
type SetTimer = (milliseconds: number, onTimer: () => void) => () => void;

const setOwnTimer: SetTimer = (milliseconds, onTimer) => {
  // Timers drop fractions of a millisecond, and a timer that fires too early
  // would need a second one.
  const timer = setTimeout(onTimer, Math.ceil(milliseconds));
  return () => clearTimeout(timer);
};

/** What a {@linkcode Deadline} calls while its acquisition waits. */
export interface DeadlineCallbacks {
  /** Called once, when the first attempt did not get the lock. */
  readonly onContended?: (() => void) | undefined;
  /** Called once, when the wait is long. An error that it throws ends it. */
  readonly onWait?: ((elapsed: number) => void) | undefined;
}

/** The deadline of one acquisition, from its start. */
export class Deadline {
  readonly start: number;
  readonly checkInterval: number;
  readonly signal: AbortSignal | undefined;
  /** How often an attempt failed and the acquisition had to wait. */
  contentions = 0;
  /** How long opening files may take from the start, in milliseconds. */
  readonly openTimeout: number;
  /** Set if the acquisition ended because the thread would wait for itself. */
  deadlock: Deadlock | undefined;
  readonly #end: number;
  /** Until when files may be opened and checked. */
  #openEnd: number;
  readonly #onContended: (() => void) | undefined;
  #onWait: ((elapsed: number) => void) | undefined;
  #cancelled: { error: unknown } | undefined;
  #reject: ((error: unknown) => void) | undefined;

  /** `start` is earlier if the acquisition is a part of another one. */
  constructor(
    wait: Omit<WaitSettings, "onWait">,
    callbacks: DeadlineCallbacks = {},
    start: number = now(),
  ) {
    this.start = start;
    this.checkInterval = wait.checkInterval;
    this.signal = wait.signal;
    this.openTimeout = wait.openTimeout;
    this.#openEnd = this.start + wait.openTimeout;
    this.#end = wait.failWhenLocked ? 0 : this.start + wait.timeout;
    this.#onContended = callbacks.onContended;
    this.#onWait = callbacks.onWait;
  }

  /** Throws the reason of the signal if it is aborted. */
  throwIfAborted(): void {
    const { signal } = this;
    if (signal?.aborted) throw abortReason(signal);
  }

  /** The time since the start, in milliseconds. */
  get elapsed(): number {
    return now() - this.start;
  }

  /** Whether the wait is unlimited and nothing has to happen during it. */
  get isInfinite(): boolean {
    return this.#end === Infinity && this.#onWait === undefined;
  }

  /** The time that is left, in milliseconds: 0 or less after the deadline. */
  get remaining(): number {
    return this.#end - now();
  }

  /**
   * Waits for a step that cannot be cancelled, at most until there is no time
   * left to open files. Does not call `onWait`: finding the holders asks the
   * file system, which does not answer.
   *
   * @param abortable Whether the signal ends the wait.
   * @returns Whether the step has settled.
   * @throws What {@linkcode Deadline.sleepUntilWoken} throws.
   */
  async settlesInTime(
    step: Promise<unknown>,
    abortable: boolean = true,
  ): Promise<boolean> {
    const onWait = this.#onWait;
    this.#onWait = undefined;
    try {
      const left = this.#openEnd - now();
      return await this.sleepUntilWoken(left, (wake) => {
        step.then(wake, wake);
        return () => {};
      }, { abortable });
    } finally {
      this.#onWait = onWait;
    }
  }

  /**
   * Gives the checks of a file that was locked at the last moment as much time
   * as an attempt. Otherwise the lock would be given up, although it is free.
   */
  allowChecks(): void {
    if (this.contentions === 0) return;
    this.#openEnd = Math.max(this.#openEnd, now() + this.checkInterval);
  }

  /** Records that an attempt failed and the acquisition begins to wait. */
  markContended(): void {
    if (this.contentions++ === 0) this.#onContended?.();
  }

  /** Calls `onWait` once the wait is long. */
  notifyIfDue(): void {
    const onWait = this.#onWait;
    if (onWait === undefined) return;
    const { elapsed } = this;
    if (!isLongWait(elapsed)) return;
    this.#onWait = undefined;
    try {
      onWait(elapsed);
    } catch (error) {
      this.#cancelled = { error: callerError(error) };
    }
    // `onWait` may also have called `cancel`.
    if (this.#cancelled) throw this.#cancelled.error;
  }

  /** Ends the wait with an error. */
  cancel(error: unknown): void {
    this.#cancelled ??= { error };
    this.#reject?.(error);
  }

  /** Returns whether the caller ended the wait with this error. */
  wasCancelledWith(error: unknown): boolean {
    const { signal } = this;
    return signal?.aborted === true && Object.is(error, signal.reason) ||
      this.#cancelled !== undefined && Object.is(error, this.#cancelled.error);
  }

  /**
   * Sleeps until it is woken or the time is over.
   *
   * @param milliseconds The longest sleep.
   * @param subscribe Gets the function that wakes, and returns a function that
   * unsubscribes it.
   * @param how.setTimer Sets the timer, which may fire too early.
   * @param how.abortable Whether the signal ends the sleep. `true` by default.
   * @returns Whether it was woken.
   * @throws The reason of the signal if it is aborted, what `onWait` throws,
   * and the error of {@linkcode Deadline.cancel}. No timer, listener or
   * subscription is left in any case.
   */
  sleepUntilWoken(
    milliseconds: number,
    subscribe: (wake: () => void) => () => void,
    how: { setTimer?: SetTimer | undefined; abortable?: boolean } = {},
  ): Promise<boolean> {
    const { setTimer = setOwnTimer, abortable = true } = how;
    const signal = abortable ? this.signal : undefined;
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    if (this.#cancelled) return Promise.reject(this.#cancelled.error);
    const end = now() + milliseconds;
    return new Promise((resolve, reject) => {
      let clearTimer: (() => void) | undefined;
      let removeAbortCallback: (() => void) | undefined;
      let unsubscribe = () => {};
      let settled = false;
      const cleanUp = () => {
        settled = true;
        clearTimer?.();
        removeAbortCallback?.();
        this.#reject = undefined;
        unsubscribe();
      };
      const settle = (woken: boolean) => {
        if (settled) return;
        cleanUp();
        resolve(woken);
      };
      const fail = (reason: unknown) => {
        cleanUp();
        reject(reason);
      };
      const onTimer = () => {
        try {
          this.notifyIfDue();
        } catch (error) {
          return fail(error);
        }
        // `onWait` may have ended the wait.
        if (settled) return;
        const remaining = end - now();
        if (remaining <= 0) return settle(false);
        const next = Math.min(remaining, this.#untilNotify(), MAX_TIMER_MS);
        if (next < Infinity) clearTimer = setTimer(next, onTimer);
      };
      const stop = subscribe(() => settle(true));
      // What it waits for may have happened already.
      if (settled) return stop();
      unsubscribe = stop;
      this.#reject = fail;
      if (signal) {
        const abort = () => fail(abortReason(signal));
        removeAbortCallback = addAbortCallback(signal, abort);
      }
      onTimer();
    });
  }

  #untilNotify(): number {
    return this.#onWait === undefined
      ? Infinity
      : NOTIFY_AFTER_MS - this.elapsed;
  }
}
