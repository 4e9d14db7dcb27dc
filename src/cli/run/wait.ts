/**
 * Waits for a lock that another process has, with the waits of the library.
 *
 * After its report on a pipe, a wait without a limit blocks in the kernel, as that
 * of flock(1) does. So the command is not overtaken by processes that wait there.
 * On a terminal, the report is drawn again and again, which a thread that blocks
 * cannot do.
 *
 * @module
 */

import { constants } from "node:os";
import { platform } from "../../../ffi/mod.ts";
import { runAsync } from "../../core/gensync.ts";
import { describeHolders, findHolders } from "../../core/holders.ts";
import { WAIT_FOREVER } from "../../options/acquire_options.ts";
import { Deadline } from "../../wait/deadline.ts";
import { lockBeforeDeadline } from "../../wait/wait_loop.ts";
import type { OpenLock, System } from "../types.ts";
import type { Invocation } from "../grammar/options.ts";
import { REPORT_AFTER_MS, reportWait } from "./report_wait.ts";

/** Deno catches signals some time after its start, which ends in its debugger. */
const RESET_EVERY_MS = 100;

/** How long the wait that a line reports may last, in ms: a bit longer. */
const REPORTED_WAIT_MS = REPORT_AFTER_MS + 100;

/**
 * Acquires a lock, or drops it, with the library. Returns whether the file is
 * locked.
 */
export async function waitForLock(
  { host, calls }: System,
  { fd, name }: OpenLock,
  { locker, kind, timeout, quiet }: Invocation,
): Promise<boolean> {
  calls.resetSignals();
  const file = platform().fromFd(fd, locker);
  if (kind === "unlock") {
    file.unlock();
    return true;
  }
  const exclusive = kind === "exclusive";
  const attempt = (timeout: number) => {
    const deadline = new Deadline({ ...WAIT_FOREVER, timeout });
    return runAsync(lockBeforeDeadline(file, { exclusive, deadline }));
  };
  if (timeout === Infinity && quiet) {
    file.lock(exclusive);
    return true;
  }
  const state = () =>
    `locked${describeHolders(findHolders([fd], true, locker))}`;
  const report = reportWait(host, calls, { name, quiet, state }, true);
  const kept = report.isRedrawn ? [constants.signals.SIGINT] : [];
  const timer = setInterval(() => calls.resetSignals(kept), RESET_EVERY_MS);
  try {
    if (timeout < Infinity || report.isRedrawn) return await attempt(timeout);
    if (await attempt(REPORTED_WAIT_MS)) return true;
  } finally {
    clearInterval(timer);
    await report.stop();
  }
  calls.resetSignals();
  file.lock(exclusive);
  return true;
}
