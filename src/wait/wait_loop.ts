/** The one waiting loop: attempts, each after a release or a pause. */

import { inMainThread } from "../../ffi/mod.ts";
import { step } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";
import { contestFor, join } from "./wait_queue.ts";
import type { Contest, Contested } from "./wait_queue.ts";
import type { Patience } from "./deadline.ts";

/** The first pause of a wait, in milliseconds. */
const FIRST_PAUSE = 1;
/** Each pause is so much longer than the one before. */
const GROWTH = 1.6;

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
export function* waitFor(
  file: Contested,
  exclusive: boolean,
  patience: Patience,
  onWait: () => void,
  ahead: boolean = false,
): Recipe<boolean> {
  const queues = !ahead && contestFor(file) !== undefined &&
    patience.left > 0 &&
    (yield* step(() => true, () => false));
  if (!queues && file.tryLock(exclusive)) return true;
  if (patience.left <= 0) return false;
  onWait();
  const stands = !ahead && patience.endless;
  if (stands && (yield* step(() => false, () => stand(file, exclusive)))) {
    return true;
  }
  const contest = join(file);
  try {
    return yield* takePart(contest, file, exclusive, patience, ahead);
  } finally {
    contest.leave();
  }
}

/**
 * Lets the system block the thread until the file is locked, which is the
 * fastest wait there is and the only one that nothing can end; `false` where
 * that will not do.
 */
function stand(file: Contested, exclusive: boolean): boolean {
  if (!inMainThread || !file.lock) return false;
  try {
    file.lock(exclusive);
    return true;
  } catch (error) {
    // The system takes each process for one, and its threads may help another.
    if ((error as { code?: string }).code === "EDEADLK") return false;
    throw error;
  }
}

function* takePart(
  contest: Contest,
  file: Contested,
  exclusive: boolean,
  patience: Patience,
  ahead: boolean,
): Recipe<boolean> {
  const turn = yield* step<boolean | null>(
    () => ahead ? null : contest.turns.take(patience),
    () => null,
  );
  if (turn === false) return false;
  const held = turn ? contest.takenAt : -1;
  let won = false;
  try {
    won = yield* compete(contest, file, exclusive, patience, held);
    return won;
  } finally {
    if (turn) {
      // Whoever is next need not try before something has happened.
      contest.takenAt = won && exclusive ? contest.rings : -1;
      contest.turns.pass();
    }
  }
}

/**
 * Attempts until one succeeds. The file is watched before the first attempt,
 * so no release is missed: one that the attempt came too early for rings. What
 * rings may come a moment before the lock is gone, so pauses are short at
 * first, and again after each ring.
 */
function* compete(
  contest: Contest,
  file: Contested,
  exclusive: boolean,
  patience: Patience,
  held: number,
): Recipe<boolean> {
  for (let pace = pauses(patience);;) {
    const { rings } = contest;
    patience.signal?.throwIfAborted();
    if (rings !== held && file.tryLock(exclusive)) return true;
    held = -1;
    patience.tellIfDue();
    const { value: pause, done } = pace.next();
    if (done) return false;
    yield* step<unknown>(
      () => contest.pause(pause, patience),
      () => contest.pauseSync(pause),
    );
    if (contest.rings !== rings) pace = pauses(patience);
  }
}

/**
 * The pauses between attempts, the last one ending with the wait. They grow up
 * to `checkInterval` and are jittered, lest waiters that were shut out
 * together come back together; the longest least, for each wakes the process.
 */
export function* pauses(patience: Patience): Generator<number, void> {
  let longest = Math.min(FIRST_PAUSE, patience.checkInterval);
  for (let left; (left = patience.left) > 0;) {
    const jitter = longest < patience.checkInterval ? 0.5 : 0.1;
    yield Math.min(longest * (1 - jitter * Math.random()), left);
    longest = Math.min(longest * GROWTH, patience.checkInterval);
  }
}
