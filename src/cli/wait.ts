/**
 * Waits for a lock that another process has, with the waits of the library, and
 * says so.
 *
 * 1. On a terminal, a line says whom the command waits for. It is drawn again
 *    every second, and removed at the end.
 * 2. Elsewhere, one line is written after a second.
 * 3. With `--quiet`, nothing is written.
 *
 * After that, a wait without a limit blocks in the kernel, as that of flock(1)
 * does. So the command is not overtaken by processes that wait there.
 *
 * @module
 */

import { platform } from "../../ffi/mod.ts";
import { FLOCK } from "../../ffi/types.ts";
import { runAsync } from "../core/gensync.ts";
import { describeHolders, findHolders } from "../core/holders.ts";
import { WAIT_FOREVER } from "../options/acquire_options.ts";
import { Deadline, now } from "../wait/deadline.ts";
import { lockBeforeDeadline } from "../wait/wait_loop.ts";
import { blockUntilLocked } from "./lock_file.ts";
import type { OpenLock, System } from "./lock_file.ts";
import type { Invocation } from "./options.ts";

/** After which wait a line is written, and how often it is drawn, in ms. */
const REPORT_AFTER_MS = 1000;

/** Erases the line of a terminal: ECMA-48, CR and EL. */
const ERASE_LINE = "\r\x1b[K";

/** Waits. Returns whether the file is locked. */
export async function waitForLock(
  system: System,
  lock: OpenLock,
  invocation: Invocation,
): Promise<boolean> {
  const { host } = system;
  const { timeout, quiet } = invocation;
  const start = now();
  const report = () => {
    const waited = Math.round((now() - start) / 1000);
    return `portalock: waiting for ${lock.name}, locked${
      describeHolders(findHolders([lock.fd], true, FLOCK))
    } (${waited} s)`;
  };
  const attempt = (milliseconds: number) =>
    lockWithin(lock, invocation, milliseconds);

  if (!quiet && host.isTerminal(2)) {
    const draw = () => host.write(2, ERASE_LINE + report());
    const timer = setInterval(draw, REPORT_AFTER_MS);
    try {
      return await attempt(timeout);
    } finally {
      clearInterval(timer);
      host.write(2, ERASE_LINE);
    }
  }
  if (!quiet) {
    if (await attempt(Math.min(timeout, REPORT_AFTER_MS))) return true;
    if (timeout <= REPORT_AFTER_MS) return false;
    host.write(2, `${report()}\n`);
  }
  const remaining = timeout - (now() - start);
  if (remaining < Infinity) return await attempt(remaining);
  blockUntilLocked(system, lock, invocation);
  return true;
}

function lockWithin(
  { fd }: OpenLock,
  { kind }: Invocation,
  timeout: number,
): boolean | Promise<boolean> {
  const deadline = new Deadline({ ...WAIT_FOREVER, timeout });
  const exclusive = kind === "exclusive";
  const file = platform().fromFd(fd);
  return runAsync(lockBeforeDeadline(file, { exclusive, deadline }));
}
