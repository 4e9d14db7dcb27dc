/** Signals that find out whether they are aborted when they are asked. */

/**
 * Makes `aborted` and `throwIfAborted` of a signal call a function first, which
 * may abort the signal. Whatever listens to the signal, such as
 * `AbortSignal.any` or `fetch`, does not call it.
 */
export function lookFirst(signal: AbortSignal, look: () => void): void {
  let looking = false;
  const isAborted = () => {
    // Deno reads `aborted` to abort, and does nothing if it is already true.
    if (!looking) {
      looking = true;
      try {
        look();
      } finally {
        looking = false;
      }
    }
    return Reflect.get(AbortSignal.prototype, "aborted", signal) as boolean;
  };
  Object.defineProperties(signal, {
    aborted: { get: isAborted, configurable: true, enumerable: true },
    throwIfAborted: {
      value: () => {
        if (isAborted()) throw signal.reason;
      },
      configurable: true,
      writable: true,
    },
  });
}
