/** The reasons with which programs abort: any value, not only errors. */

import assert from "node:assert/strict";

/** Values that programs throw, or abort with. */
export const REASONS: readonly unknown[] = [
  null,
  undefined,
  0,
  NaN,
  new Error("enough"),
  // Looks like an error of opening a file.
  Object.assign(new Error("mine"), { code: "EACCES" }),
];

/** A wait that a test aborts. */
export class Aborting {
  readonly signal: AbortSignal;
  readonly abort: () => void;

  constructor(signal: AbortSignal, abort: () => void) {
    this.signal = signal;
    this.abort = abort;
  }

  /** Asserts that a promise rejects with exactly the reason of the signal. */
  rejects(waiting: Promise<unknown>): Promise<void> {
    return assertRejectsWith(waiting, () => this.signal.reason);
  }

  /** Asserts that a function throws exactly the reason of the signal. */
  throws(call: () => unknown): Promise<void> {
    return this.rejects((async () => await call())());
  }
}

/**
 * Yields one wait for each reason. A signal that is aborted with `undefined`
 * has an `AbortError` as its reason. The last signal does not have a reason, as
 * that of an old polyfill.
 */
export function* abortReasons(): Generator<Aborting> {
  for (const reason of REASONS) {
    const controller = new AbortController();
    yield new Aborting(controller.signal, () => controller.abort(reason));
  }
  const bare = Object.assign(new EventTarget(), {
    aborted: false,
    reason: undefined,
  });
  yield new Aborting(bare as unknown as AbortSignal, () => {
    bare.aborted = true;
    bare.dispatchEvent(new Event("abort"));
  });
}

/** Asserts that a promise rejects with exactly the value of a function. */
export async function assertRejectsWith(
  promise: Promise<unknown>,
  reason: () => unknown,
): Promise<void> {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error) => ({ error }),
  );
  assert.deepEqual(outcome, { error: reason() });
}
