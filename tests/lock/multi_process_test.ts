import assert from "node:assert/strict";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { AlreadyLocked, Lock, LOCK_NB, LOCK_SH } from "../../mod.ts";
import { currentRuntime, runtimes } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

test("Lock.acquire() throws AlreadyLocked while another process holds the lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  for (const runtime of runtimes) {
    await using child = LockProcess.start(runtime);
    await child.call("acquire", path);
    const lock = new Lock(path, { failWhenLocked: true });
    await assert.rejects(lock.acquire(), AlreadyLocked);
    assert.throws(() => lock.acquireSync(), AlreadyLocked);
    await child.call("release");
    await using _file = await lock.acquire();
    assert.equal(await child.call("tryAcquire", path), false);
    const error = { name: "AlreadyLocked", code: "EWOULDBLOCK" };
    await assert.rejects(child.call("acquire", path, { timeout: 0 }), error);
  }
});

test("Lock with LOCK_SH shares with readers in other processes", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const options = { flags: LOCK_SH | LOCK_NB, timeout: 0 };
  for (const runtime of runtimes) {
    await using child = LockProcess.start(runtime);
    await child.call("acquire", path, options);
    await using _file = await new Lock(path, options).acquire();
    assert.equal(await new Lock(path).tryAcquire(), null);
  }
});

test(
  "a waiting process of every runtime acquires when the holder is killed",
  async () => {
    for (const runtime of runtimes) {
      await using waiter = LockProcess.start(runtime);
      for (const acquire of ["acquire", "acquireSync"]) {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        await using holder = LockProcess.start(currentRuntime);
        await holder.call("acquire", path);
        const waiting = waiter.call(acquire, path, { timeout: 60_000 });
        await waiter.untilWaiting();
        await holder.kill();
        await waiting;
        assert.equal(await new Lock(path).tryAcquire(), null);
        await waiter.call("release");
      }
    }
  },
);

test(
  "threads of one process exclude each other and read their own errno",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using _file = await new Lock(path).acquire();
    const thread = new Worker(
      new URL(
        `../fixtures/try_lock_thread${currentRuntime.extension}`,
        import.meta.url,
      ),
      { workerData: path },
    );
    const answers = await new Promise((resolve, reject) => {
      thread.on("message", resolve);
      thread.on("error", reject);
    });
    await thread.terminate();
    assert.deepEqual(answers, [null, "EBADF"]);
  },
  "file descriptors",
);
