/**
 * Writes an operation once for both of its forms, `acquire()` and
 * `acquireSync()`, as the npm package gensync does, so that the two forms
 * cannot drift apart. The operation is a generator. It yields the steps that
 * differ between the two forms, and is resumed with the result of each step. A
 * generator costs a few tenths of a microsecond.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { suppressedError } from "./errors.ts";

/** One step of an operation, in both forms. */
export interface Op<T> {
  /** Runs the step without blocking the thread. May return a promise. */
  readonly async: () => T | Promise<T>;
  /** Runs the step and blocks the thread until it is done. */
  readonly sync: () => T;
}

/** An operation: yields its steps in order and returns a result. */
export type Gen<Result> = Generator<Op<unknown>, Result, unknown>;

/** Makes an operation out of one step. */
export function* op<T>(step: Op<T>): Gen<T> {
  return (yield step) as T;
}

const IS_ASYNC: Op<boolean> = { async: () => true, sync: () => false };

/** Returns whether the operation runs in its asynchronous form. */
export function* isAsync(): Gen<boolean> {
  return (yield IS_ASYNC) as boolean;
}

/** Runs an operation and drops its error, for clean-up after another error. */
export function* ignoreErrors(gen: Gen<void>): Gen<void> {
  try {
    yield* gen;
  } catch {
    // The caller throws the first error, or does not need this step.
  }
}

/**
 * Releases something after an error, and throws that error. If the release
 * fails too, throws both.
 */
export function* throwAfter(error: unknown, release: Gen<void>): Gen<never> {
  try {
    yield* release;
  } catch (releaseError) {
    throw suppressedError(releaseError, error);
  }
  throw error;
}

/**
 * Runs an operation. Returns a promise if a step does, and the result itself
 * if no step has to wait.
 */
export function runAsync<Result>(
  gen: Gen<Result>,
): Result | Promise<Result> {
  let next = gen.next();
  while (!next.done) {
    let value: unknown;
    try {
      value = next.value.async();
    } catch (error) {
      next = gen.throw(error);
      continue;
    }
    if (value instanceof Promise) return finish(gen, value);
    next = gen.next(value);
  }
  return next.value;
}

/** Runs the rest of an operation, which waits for a step. */
async function finish<Result>(
  gen: Gen<Result>,
  pending: Promise<unknown>,
): Promise<Result> {
  let value: unknown = pending;
  for (;;) {
    let next;
    try {
      if (value instanceof Promise) value = await value;
      next = gen.next(value);
    } catch (error) {
      // A generator that has ended throws this error again.
      next = gen.throw(error);
    }
    if (next.done) return next.value;
    try {
      value = next.value.async();
    } catch (error) {
      value = Promise.reject(error);
    }
  }
}

/** Runs an operation and blocks the thread until it is done. */
export function runSync<Result>(gen: Gen<Result>): Result {
  let next = gen.next();
  while (!next.done) {
    let value: unknown;
    try {
      value = next.value.sync();
    } catch (error) {
      next = gen.throw(error);
      continue;
    }
    next = gen.next(value);
  }
  return next.value;
}

/** Pauses for a number of milliseconds. */
export function sleep(milliseconds: number): Gen<void> {
  return op({
    async: () =>
      new Promise<void>((resolve) => setTimeout(resolve, milliseconds)),
    sync: () => sleepSync(milliseconds),
  });
}

/** Blocks the thread for a number of milliseconds. */
export function sleepSync(milliseconds: number): void {
  const neverNotified = new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(neverNotified, 0, 0, milliseconds);
}

/** The longest time without a turn of the event loop, in milliseconds. */
const MAX_BLOCKED_MS = 8;

/** Since when the event loop has not turned; 0 after a turn. */
let blockedSince = 0;

/**
 * Returns a promise to await before {@linkcode runAsync}, if the event loop has
 * not turned for too long. An operation without a pending step ends without a
 * turn of the loop, so a task that locks in a loop would block every timer and
 * socket.
 *
 * @param time The present time, in milliseconds.
 */
export function yieldToEventLoop(time: number): Promise<void> | undefined {
  if (blockedSince === 0) {
    blockedSince = time;
    setImmediate(() => blockedSince = 0);
  } else if (time - blockedSince > MAX_BLOCKED_MS) {
    return new Promise((resolve) => setImmediate(resolve));
  }
}
