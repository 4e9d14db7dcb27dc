/** Signals that end the process, while something must be cleaned up first. */

import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";

/** How long a signal may take to end this process, in milliseconds. */
const SIGNAL_MS = 1000;

/** The signals that end a process, and that a terminal or a shell sends. */
export const INTERRUPTS: readonly NodeJS.Signals[] = [
  "SIGINT",
  "SIGTERM",
  "SIGHUP",
  // Windows does not have it.
  ...process.platform === "win32" ? [] : ["SIGQUIT"] as const,
];

/**
 * Runs a body that must clean up before the process ends. If a signal arrives
 * that would end the process, aborts the body, waits for its end, and then ends
 * the process by the same signal. A second signal ends the process at once.
 *
 * If the program handles the signal itself, it decides what happens after that.
 *
 * @param signal Aborts the body, too.
 */
export async function withInterrupts<T>(
  signal: AbortSignal | undefined,
  body: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  let received: NodeJS.Signals | undefined;
  const remove = () => {
    for (const name of INTERRUPTS) process.off(name, interrupt);
  };
  const interrupt = (name: NodeJS.Signals) => {
    received = name;
    remove();
    controller.abort(new Error(`interrupted by ${name}`));
  };
  const abort = () => controller.abort(signal?.reason);
  for (const name of INTERRUPTS) process.on(name, interrupt);
  signal?.addEventListener("abort", abort);
  if (signal?.aborted) abort();
  try {
    return await body(controller.signal);
  } finally {
    remove();
    signal?.removeEventListener("abort", abort);
    if (received !== undefined && process.listenerCount(received) === 0) {
      process.kill(process.pid, received);
      // Another thread of Deno takes the signal, and this one would end first.
      await delay(SIGNAL_MS);
    }
  }
}
