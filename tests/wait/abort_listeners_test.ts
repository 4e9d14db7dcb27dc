import assert from "node:assert/strict";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { BoundedSemaphore, Lock, lock, LOCK_EX } from "../../mod.ts";
import { addAbortCallback } from "../../src/wait/abort_listeners.ts";
import { lockOutsideLibrary } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { countBalance } from "../support/timers.ts";
import { observeWaits } from "../support/waits.ts";

/** A controller, and how many listeners its signal has. */
function countedSignal() {
  const controller = new AbortController();
  const { signal } = controller;
  const { left } = countBalance(
    signal,
    "addEventListener",
    "removeEventListener",
  );
  return { controller, signal, left };
}

/** Collects the warnings of the process until it is disposed. */
function collectWarnings(): string[] & Disposable {
  const warnings: string[] = [];
  const add = (warning: Error) => void warnings.push(`${warning}`);
  process.on("warning", add);
  return Object.assign(warnings, {
    [Symbol.dispose]: () => void process.off("warning", add),
  });
}

test("1000 tasks that wait with one signal cause no warning", async () => {
  using dir = tempDir();
  using warnings = collectWarnings();
  const path = join(dir.path, "a.lock");
  const held = lockOutsideLibrary(path);
  const { controller, signal, left } = countedSignal();
  using waits = observeWaits();
  const options = { signal, timeout: Infinity };
  const shared = new Lock(path);
  const semaphore = new BoundedSemaphore(1, { directory: dir.path });
  const slot = await semaphore.acquire();
  const waiting = Array.from({ length: 1000 }, (_, i) => {
    if (i % 10 === 0) return new Lock(path).acquire(options);
    return (i % 2 ? shared : semaphore).acquire(options);
  });
  await waits.begun(1000);
  assert.equal(left(), 1, "all waits share one listener");
  controller.abort("enough");
  for (const { status, ...rest } of await Promise.allSettled(waiting)) {
    assert.deepEqual({ status, ...rest }, {
      status: "rejected",
      reason: "enough",
    });
  }
  assert.equal(left(), 0);
  // Node emits the warning in a later turn of the event loop.
  await delay(10);
  assert.deepEqual([...warnings], []);
  await slot.close();
  held.release();
});

test("a signal without a wait does not keep a listener", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const { controller, signal, left } = countedSignal();
  for (let i = 0; i < 2; i++) {
    const held = lockOutsideLibrary(path);
    using waits = observeWaits();
    const waiting = [1, 2].map(() =>
      new Lock(path).run(() => {}, { signal, timeout: Infinity })
    );
    await waits.begun(2);
    held.release();
    await Promise.all(waiting);
    assert.equal(left(), 0);
  }
  controller.abort();
  const { signal: other, left: leftOfOther } = countedSignal();
  await using file = await new Lock(path).acquire({ signal: other });
  assert.equal(leftOfOther(), 0);
  if (file.fd !== null) await lock(file.fd, LOCK_EX, { signal: other });
  assert.equal(leftOfOther(), 0);
});

test("callbacks of one signal can be cancelled one by one, also by each other", () => {
  const { controller, signal, left } = countedSignal();
  const called: string[] = [];
  const cancelFirst = addAbortCallback(signal, () => called.push("first"));
  addAbortCallback(signal, () => {
    called.push("second");
    cancelThird();
    cancelThird();
    // The signal is aborted, so this is never called.
    addAbortCallback(signal, () => called.push("late"))();
  });
  const cancelThird = addAbortCallback(signal, () => called.push("third"));
  cancelFirst();
  cancelFirst();
  assert.equal(left(), 1);
  controller.abort();
  assert.deepEqual(called, ["second"]);
  assert.equal(left(), 0);
});
