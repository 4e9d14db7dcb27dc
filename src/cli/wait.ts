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
import type { Host } from "../../ffi/runtime/host.ts";
import { runAsync } from "../core/gensync.ts";
import { describeHolders, findHolders } from "../core/holders.ts";
import { WAIT_FOREVER } from "../options/acquire_options.ts";
import { Deadline, now } from "../wait/deadline.ts";
import { lockBeforeDeadline } from "../wait/wait_loop.ts";
import type { OpenLock } from "./lock_file.ts";
import type { Invocation } from "./options.ts";

/** After which wait a line is written, and how often it is drawn, in ms. */
const REPORT_AFTER_MS = 1000;

/** Erases the line of a terminal: ECMA-48, CR and EL. */
const ERASE_LINE = "\r\x1b[K";

/**
 * Acquires a lock, or drops it, with the library. Returns whether the file is
 * locked.
 */
export async function waitForLock(
  host: Host,
  { fd, name }: OpenLock,
  { locker, kind, timeout, quiet }: Invocation,
): Promise<boolean> {
  const file = platform().fromFd(fd, locker);
  if (kind === "unlock") {
    file.unlock();
    return true;
  }
  const exclusive = kind === "exclusive";
  const start = now();
  const attempt = (milliseconds: number) => {
    const deadline = new Deadline({ ...WAIT_FOREVER, timeout: milliseconds });
    return runAsync(lockBeforeDeadline(file, { exclusive, deadline }));
  };
  const report = () => {
    const holders = describeHolders(findHolders([fd], true, locker));
    const seconds = Math.round((now() - start) / 1000);
    return `portalock: waiting for ${name}, locked${holders} (${seconds} s)`;
  };

  if (!quiet && host.isTerminal(2)) {
    let drawn = false;
    const timer = setInterval(() => {
      host.write(2, ERASE_LINE + report());
      drawn = true;
    }, REPORT_AFTER_MS);
    try {
      return await attempt(timeout);
    } finally {
      clearInterval(timer);
      if (drawn) host.write(2, ERASE_LINE);
    }
  }
  if (!quiet) {
    if (await attempt(Math.min(timeout, REPORT_AFTER_MS))) return true;
    if (timeout <= REPORT_AFTER_MS) return false;
    host.write(2, `${report()}\n`);
  }
  if (timeout < Infinity) return await attempt(timeout - (now() - start));
  file.lock(exclusive);
  return true;
}
