import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import type { Lockable } from "../../ffi/types.ts";
import { WAIT_FOREVER } from "../../src/options/acquire_options.ts";
import type { WaitSettings } from "../../src/options/acquire_options.ts";
import { op, runAsync, runSync } from "../../src/core/gensync.ts";
import { Deadline, now } from "../../src/wait/deadline.ts";
import { FifoMutex } from "../../src/wait/fifo_mutex.ts";
import { backoff, lockBeforeDeadline } from "../../src/wait/wait_loop.ts";
import { abortReasons } from "../support/abort_reasons.ts";
import { noopOs } from "../support/platform.ts";
import { test } from "../support/test.ts";
import { activeTimers, countBalance } from "../support/timers.ts";
import { at } from "../support/values.ts";

const deadline = (options: Partial<WaitSettings> = {}) =>
  new Deadline({ ...WAIT_FOREVER, timeout: 5000, ...options });

/**
 * Returns a file without notifications whose attempts to lock return the given
 * results.
 */
const file = (tryLock: () => boolean): Lockable => ({
  ...noopOs,
  tryLock,
  lock() {},
  unlock() {},
});

const waiting = (tryLock: () => boolean, options: Partial<WaitSettings>) =>
  lockBeforeDeadline(file(tryLock), {
    exclusive: true,
    deadline: deadline(options),
  });

test("backoff() yields delays that grow from at most 1 ms to checkInterval", () => {
  const some: number[] = [];
  for (const pause of backoff(deadline({ checkInterval: 40 }))) {
    some.push(pause);
    if (some.length === 1000) break;
  }
  assert.ok(at(some, 0) <= 1);
  assert.ok(some.every((pause) => pause > 0 && pause <= 40));
  assert.ok(some.slice(20).every((pause) => pause >= 36));
  assert.ok(new Set(some.slice(20)).size > 900, "the delays have jitter");
  for (const pause of backoff(deadline({ checkInterval: 0.1 }))) {
    assert.ok(pause <= 0.1);
    break;
  }
});

test("Deadline.sleepUntilWoken() sets one timer", async () => {
  const { setTimeout } = globalThis;
  let timers = 0;
  const counting = (...args: Parameters<typeof setTimeout>) => {
    timers++;
    return setTimeout(...args);
  };
  globalThis.setTimeout = Object.assign(counting, setTimeout);
  try {
    const { sleepUntilWoken } = Deadline.prototype;
    const sleep = sleepUntilWoken.bind(deadline());
    for (let i = 0; i < 20; i++) await sleep(10.5, () => () => {});
  } finally {
    globalThis.setTimeout = setTimeout;
  }
  // A timer that fires early is set again.
  assert.ok(timers < 30, `${timers} timers`);
});

test("Deadline.sleepUntilWoken() may be woken before it sleeps", async () => {
  const controller = new AbortController();
  const wait = deadline({ signal: controller.signal });
  let unsubscribed = 0;
  const woken = await wait.sleepUntilWoken(60_000, (wake) => {
    wake();
    wake();
    return () => unsubscribed++;
  });
  assert.deepEqual([woken, unsubscribed], [true, 1]);
  // Nothing listens any more.
  controller.abort();
  assert.equal(unsubscribed, 1);
});

test("backoff() ends its last delay at the deadline", () => {
  const start = now();
  const wait = deadline({ timeout: 20, checkInterval: 1000 });
  const all = backoff(wait);
  for (
    let { remaining: left } = wait, next;
    !(next = all.next()).done;
    { remaining: left } = wait
  ) {
    assert.ok(next.value <= left, "no delay ends after the deadline");
    const end = now() + next.value;
    while (now() < end);
  }
  assert.ok(now() - start >= 20);
  assert.deepEqual([...backoff(deadline({ timeout: 0 }))], []);
  assert.deepEqual([...backoff(deadline({ failWhenLocked: true }))], []);
});

test("lockBeforeDeadline() makes a last attempt at the deadline", async () => {
  for (const run of [runAsync, runSync]) {
    const start = now();
    let last = 0;
    const attempt = () => (last = now(), false);
    assert.equal(await run(waiting(attempt, { timeout: 30 })), false);
    assert.ok(last - start >= 30);
  }
});

test("lockBeforeDeadline() removes its listeners and timers", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const listeners = countBalance(
    signal,
    "addEventListener",
    "removeEventListener",
  );
  const timers = countBalance(globalThis, "setTimeout", "clearTimeout");
  try {
    let left = 5;
    const attempt = () => --left === 0;
    assert.ok(await runAsync(waiting(attempt, { signal })));
    assert.equal(listeners.left(), 0);
    const before = timers.left();
    const abort = () => (queueMicrotask(() => controller.abort("now")), false);
    const ended = async () => await runAsync(waiting(abort, { signal }));
    await assert.rejects(ended, (reason) => reason === "now");
    assert.equal(timers.left(), before, "an abort clears the timer");
  } finally {
    listeners.restore();
    timers.restore();
  }
});

test("lockBeforeDeadline() rejects when the signal is aborted during an attempt", async () => {
  for (const aborting of abortReasons()) {
    const { signal } = aborting;
    let attempts = 0;
    const attempt = () => (attempts++, aborting.abort(), false);
    await aborting.throws(() => runAsync(waiting(attempt, { signal })));
    assert.equal(attempts, 1);
  }
});

test("onWait can abort the wait, which leaves no timer", async () => {
  for (const aborting of abortReasons()) {
    const { signal } = aborting;
    const wait = { ...WAIT_FOREVER, signal, timeout: 5000 };
    const withOnWait = new Deadline(wait, { onWait: aborting.abort });
    using timers = activeTimers();
    const request = { exclusive: true, deadline: withOnWait };
    await aborting.throws(() =>
      runAsync(lockBeforeDeadline(file(() => false), request))
    );
    assert.equal(timers.size, 0);
  }
});

/** Returns a file that the kernel can block on, and the list of its calls. */
function blocking(code?: string) {
  const calls: string[] = [];
  const it: Lockable = {
    ...file(() => calls.push("attempt") === 3),
    lock(exclusive) {
      calls.push(exclusive ? "exclusive" : "shared");
      if (code) throw Object.assign(new Error(code), { code });
    },
  };
  return { it, calls };
}

test("lockBeforeDeadline() blocks in the kernel if the sync wait does not have a deadline", () => {
  for (const exclusive of [true, false]) {
    const { it, calls } = blocking();
    const endless = deadline({ timeout: Infinity });
    assert.ok(
      runSync(lockBeforeDeadline(it, { exclusive, deadline: endless })),
    );
    assert.deepEqual(calls, ["attempt", exclusive ? "exclusive" : "shared"]);
  }
});

test("lockBeforeDeadline() polls if the wait has a deadline or an onWait, or is async", async () => {
  const withOnWait = new Deadline(
    { ...WAIT_FOREVER, timeout: Infinity },
    { onWait: () => {} },
  );
  const attempts = ["attempt", "attempt", "attempt"];
  for (const wait of [withOnWait, deadline({ timeout: 1e9 })]) {
    const { it, calls } = blocking();
    assert.ok(
      runSync(lockBeforeDeadline(it, { exclusive: true, deadline: wait })),
    );
    assert.deepEqual(calls, attempts);
  }
  const { it, calls } = blocking();
  const endless = deadline({ timeout: Infinity });
  assert.ok(
    await runAsync(
      lockBeforeDeadline(it, { exclusive: true, deadline: endless }),
    ),
  );
  assert.deepEqual(calls, attempts, "it does not block the thread");
});

test("lockBeforeDeadline() polls after EDEADLK", () => {
  const { it, calls } = blocking("EDEADLK");
  const endless = () => deadline({ timeout: Infinity });
  assert.ok(
    runSync(lockBeforeDeadline(it, { exclusive: true, deadline: endless() })),
  );
  assert.deepEqual(calls, ["attempt", "exclusive", "attempt"]);
  const { it: broken } = blocking("ENOLCK");
  const failing = lockBeforeDeadline(broken, {
    exclusive: true,
    deadline: endless(),
  });
  assert.throws(() => runSync(failing), { code: "ENOLCK" });
});

test(
  "runAsync() and runSync() run the same generator, which can catch errors",
  async () => {
    function* operation() {
      const results: unknown[] = [];
      results.push(
        yield* op({
          async: () => Promise.resolve("waited"),
          sync: () => "blocked",
        }),
      );
      results.push(yield* op({ async: () => 1, sync: () => 1 }));
      try {
        yield* op({
          async: () => Promise.reject("no"),
          sync: () => {
            throw "no";
          },
        });
      } catch (error) {
        results.push(error);
      }
      return results;
    }
    assert.deepEqual(await runAsync(operation()), ["waited", 1, "no"]);
    assert.deepEqual(runSync(operation()), ["blocked", 1, "no"]);
  },
);

test("FifoMutex serves waiters in FIFO order", async () => {
  const mutex = new FifoMutex();
  assert.equal(mutex.tryAcquire(), true);
  assert.equal(mutex.tryAcquire(), false);
  const order: number[] = [];
  const all = [1, 2, 3].map(async (i) => {
    assert.equal(await mutex.acquire(deadline()), true);
    order.push(i);
  });
  for (let i = 0; i < 3; i++) {
    mutex.release();
    assert.equal(
      mutex.tryAcquire(),
      false,
      "release() passes the mutex to the next waiter",
    );
    await delay(1);
  }
  await Promise.all(all);
  assert.deepEqual(order, [1, 2, 3]);
  mutex.release();
  assert.equal(mutex.tryAcquire(), true);
});

test("FifoMutex.acquire() resolves to false at the deadline and rejects when aborted", async () => {
  const mutex = new FifoMutex();
  mutex.tryAcquire();
  const acquire = (options: Partial<WaitSettings>) =>
    mutex.acquire(deadline(options));
  assert.equal(await acquire({ timeout: 0 }), false);
  assert.equal(await acquire({ failWhenLocked: true }), false);
  assert.equal(await acquire({ timeout: 15 }), false);
  for (const aborting of abortReasons()) {
    const { signal } = aborting;
    const waiting = acquire({ signal, timeout: Infinity });
    aborting.abort();
    await aborting.rejects(Promise.resolve(waiting));
    await aborting.throws(() => acquire({ signal }));
  }
  mutex.release();
  assert.equal(mutex.tryAcquire(), true, "the queue is empty");
});

test("a lock that was acquired at the last moment leaves time for its checks", async () => {
  const settings = { ...WAIT_FOREVER, timeout: 5, openTimeout: 5 };
  for (const contended of [true, false]) {
    const deadline = new Deadline(settings);
    if (contended) deadline.markContended();
    await delay(20);
    deadline.allowChecks();
    assert.equal(await deadline.settlesInTime(delay(1)), contended);
  }
});
