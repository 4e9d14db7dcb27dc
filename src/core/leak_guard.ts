/**
 * Warns, once for each thread, about a lock that its program has lost. Does the
 * same for the file of an atomic write.
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

/** Returns the warning about what was lost, which has this path or name. */
type Warning = (subject: string) => string;

const lostLock: Warning = (subject) =>
  `The lock on ${subject} was garbage-collected while held; it stays held ` +
  "until this process or worker ends. Release it, or keep a reference to its " +
  "object, for example in globalThis, if it must stay held";

const warned = new Set<Warning>();

const registry = new FinalizationRegistry<{ name: string; warning: Warning }>(
  ({ name, warning }) => {
    if (warned.has(warning)) return;
    warned.add(warning);
    const message = warning(formatSubject({ path: name }));
    process.emitWarning(message, "PortalockWarning");
  },
);

/**
 * Warns after `holder` was garbage-collected, unless {@linkcode untrack} is
 * called before. `token` may not reference `holder`, unless it is `holder`.
 */
export function warnWhenCollected(
  holder: object,
  name: string,
  token: object = holder,
  warning: Warning = lostLock,
): void {
  registry.register(holder, { name, warning }, token);
}

/** Stops watching what the program released. */
export function untrack(token: object): void {
  registry.unregister(token);
}
