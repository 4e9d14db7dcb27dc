/** Reports that this thread ends, if its runtime still runs JavaScript then. */

import process from "node:process";
import { denoApi } from "./deno_api.ts";

/**
 * How often Deno reads `defaultPrevented` after the last listener has run. The
 * last time, it decides whether the error ends the thread.
 */
const READS = { error: 1, unhandledrejection: 3 } as const;

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
  const onError = (event: Event) => afterListeners(event, callback);
  const listeners: [type: string, listener: (event: Event) => void][] = [
    ["unload", callback],
  ];
  // An error does not end the interactive shell.
  if (!denoApi()?.mainModule?.endsWith("/$deno$repl.mts")) {
    for (const type of Object.keys(READS)) listeners.push([type, onError]);
  }
  for (const entry of listeners) globalThis.addEventListener(...entry, true);
  return () => {
    for (const entry of listeners) {
      globalThis.removeEventListener(...entry, true);
    }
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
function afterListeners(event: Event, callback: () => void): void {
  const readsNeeded = READS[event.type as keyof typeof READS];
  let reads = 0;
  Object.defineProperty(event, "defaultPrevented", {
    configurable: true,
    get() {
      const prevented: boolean = Reflect.get(
        Event.prototype,
        "defaultPrevented",
        event,
      );
      const isDispatched = event.eventPhase === Event.NONE;
      if (isDispatched && ++reads === readsNeeded && !prevented) callback();
      return prevented;
    },
  });
}
