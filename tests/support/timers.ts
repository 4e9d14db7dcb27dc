/** Observes and changes timers, and counts paired calls. */

import { platform, setPlatformForTesting } from "../../ffi/mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { patchedFiles } from "./platform.ts";
import { deferred } from "./values.ts";

/** The longest delay of `setTimeout()`, about 25 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** The effect of {@linkcode disablePolling}, until it is disposed. */
export interface DisabledPolling extends Disposable {
  /** Every delay that was requested, in milliseconds. */
  readonly lengths: readonly number[];
  /** How many delays were made infinite. */
  readonly sleeps: number;
  /** Resolves when `count` delays were made infinite. */
  untilAsleep(count?: number): Promise<void>;
}

/**
 * Makes every delay of more than `longest` milliseconds infinite. So a waiter
 * acquires only if it is woken. The short delays that follow a release stay as
 * they are. `onSleep` is called right before each infinite delay.
 */
export function disablePolling(
  longest: number,
  onSleep: () => void = () => {},
): DisabledPolling {
  const lengths: number[] = [];
  let sleeps = 0;
  let changed = deferred();
  const cut = (milliseconds: number, never: number) => {
    lengths.push(milliseconds);
    if (milliseconds <= longest) return milliseconds;
    sleeps++;
    onSleep();
    changed.resolve();
    changed = deferred();
    return never;
  };
  const real = platform();
  const { setTimeout } = globalThis;
  const change = (file: PlatformFile): Partial<PlatformFile> => ({
    watchClose(closed) {
      const watch = file.watchClose(closed);
      return watch && {
        ...watch,
        block: (milliseconds) => watch.block(cut(milliseconds, Infinity)),
      };
    },
  });
  setPlatformForTesting({ ...real, ...patchedFiles(real, change) });
  globalThis.setTimeout = Object.assign(
    (callback: () => void, milliseconds: number) =>
      setTimeout(callback, cut(milliseconds, MAX_TIMER_MS)),
    setTimeout,
  ) as typeof setTimeout;
  return {
    lengths,
    get sleeps() {
      return sleeps;
    },
    async untilAsleep(count = 1) {
      while (sleeps < count) await changed.promise;
    },
    [Symbol.dispose]() {
      globalThis.setTimeout = setTimeout;
      setPlatformForTesting(real);
    },
  };
}

/** Counts how many more calls one method has received than another. */
export function countBalance(target: object, up: string, down: string) {
  const methods = target as Record<string, (...args: unknown[]) => unknown>;
  const real = { [up]: methods[up], [down]: methods[down] };
  let left = 0;
  for (const [name, change] of [[up, 1], [down, -1]] as const) {
    const method = methods[name];
    methods[name] = (...args) => {
      left += change;
      return method?.apply(target, args);
    };
  }
  return { left: () => left, restore: () => Object.assign(target, real) };
}

/** Returns the set of timers that have neither fired nor been cleared. */
export function activeTimers(): Set<unknown> & Disposable {
  const active = new Set<unknown>();
  const { setTimeout, clearTimeout } = globalThis;
  globalThis.setTimeout = Object.assign(
    (callback: () => void, milliseconds: number) => {
      const timer = setTimeout(() => {
        active.delete(timer);
        callback();
      }, milliseconds);
      active.add(timer);
      return timer;
    },
    setTimeout,
  ) as typeof setTimeout;
  globalThis.clearTimeout = (timer) => {
    active.delete(timer);
    clearTimeout(timer);
  };
  return Object.assign(active, {
    [Symbol.dispose]() {
      Object.assign(globalThis, { setTimeout, clearTimeout });
    },
  });
}
