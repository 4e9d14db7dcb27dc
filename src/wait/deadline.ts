/** How long somebody waits, from one clock, and what ends a wait early. */

import type { WaitSettings } from "../options/acquire_options.ts";

/** The longest delay that `setTimeout` understands, in milliseconds. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * A wait that has lasted so long is worth telling somebody, in milliseconds:
 * what is shorter feels instantaneous.
 */
const NOTIFY_AFTER_MS = 100;

/** A moment on the clock that never jumps, in milliseconds. */
export function now(): number {
  return performance.now();
}

/** Whether a wait has lasted long enough to make words about it. */
export function isLongWait(waited: number): boolean {
  return waited >= NOTIFY_AFTER_MS;
}

/** Calls back after so many milliseconds, unless what it returns is called. */
type SetTimer = (milliseconds: number, over: () => void) => () => void;

const byTimeout: SetTimer = (milliseconds, over) => {
  // Most timers drop fractions; who is early by one would need another timer.
  const timer = setTimeout(over, Math.ceil(milliseconds));
  return () => clearTimeout(timer);
};

/** The patience of one acquisition, from its start. */
export class Deadline {
  readonly start: number = now();
  readonly checkInterval: number;
  readonly signal: AbortSignal | undefined;
  readonly #end: number;
  #onWait: ((elapsed: number) => void) | undefined;
  #cancelled: { error: unknown } | undefined;
  #reject: ((error: unknown) => void) | undefined;
  #contended = false;

  /** `tell` is called once, when the wait has lasted. */
  constructor(wait: WaitSettings, onWait?: (elapsed: number) => void) {
    this.checkInterval = wait.checkInterval;
    this.signal = wait.signal;
    this.#end = wait.failWhenLocked ? 0 : this.start + wait.timeout;
    this.#onWait = onWait;
  }

  /** For how long it has lasted, in milliseconds. */
  get elapsed(): number {
    return now() - this.start;
  }

  /** Whether neither time nor anything to be told comes in between. */
  get isInfinite(): boolean {
    return this.#end === Infinity && this.#onWait === undefined;
  }

  /** What is left of it, in milliseconds: 0 or less when it is over. */
  get remaining(): number {
    return this.#end - now();
  }

  /** Whether the lock could not be had at once; true the first time only. */
  markContended(): boolean {
    const before = this.#contended;
    this.#contended = true;
    return !before;
  }

  /** Tells that the wait has lasted, if it has, and once. */
  notifyIfDue(): void {
    const onWait = this.#onWait;
    if (onWait === undefined) return;
    const { elapsed } = this;
    if (!isLongWait(elapsed)) return;
    this.#onWait = undefined;
    try {
      onWait(elapsed);
    } catch (error) {
      this.#cancelled = { error };
    }
    // Who was told may also have ended the wait from outside.
    if (this.#cancelled) throw this.#cancelled.error;
  }

  /** Ends the wait with an error, from outside. */
  cancel(error: unknown): void {
    this.#cancelled ??= { error };
    this.#reject?.(error);
  }

  /** Whether an error is what the caller ended the wait with. */
  wasCancelledWith(error: unknown): boolean {
    const { signal } = this;
    return signal?.aborted === true && error === signal.reason ||
      this.#cancelled?.error === error;
  }

  /**
   * Waits to be woken (`true`) until the time is over (`false`). `listen` is
   * given what wakes, and returns what forgets it again. So is `sleep`, which
   * may come too early.
   *
   * @throws The reason of the signal, once it is aborted, and what telling
   * throws. Then as in every other case nothing is left behind.
   */
  sleepUntilWoken(
    milliseconds: number,
    subscribe: (wake: () => void) => () => void,
    setTimer: SetTimer = byTimeout,
  ): Promise<boolean> {
    const { signal } = this;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#cancelled) return Promise.reject(this.#cancelled.error);
    const end = now() + milliseconds;
    return new Promise((resolve, reject) => {
      let clearTimer = () => {};
      let gone = false;
      const leave = () => {
        gone = true;
        clearTimer();
        signal?.removeEventListener("abort", abort);
        this.#reject = undefined;
        unsubscribe();
      };
      const settle = (woken: boolean) => {
        leave();
        resolve(woken);
      };
      const fail = (reason: unknown) => {
        leave();
        reject(reason);
      };
      const abort = () => fail(signal?.reason);
      const onTimer = () => {
        try {
          this.notifyIfDue();
        } catch (error) {
          return fail(error);
        }
        // Whoever was told may have ended the wait.
        if (gone) return;
        const remaining = end - now();
        if (remaining <= 0) return settle(false);
        const next = Math.min(remaining, this.#untilNotify(), MAX_TIMER_MS);
        if (next < Infinity) clearTimer = setTimer(next, onTimer);
      };
      const unsubscribe = subscribe(() => settle(true));
      this.#reject = fail;
      signal?.addEventListener("abort", abort, { once: true });
      onTimer();
    });
  }

  #untilNotify(): number {
    return this.#onWait === undefined
      ? Infinity
      : NOTIFY_AFTER_MS - this.elapsed;
  }
}
