/** How long somebody waits, from one clock, and what ends a wait early. */

import type { Wait } from "../options/acquire_options.ts";

/** The longest delay that `setTimeout` understands, in milliseconds. */
export const LONGEST_SLEEP = 2 ** 31 - 1;

/**
 * A wait that has lasted so long is worth telling somebody, in milliseconds:
 * what is shorter feels instantaneous.
 */
const WORTH_TELLING = 100;

/** A moment on the clock that never jumps, in milliseconds. */
export function now(): number {
  return performance.now();
}

/** Whether a wait has lasted long enough to make words about it. */
export function worthTelling(waited: number): boolean {
  return waited >= WORTH_TELLING;
}

/** Calls back after so many milliseconds, unless what it returns is called. */
type Sleep = (milliseconds: number, over: () => void) => () => void;

const byTimer: Sleep = (milliseconds, over) => {
  // Most timers drop fractions; who is early by one would need another timer.
  const timer = setTimeout(over, Math.ceil(milliseconds));
  return () => clearTimeout(timer);
};

/** The patience of one acquisition, from its start. */
export class Patience {
  readonly start: number = now();
  readonly checkInterval: number;
  readonly signal: AbortSignal | undefined;
  readonly #end: number;
  #tell: ((waited: number) => void) | undefined;
  #thrown: { error: unknown } | undefined;
  #fail: ((error: unknown) => void) | undefined;
  #needed = false;

  /** `tell` is called once, when the wait has lasted. */
  constructor(wait: Wait, tell?: (waited: number) => void) {
    this.checkInterval = wait.checkInterval;
    this.signal = wait.signal;
    this.#end = wait.failWhenLocked ? 0 : this.start + wait.timeout;
    this.#tell = tell;
  }

  /** For how long it has lasted, in milliseconds. */
  get waited(): number {
    return now() - this.start;
  }

  /** Whether neither time nor anything to be told comes in between. */
  get endless(): boolean {
    return this.#end === Infinity && this.#tell === undefined;
  }

  /** What is left of it, in milliseconds: 0 or less when it is over. */
  get left(): number {
    return this.#end - now();
  }

  /** Whether the lock could not be had at once; true the first time only. */
  needed(): boolean {
    const before = this.#needed;
    this.#needed = true;
    return !before;
  }

  /** Tells that the wait has lasted, if it has, and once. */
  tellIfDue(): void {
    const tell = this.#tell;
    if (tell === undefined) return;
    const { waited } = this;
    if (!worthTelling(waited)) return;
    this.#tell = undefined;
    try {
      tell(waited);
    } catch (error) {
      this.#thrown = { error };
    }
    // Who was told may also have ended the wait from outside.
    if (this.#thrown) throw this.#thrown.error;
  }

  /** Ends the wait with an error, from outside. */
  stop(error: unknown): void {
    this.#thrown ??= { error };
    this.#fail?.(error);
  }

  /** Whether an error is what the caller ended the wait with. */
  endedBy(error: unknown): boolean {
    const { signal } = this;
    return signal?.aborted === true && error === signal.reason ||
      this.#thrown?.error === error;
  }

  /**
   * Waits to be woken (`true`) until the time is over (`false`). `listen` is
   * given what wakes, and returns what forgets it again. So is `sleep`, which
   * may come too early.
   *
   * @throws The reason of the signal, once it is aborted, and what telling
   * throws. Then as in every other case nothing is left behind.
   */
  untilWoken(
    milliseconds: number,
    listen: (wake: () => void) => () => void,
    sleep: Sleep = byTimer,
  ): Promise<boolean> {
    const { signal } = this;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#thrown) return Promise.reject(this.#thrown.error);
    const end = now() + milliseconds;
    return new Promise((resolve, reject) => {
      let stay = () => {};
      let gone = false;
      const leave = () => {
        gone = true;
        stay();
        signal?.removeEventListener("abort", abort);
        this.#fail = undefined;
        forget();
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
      const watchTheClock = () => {
        try {
          this.tellIfDue();
        } catch (error) {
          return fail(error);
        }
        // Whoever was told may have ended the wait.
        if (gone) return;
        const left = end - now();
        if (left <= 0) return settle(false);
        const next = Math.min(left, this.#untilDue(), LONGEST_SLEEP);
        if (next < Infinity) stay = sleep(next, watchTheClock);
      };
      const forget = listen(() => settle(true));
      this.#fail = fail;
      signal?.addEventListener("abort", abort, { once: true });
      watchTheClock();
    });
  }

  #untilDue(): number {
    return this.#tell === undefined ? Infinity : WORTH_TELLING - this.waited;
  }
}
