/**
 * Reports a wait on standard error.
 *
 * 1. On a terminal, a line names the process for which the command waits. It is drawn again
 *    every second, and removed at the end.
 * 2. Elsewhere, one line is written after a second, when the reason is known.
 * 3. With `--quiet`, nothing is written.
 *
 * @module
 */

import type { Host } from "../../../ffi/runtime/host.ts";

/** After which wait a line is written, and how often it is drawn, in ms. */
export const REPORT_AFTER_MS = 1000;

/** Erases the line of a terminal: ECMA-48, CR and EL. */
const ERASE_LINE = "\r\x1b[K";

/** A running report. */
export interface WaitReport {
  /** Whether the line is drawn again and again. */
  readonly isRedrawn: boolean;
  /** Ends the report. */
  stop(): void;
}

/**
 * Starts the report.
 *
 * @param name What is locked.
 * @param state Returns why the command waits, such as `"locked by process 4711
 * (node)"`, or `""` if that is not known.
 */
export function reportWait(
  host: Host,
  { name, quiet }: { readonly name: string; readonly quiet: boolean },
  state: () => string,
): WaitReport {
  if (quiet) return { isRedrawn: false, stop() {} };
  const start = performance.now();
  const line = () => {
    const seconds = Math.round((performance.now() - start) / 1000);
    const why = state();
    const reason = why === "" ? "" : `, ${why}`;
    return `portalock: waiting for ${name}${reason} (${seconds} s)`;
  };
  if (!host.isTerminal(2)) {
    const timer = setInterval(() => {
      // A server may take longer to say what holds the lock.
      if (state() === "") return;
      clearInterval(timer);
      host.write(2, `${line()}\n`);
    }, REPORT_AFTER_MS);
    return { isRedrawn: false, stop: () => clearInterval(timer) };
  }
  let isDrawn = false;
  const timer = setInterval(() => {
    host.write(2, ERASE_LINE + line());
    isDrawn = true;
  }, REPORT_AFTER_MS);
  return {
    isRedrawn: true,
    stop() {
      clearInterval(timer);
      if (isDrawn) host.write(2, ERASE_LINE);
    },
  };
}
