/**
 * Makes the stack of an error begin with the line that called the library.
 *
 * Each public function ends with `return atEdge(…)` or `return atEdgeAsync(…)`,
 * which run its work. If the work throws, the frames of the library are removed
 * from the stack. An error that the runtime made keeps them in its `cause`.
 *
 * The frames of the caller are captured only for an error or before a wait,
 * because capturing them takes 1 to 4 µs, which is as long as locking a file.
 * They are captured before the first `await`. So they are there on every
 * runtime, also if the caller does not await the promise.
 *
 * On Bun, a function of the caller that ends with `return lock.acquire()` is not
 * in the stack, because JavaScriptCore makes proper tail calls.
 *
 * @module
 */

import { shared } from "../../ffi/mod.ts";
import { LockException } from "./errors.ts";

/** A public function or class. */
export type Edge =
  | ((...args: never[]) => unknown)
  | (abstract new (...args: never[]) => unknown);

/** The frames of a caller. V8 formats them when they are read. */
export interface Caller {
  readonly stack?: unknown;
}

/** The first line of a stack that is not part of the message. */
const FIRST_FRAME = /\n {4}at /;

/**
 * Whether a function that ends with `return atEdge(…)` is no longer on the
 * stack in `atEdge`, because JavaScriptCore makes proper tail calls.
 */
const HAS_TAIL_CALLS = "Bun" in globalThis;

/** Errors whose stacks stay as they are. */
const callerErrors = shared("callerErrors", () => new WeakSet<object>());

/**
 * Marks an error that belongs to the caller, such as the reason of a signal, so
 * that {@linkcode atEdge} does not change its stack.
 */
export function callerError(error: unknown): unknown {
  if (isObject(error)) callerErrors.add(error);
  return error;
}

/** Returns whether an error belongs to the caller. */
export function isCallerError(error: unknown): boolean {
  return isObject(error) && callerErrors.has(error);
}

/** The reason of a signal of the caller. */
export function abortReason(signal: AbortSignal): unknown {
  return callerError(signal.reason);
}

/** Runs a callback. The errors that it throws belong to the caller. */
export async function runCallback<T>(
  callback: () => T | Promise<T>,
): Promise<T> {
  try {
    return await callback();
  } catch (error) {
    throw callerError(error);
  }
}

/**
 * Runs the work of a public function or constructor. If the work throws, the
 * stack of the error begins with the caller of that function.
 *
 * A function has to end with `return atEdge(…)`.
 *
 * @param edge The public function or class.
 * @param body The work.
 */
export function atEdge<T>(edge: Edge, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw anchor(error, captureBelow(edge, atEdge));
  }
}

/**
 * {@linkcode atEdge} for a function that returns a promise. That function is
 * not `async`, because it would not be on the stack of JavaScriptCore.
 */
export function atEdgeAsync<T>(
  edge: Edge,
  body: () => T | Promise<T>,
): Promise<T> {
  let result: T | Promise<T>;
  try {
    result = body();
  } catch (error) {
    return Promise.reject(anchor(error, captureBelow(edge, atEdgeAsync)));
  }
  if (!(result instanceof Promise)) return Promise.resolve(result);
  const caller = captureForPromise(edge);
  return result.catch((error: unknown) => {
    throw anchor(error, caller);
  });
}

/** Captures the frames below a function that is on the stack. */
export function captureCaller(edge: Edge): Caller {
  const caller: Caller = {};
  Error.captureStackTrace(caller, edge);
  return caller;
}

/**
 * Captures the frames below a public function that returns a promise. To be
 * called by that function, or by `atEdgeAsync`.
 *
 * Nearly always, they are not needed. On Bun, making an error takes a fifth of
 * the time of `Error.captureStackTrace`, which formats all frames at once. But
 * it includes the frames of this function and of the one that called it.
 */
export function captureForPromise(edge: Edge): Caller {
  if (!HAS_TAIL_CALLS) return captureCaller(edge);
  const error = new Error();
  return {
    get stack() {
      return withoutFrames(error.stack, 2);
    },
  };
}

/** Removes the innermost frames of a stack whose message is one line. */
function withoutFrames(stack: unknown, count: number): string {
  const [head = "", ...frames] = String(stack).split("\n");
  return [head, ...frames.slice(count)].join("\n");
}

/** Captures the frames below a function that ended with `return inner(…)`. */
function captureBelow(edge: Edge, inner: Edge): Caller {
  return captureCaller(HAS_TAIL_CALLS && !isClass(edge) ? inner : edge);
}

function isClass(edge: Edge): boolean {
  return Object.getOwnPropertyDescriptor(edge, "prototype")?.writable === false;
}

/** Replaces the frames of an error, unless it belongs to the caller. */
export function anchor(error: unknown, caller: Caller): unknown {
  if (!isObject(error) || isCallerError(error)) return error;
  if (isSuppressedError(error)) anchor(error.error, caller);
  try {
    const frames = String(caller.stack);
    const first = frames.search(FIRST_FRAME);
    // The user may have set `Error.stackTraceLimit` to 0, or an
    // `Error.prepareStackTrace` that does not return text.
    if (first < 0) return error;
    const { stack } = error;
    keepInCause(error, stack);
    error.stack = headOf(error, stack) + frames.slice(first);
  } catch {
    // The error is frozen.
  }
  return error;
}

/**
 * Keeps the inner frames of an error that the runtime made. An error of this
 * package has the error of the system as its cause already.
 */
function keepInCause(error: Partial<Error>, stack: unknown): void {
  if (error instanceof LockException || error.cause !== undefined) return;
  if (typeof stack !== "string" || !FIRST_FRAME.test(stack)) return;
  const inner = new Error(error.message);
  inner.name = error.name ?? inner.name;
  inner.stack = stack;
  Object.defineProperty(error, "cause", {
    value: inner,
    configurable: true,
    writable: true,
  });
}

/** The stack up to its frames: the name of the error and the message. */
function headOf(error: Partial<Error>, stack: unknown): string {
  const { message = "" } = error;
  if (typeof stack !== "string" || !stack.includes(message)) {
    return Error.prototype.toString.call(error);
  }
  const end = stack.indexOf(message) + message.length;
  const frames = stack.slice(end).search(FIRST_FRAME);
  return frames < 0 ? stack : stack.slice(0, end + frames);
}

function isSuppressedError(
  error: Partial<Error>,
): error is Error & { error: unknown } {
  return error.name === "SuppressedError" && "error" in error;
}

function isObject(value: unknown): value is Partial<Error> {
  return typeof value === "object" && value !== null;
}
