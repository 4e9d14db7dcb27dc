/** The end of this thread. */

import { constants } from "node:os";
import process from "node:process";
import { denoApi } from "./deno_api.ts";
import type { SystemError } from "../types.ts";

/**
 * How often Deno reads `defaultPrevented` after the last listener has run. The
 * last time, it decides whether the error ends the thread.
 */
const READS = { error: 1, unhandledrejection: 3 } as const;

/** The part of an event that is used here. */
interface Failure {
  readonly type: string;
  readonly eventPhase: number;
}

/** The global object of Deno. */
interface Target {
  addEventListener: SetListener;
  removeEventListener: SetListener;
}

type SetListener = (
  type: string,
  listener: (event: Failure) => void,
  capture: true,
) => void;

/** `Event.NONE`: the event is not being dispatched. */
const PHASE_NONE = 0;

/**
 * Calls a function when the thread ends, and perhaps a second time. Signals,
 * and the end of a worker by another thread, are not reported.
 *
 * All runtimes emit `"exit"`, but Deno does so neither for `Deno.exit()`, nor
 * for the end of `deno test`, nor for an uncaught error. The first two cause
 * `"unload"`.
 *
 * @returns A function that cancels this.
 */
export function onThreadExit(callback: () => void): () => void {
  process.on("exit", callback);
  const remove = denoApi() && onDenoExit(callback);
  return () => {
    process.off("exit", callback);
    remove?.();
  };
}

function onDenoExit(callback: () => void): () => void {
  const onError = (event: Failure) => afterListeners(event, callback);
  const listeners: [type: string, listener: (event: Failure) => void][] = [
    ["unload", callback],
  ];
  // An error does not end the interactive shell.
  if (!denoApi()?.mainModule?.endsWith("/$deno$repl.mts")) {
    for (const type of Object.keys(READS)) listeners.push([type, onError]);
  }
  const target = globalThis as unknown as Target;
  for (const entry of listeners) target.addEventListener(...entry, true);
  return () => {
    for (const entry of listeners) target.removeEventListener(...entry, true);
  };
}

/**
 * Calls a function if no listener has prevented that the error of an event ends
 * the thread.
 *
 * The listeners that run after this one, and the handlers of `process`, may
 * prevent it. A listener that is added while they run does not run anymore. So
 * the decision is made when Deno reads the property for the last time.
 */
function afterListeners(event: Failure, callback: () => void): void {
  const readsNeeded = READS[event.type as keyof typeof READS];
  let reads = 0;
  Object.defineProperty(event, "defaultPrevented", {
    configurable: true,
    get() {
      const prevented: boolean = Reflect.get(
        Object.getPrototypeOf(event),
        "defaultPrevented",
        event,
      );
      const isDispatched = event.eventPhase === PHASE_NONE;
      if (isDispatched && ++reads === readsNeeded && !prevented) {
        if (isReadByDeno()) callback();
      }
      return prevented;
    },
  });
}

/**
 * Returns whether Deno itself reads the property. Otherwise the program has
 * dispatched an event of its own, which does not end the thread.
 */
function isReadByDeno(): boolean {
  // This function, the accessor, and then dispatch(), dispatchEvent() and
  // reportException() of Deno.
  const callers = new Error().stack?.split("\n    at ").slice(3) ?? [];
  return callers.length > 0 &&
    callers.slice(0, 3).every((frame) => frame.includes("ext:"));
}

/** Returns the error if a file could not be closed when the thread ends. */
export function noThreadExit(syscall: string): SystemError {
  const { EMFILE } = constants.errno;
  return Object.assign(
    new Error(
      "Cannot lock the file: the worker has too many locks to release all of " +
        "them if it is terminated; hold fewer, or lock in the main thread",
    ),
    { code: "EMFILE", errno: EMFILE, syscall },
  );
}
