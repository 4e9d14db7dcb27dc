/** Observes and changes timers, and counts paired calls. */

import { platform, setPlatformForTesting } from "../../ffi/mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { patchedFiles } from "./platform.ts";

/** The longest delay of `setTimeout()`, about 25 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Makes every delay of more than `longest` milliseconds infinite until the
 * result is disposed. So a waiter acquires only if it is woken. The short
 * delays that follow a release stay as they are.
 */
export function disablePolling(
  longest: number,
): { lengths: number[] } & Disposable {
  const lengths: number[] = [];
  const cut = (milliseconds: number, never: number) => {
    lengths.push(milliseconds);
    return milliseconds > longest ? never : milliseconds;
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
