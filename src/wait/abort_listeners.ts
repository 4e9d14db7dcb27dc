/**
 * One listener for each signal, however many waits it can end. Node warns of a
 * leak if an `AbortSignal` has more than ten listeners, and a server may pass
 * one signal to a thousand waiting tasks.
 */

const callbacks = new WeakMap<AbortSignal, Set<() => void>>();

/** The listener of all signals. */
function onAbort(this: AbortSignal): void {
  const waiting = callbacks.get(this);
  callbacks.delete(this);
  this.removeEventListener("abort", onAbort);
  // Does not call a function that another one cancels.
  for (const callback of waiting ?? []) {
    waiting?.delete(callback);
    callback();
  }
}

/**
 * Calls a function, which must not throw, when the signal is aborted.
 *
 * @returns A function that cancels this. The last one removes the listener.
 */
export function addAbortCallback(
  signal: AbortSignal,
  callback: () => void,
): () => void {
  let waiting = callbacks.get(signal);
  if (!waiting) {
    callbacks.set(signal, waiting = new Set());
    signal.addEventListener("abort", onAbort);
  }
  waiting.add(callback);
  return () => {
    waiting.delete(callback);
    if (waiting.size > 0 || callbacks.get(signal) !== waiting) return;
    callbacks.delete(signal);
    signal.removeEventListener("abort", onAbort);
  };
}
