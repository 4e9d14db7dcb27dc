/**
 * Warns, once for each thread, about a lock that its program has lost.
 *
 * If the program drops its last reference to an object that holds a lock, no
 * code of the program can release the lock anymore. But the program may rely on
 * the lock: to acquire it in `main()` and never look at it again is usual. So
 * the lock stays held until the process or the worker ends, and the collector
 * only causes a warning.
 *
 * @module
 */

import process from "node:process";
import { formatSubject } from "./errors.ts";

let warned = false;

const registry = new FinalizationRegistry<string>((name) => {
  if (warned) return;
  warned = true;
  process.emitWarning(
    `The lock on ${formatSubject({ path: name })} was garbage-collected ` +
      "while held; it stays held until this process or worker ends. Release " +
      "it, or keep a reference to its object, for example in globalThis, if " +
      "it must stay held",
    "PortalockWarning",
  );
});

/**
 * Warns after `holder` was garbage-collected, unless {@linkcode untrack} is
 * called before. `token` may not reference `holder`, unless it is `holder`.
 */
export function warnWhenCollected(
  holder: object,
  name: string,
  token: object = holder,
): void {
  registry.register(holder, name, token);
}

/** Stops watching a lock that the program released. */
export function untrack(token: object): void {
  registry.unregister(token);
}
