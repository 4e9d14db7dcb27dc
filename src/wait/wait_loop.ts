/**
 * The loop in which every acquisition of a file lock waits.
 *
 * On Linux, inotify(7) reports when a process closes the file, which is how a
 * lock of flock(2) usually ends. The waiter watches the file, and then tries
 * to lock it after each such event and after a delay. P holds the lock, Q
 * waits (Q.1 first attempt, Q.2 watch, Q.3 second attempt, Q.4 sleep). P can
 * close the file at each point:
 *
 * 1. `P.close Q.2 Q.3`: the lock is free. Q.3 gets it.
 * 2. `Q.2 P.close Q.3`: Q.3 gets the lock. The event is read later, which
 *    costs one attempt at most.
 * 3. `Q.2 Q.3 P.close Q.4`: the event is in the queue, so Q.4 does not sleep.
 * 4. `Q.2 Q.3 Q.4 P.close`: the event ends the sleep.
 * 5. `P.close` delivers its event before the kernel drops the lock: the
 *    attempt fails. The next delay is 1 ms at most.
 * 6. P unlocks without a close, or a child process has a copy of the
 *    descriptor: there is no event. Q tries again after `checkInterval`.
 *
 * Because of 5, delays start short, grow, and start short again after each
 * event. Where the system reports nothing (NFS, macOS, Windows, Deno without
 * FFI, no watch left), these delays are all there is.
 *
 * A release by this package unlocks before it closes, so 5 does not happen.
 * `unlock()` closes nothing, so it opens and closes the file once more to wake
 * the waiters.
 *
 * @module
 */

import { inMainThread } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import { isAsync, op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { isHeldByThread } from "../core/held_locks.ts";
import type { Deadline } from "./deadline.ts";
import { enterWaitQueue, findWaitQueue } from "./wait_queue.ts";
import type { Waitable, WaitQueue } from "./wait_queue.ts";

/** The first delay between two attempts, in milliseconds. */
const INITIAL_DELAY_MS = 1;
/** Each delay is longer than the one before by this factor. */
const BACKOFF_FACTOR = 1.6;

/** What to lock a file for. */
export interface LockRequest {
  readonly exclusive: boolean;
  readonly deadline: Deadline;
  /**
   * Whether to overtake the queue of this thread, because its waiters wait for
   * a lock that the caller holds.
   */
  readonly skipQueue?: boolean;
}

/**
 * Locks a file. Waits if another holder has the lock.
 *
 * Waiters for one file in one thread are served in FIFO order. A blocked
 * thread overtakes them, because none of them could run before it returns, and
 * no signal can end its wait. It does not wait for a lock that it holds itself,
 * and {@linkcode Deadline.deadlock} says so.
 *
 * @returns Whether the file is locked.
 * @throws The reason of the signal if it is aborted.
 */
export function* lockBeforeDeadline(
  file: Waitable,
  request: LockRequest,
): Gen<boolean> {
  const { exclusive, deadline, skipQueue = false } = request;
  const mustQueue = !skipQueue && findWaitQueue(file) !== undefined &&
    deadline.remaining > 0 && (yield* isAsync());
  if (!mustQueue && file.tryLock(exclusive)) return true;
  if (deadline.remaining <= 0) return false;
  const async = yield* isAsync();
  if (!async && isHeldByThread(file, exclusive)) {
    deadline.deadlock = "holds";
    return false;
  }
  deadline.markContended();
  if (!async && !skipQueue && blockInKernel(file, request)) return true;
  const queue = enterWaitQueue(file);
  try {
    return async && !skipQueue
      ? yield* waitInQueue(queue, file, request)
      : yield* retryUntilLocked(queue, file, request);
  } finally {
    queue.exit();
  }
}

/**
 * Lets flock(2) block the thread until the file is locked, if nothing may end
 * the wait: the fastest wait, because the kernel hands the lock over.
 *
 * @returns Whether the file is locked. `false` if the wait can end, or if the
 * thread is a worker, which could not be terminated meanwhile.
 */
function blockInKernel(
  file: Waitable,
  { exclusive, deadline }: LockRequest,
): boolean {
  if (!deadline.isInfinite || !inMainThread() || !file.lock) return false;
  try {
    file.lock(exclusive);
    return true;
  } catch (error) {
    // fcntl(2) takes all threads of a process for one and reports a deadlock
    // of the process. Another thread may still release the lock.
    if (errorCode(error) === "EDEADLK") return false;
    throw error;
  }
}

/** Waits for the turn of this task, and then for the lock. */
function* waitInQueue(
  queue: WaitQueue,
  file: Waitable,
  request: LockRequest,
): Gen<boolean> {
  const { exclusive, deadline } = request;
  const first = yield* queue.mutex.wait(deadline);
  if (!first) return false;
  let locked = false;
  try {
    locked = yield* retryUntilLocked(queue, file, request, queue.heldAtWakeup);
    return locked;
  } finally {
    // The next waiter need not try before something happens to this lock.
    queue.heldAtWakeup = locked && exclusive ? queue.wakeups : -1;
    queue.mutex.release();
  }
}

/**
 * Tries to lock the file until an attempt succeeds. The watch exists before
 * the first attempt, so that no release is missed. `knownHeldAt` is the number
 * of wake-ups at which the lock is known to be held.
 */
function* retryUntilLocked(
  queue: WaitQueue,
  file: Waitable,
  { exclusive, deadline }: LockRequest,
  knownHeldAt = -1,
): Gen<boolean> {
  for (let delays = backoff(deadline);;) {
    const { wakeups } = queue;
    deadline.throwIfAborted();
    if (wakeups !== knownHeldAt && file.tryLock(exclusive)) return true;
    knownHeldAt = -1;
    deadline.notifyIfDue();
    const { value: delay, done } = delays.next();
    if (done) return false;
    yield* op<unknown>({
      async: () => queue.sleep(delay, deadline),
      sync: () => queue.sleepSync(delay),
    });
    if (queue.wakeups !== wakeups) delays = backoff(deadline);
  }
}

/**
 * Yields the delays between attempts, in milliseconds. They grow up to
 * `checkInterval`; the last one ends at the deadline. Jitter keeps waiters
 * that failed together from trying again together. The longest delays have the
 * least jitter, because each attempt wakes the process.
 */
export function* backoff(deadline: Deadline): Generator<number, void> {
  let longest = Math.min(INITIAL_DELAY_MS, deadline.checkInterval);
  for (let remaining; (remaining = deadline.remaining) > 0;) {
    const jitter = longest < deadline.checkInterval ? 0.5 : 0.1;
    yield Math.min(longest * (1 - jitter * Math.random()), remaining);
    longest = Math.min(longest * BACKOFF_FACTOR, deadline.checkInterval);
  }
}
