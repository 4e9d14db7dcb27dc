/**
 * Writes an operation once for both of its forms, `acquire()` and
 * `acquireSync()`, as the npm package gensync does, so that the two forms
 * cannot drift apart. The operation is a generator. It yields the steps that
 * differ between the two forms, and is resumed with the result of each step. A
 * generator costs a few tenths of a microsecond.
 *
 * @module
 */

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
