/** The one waiting loop: attempts, each after a release or a pause. */

import { inMainThread } from "../../ffi/mod.ts";
import { op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import { enterWaitQueue, findWaitQueue } from "./wait_queue.ts";
import type { Waitable, WaitQueue } from "./wait_queue.ts";
import type { Deadline } from "./deadline.ts";
import { errorCode } from "../../ffi/types.ts";

/** The first pause of a wait, in milliseconds. */
const INITIAL_DELAY_MS = 1;
/** Each pause is so much longer than the one before. */
const BACKOFF_FACTOR = 1.6;

/**
 * Locks, waiting if need be: `true` once the lock is held, `false` when the
 * wait is over. Those who wait for the same file in this thread are served in
 * the order of their arrival; but while the thread is blocked nobody else can
 * be served, and no signal can end the wait. `onWait` is told when the first
 * attempt is not enough. `ahead` goes ahead of those in the queue, who wait for
 * something that this one has.
 *
 * @throws The reason of the signal, once it is aborted.
 */
export function* acquireWithWait(
  file: Waitable,
  exclusive: boolean,
  deadline: Deadline,
  onWait: () => void,
  skipQueue: boolean = false,
): Gen<boolean> {
  const mustQueue = !skipQueue && findWaitQueue(file) !== undefined &&
    deadline.remaining > 0 &&
    (yield* op({ async: () => true, sync: () => false }));
  if (!mustQueue && file.tryLock(exclusive)) return true;
  if (deadline.remaining <= 0) return false;
  onWait();
  const canBlock = !skipQueue && deadline.isInfinite;
  if (
    canBlock &&
    (yield* op({
      async: () => false,
      sync: () => blockInKernel(file, exclusive),
    }))
  ) {
    return true;
  }
  const queue = enterWaitQueue(file);
  try {
    return yield* waitInQueue(queue, file, exclusive, deadline, skipQueue);
  } finally {
    queue.exit();
  }
}

/**
 * Lets the system block the thread until the file is locked, which is the
 * fastest wait there is and the only one that nothing can end; `false` where
 * that will not do.
 */
function blockInKernel(file: Waitable, exclusive: boolean): boolean {
  if (!inMainThread || !file.lock) return false;
  try {
    file.lock(exclusive);
    return true;
  } catch (error) {
    // The system takes each process for one, and its threads may help another.
    if (errorCode(error) === "EDEADLK") return false;
    throw error;
  }
}

function* waitInQueue(
  queue: WaitQueue,
  file: Waitable,
  exclusive: boolean,
  deadline: Deadline,
  skipQueue: boolean,
): Gen<boolean> {
  const inTurn = yield* op<boolean | null>(
    {
      async: () => skipQueue ? null : queue.mutex.acquire(deadline),
      sync: () => null,
    },
  );
  if (inTurn === false) return false;
  const knownHeldAt = inTurn ? queue.heldAtWakeup : -1;
  let locked = false;
  try {
    locked = yield* retryUntilLocked(
      queue,
      file,
      exclusive,
      deadline,
      knownHeldAt,
    );
    return locked;
  } finally {
    if (inTurn) {
      // Whoever is next need not try before something has happened.
      queue.heldAtWakeup = locked && exclusive ? queue.wakeups : -1;
      queue.mutex.release();
    }
  }
}

/**
 * Attempts until one succeeds. The file is watched before the first attempt,
 * so no release is missed: one that the attempt came too early for rings. What
 * rings may come a moment before the lock is gone, so pauses are short at
 * first, and again after each ring.
 */
function* retryUntilLocked(
  queue: WaitQueue,
  file: Waitable,
  exclusive: boolean,
  deadline: Deadline,
  knownHeldAt: number,
): Gen<boolean> {
  for (let delays = backoff(deadline);;) {
    const { wakeups } = queue;
    deadline.signal?.throwIfAborted();
    if (wakeups !== knownHeldAt && file.tryLock(exclusive)) return true;
    knownHeldAt = -1;
    deadline.notifyIfDue();
    const { value: delay, done } = delays.next();
    if (done) return false;
    yield* op<unknown>(
      {
        async: () => queue.sleep(delay, deadline),
        sync: () => queue.sleepSync(delay),
      },
    );
    if (queue.wakeups !== wakeups) delays = backoff(deadline);
  }
}

/**
 * The pauses between attempts, the last one ending with the wait. They grow up
 * to `checkInterval` and are jittered, lest waiters that were shut out
 * together come back together; the longest least, for each wakes the process.
 */
export function* backoff(deadline: Deadline): Generator<number, void> {
  let longest = Math.min(INITIAL_DELAY_MS, deadline.checkInterval);
  for (let remaining; (remaining = deadline.remaining) > 0;) {
    const jitter = longest < deadline.checkInterval ? 0.5 : 0.1;
    yield Math.min(longest * (1 - jitter * Math.random()), remaining);
    longest = Math.min(longest * BACKOFF_FACTOR, deadline.checkInterval);
  }
}
