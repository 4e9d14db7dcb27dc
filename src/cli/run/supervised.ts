/**
 * Runs a program while the event loop of this process runs: if something has to
 * be done when the lock ends (files to remove), or while it is held (a lock in
 * Redis), or if the C library cannot be called.
 *
 * P is this process, and C the command. S is a signal to P that ends a process
 * which does not handle it. L is the loss of the lock, and E the end of C. P
 * gets S and L in turns of its event loop, and learns of E by SIGCHLD:
 *
 * 1. `S`, then P acquires: S aborts the wait for the lock. P ends by S.
 * 2. P acquires, `S`, P looks: P releases, starts nothing, and ends by S.
 * 3. P acquires, `L`, P looks: P starts nothing, and ends with the status of a
 *    lost lock. P looks for S and L and starts C in one turn of its event loop.
 *    So if S or L come later, there is a C.
 * 4. `S E`: P passes S on and waits, because the files and the lock must exist as
 *    long as C runs. If C ignores S, P waits until C ends.
 * 5. `S E`, and C ended by S: P ends by S, too. A shell stops its script if a
 *    command ended by SIGINT, and goes on if it ended with status 130. P may
 *    learn of E before S, so it waits for S before it ends.
 * 6. `E S`, before P has seen E: C is a zombie, so its PID belongs to no other
 *    process, and S has no effect. The status of C counts.
 * 7. `E`, P releases, `S`: P passes nothing on. The status of C counts.
 * 8. `L E`: P ends C and its descendants, and ends with the status of a lost lock
 *    when none is left.
 * 9. `E L`, before P has seen E: as 8, because C may have worked after the loss.
 * 10. `E`, P sees it, `L`: the work is done. The status of C counts.
 * 11. `L S`: as 8. P passes S on to C.
 * 12. SIGKILL to P: C keeps a lock of a file, because it inherited the
 *    descriptor. The files stay, and belong to the next holder when C ends. The
 *    server releases a lock in Redis while C runs. P cannot prevent this.
 * 13. SIGSTOP to P, or Ctrl-Z: P cannot renew a lock in Redis, so it is lost. P
 *    notices this when it continues, and C may continue at the same time.
 *
 * @module
 */

import type { ProcessEnd } from "../../../ffi/posix/command.ts";
import type { Host } from "../../../ffi/runtime/host.ts";
import { Failure, LOCK_LOST } from "../exit_status.ts";
import type { HeldLock, RunInvocation } from "../types.ts";
import type { Invocation } from "../grammar/options.ts";
import { SIGNAL_STATUS } from "./blocking.ts";
import { endDescendants, spawnChild, spawnProgram } from "./child.ts";
import type { Child } from "./child.ts";
import { deliverSignals, Interrupted, Signals } from "./signals.ts";
import type { Calls } from "./signals.ts";

/**
 * Acquires a lock, runs the program, and releases the lock. Returns the exit
 * status, unless a signal ends this process.
 *
 * @param calls `null` if the C library cannot be called.
 * @param acquire Rejects with the reason of the signal if that aborts. Returns
 * `null` if other processes have the lock for too long.
 */
export async function runSupervised(
  host: Host,
  calls: Calls | null,
  invocation: RunInvocation,
  acquire: (interruption: AbortSignal) => Promise<HeldLock | null>,
): Promise<number> {
  const signals = new Signals(host, calls);
  let end: ProcessEnd;
  try {
    const held = await acquire(signals.interruption);
    if (held === null) return invocation.conflictStatus;
    try {
      signals.interruption.throwIfAborted();
      if (held.signal?.aborted) throw lockLost(held);
      const child = calls
        ? spawnProgram(host, calls, signals, held, invocation)
        : await spawnChild(host, held, invocation);
      held.onStarted?.(child.pid);
      end = await supervise(host, child, signals, held, invocation);
    } finally {
      await held.release();
    }
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    end = { signal: error.signal };
  }
  if ("status" in end) return end.status;
  // SIGCHLD may overtake the signal that ended the command.
  await deliverSignals();
  if (signals.received(end.signal)) signals.endBy(end.signal);
  return SIGNAL_STATUS + end.signal;
}

async function supervise(
  host: Host,
  child: Child,
  signals: Signals,
  { signal }: HeldLock,
  { killAfter }: Invocation,
): Promise<ProcessEnd> {
  signals.passOn((name) => void child.send(child.pid, name));
  const lost = new Promise<void>((resolve) => {
    signal?.addEventListener("abort", () => resolve());
  });
  const end = await Promise.race([child.ended, lost]);
  if (end && !signal?.aborted) {
    signals.passOn(undefined);
    return end;
  }
  const { message } = signal!.reason as Error;
  host.write(2, `portalock: ${message}; terminating the command\n`);
  await endDescendants(host, child, killAfter);
  return { status: LOCK_LOST };
}

function lockLost({ signal }: HeldLock): Failure {
  const { message } = signal!.reason as Error;
  return new Failure(LOCK_LOST, `${message}; nothing was started`);
}
