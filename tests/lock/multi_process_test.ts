import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { Worker } from "node:worker_threads";
import { AlreadyLocked, Lock, LOCK_NB, LOCK_SH } from "../../mod.ts";
import { hasCapability } from "../support/capabilities.ts";
import { openDescriptors } from "../support/descriptors.ts";
import {
  allRuntimes,
  currentRuntime,
  fixtureCommand,
  runtimes,
} from "../support/env.ts";
import { LockProcess, runScript } from "../support/processes.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

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
      for (const acquire of ["acquire", "acquireSync"]) {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        await using holder = LockProcess.start(currentRuntime);
        await using waiter = LockProcess.start(runtime);
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
  "a child process that outlives the holder does not keep the lock",
  async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      await using holder = LockProcess.start(runtime);
      await holder.call("acquire", path);
      const sleeper = await holder.call("sleeper") as number;
      try {
        assert.equal(openDescriptors(path, sleeper), 0);
        await holder.kill();
        const file = await new Lock(path).tryAcquire();
        assert.ok(file);
        await file.close();
      } finally {
        process.kill(sleeper, "SIGKILL");
      }
    }
  },
  "sh(1)",
);

test(
  "1,000 acquisitions leave the number of open descriptors unchanged",
  async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      await using child = LockProcess.start(runtime);
      const path = join(dir.path, "a.lock");
      assert.equal(await child.call("cycle", path, 1000), 0, runtime.name);
      if (!hasCapability("/proc")) continue;
      assert.equal(openDescriptors(dir.path, child.process.pid), 0);
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

for (const kind of ["Lock", "TemporaryFileLock", "PidFileLock"]) {
  for (const end of ["is terminated", "ends"]) {
    test(`workers: two threads of one process exclude each other with ${kind}, and one that ${end} releases it`, async () => {
      for (const runtime of allRuntimes) {
        using dir = tempDir();
        const { code, stdout, stderr } = await runScript([
          ...fixtureCommand(runtime, "end_with_lock"),
          end === "is terminated" ? "thread is terminated" : "thread is done",
          kind,
          join(dir.path, "a"),
        ]);
        assert.equal(code, 0, `${runtime.name}: ${stderr}`);
        assert.equal(stdout, "held\nexcluded\nfree\n", runtime.name);
        const left = kind === "Lock" ? ["a"] : [];
        assert.deepEqual(sortedNames(dir.path), left, runtime.name);
      }
    });
  }
}

test("workers: a thread that is terminated releases every lock, also 400 of them", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const { code, stdout, stderr } = await runScript([
      ...fixtureCommand(runtime, "end_with_lock"),
      ...["thread with many locks", "Lock", join(dir.path, "a")],
    ]);
    // Windows may refuse locks that it could not release.
    const expected = hasCapability("/proc")
      ? /^0 stay locked, 0 refused\n$/
      : /^0 stay locked, \d+ refused\n$/;
    assert.match(stdout, expected, `${runtime.name}: ${stderr}`);
    assert.equal(code, 0, `${runtime.name}: ${stderr}`);
  }
});

test("workers: a thread that has released its locks closes no descriptor when it ends", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const { code, stdout, stderr } = await runScript([
      ...fixtureCommand(runtime, "end_with_lock"),
      ...["thread has released", "Lock", join(dir.path, "a")],
    ]);
    assert.equal(code, 0, `${runtime.name}: ${stderr}`);
    assert.equal(stdout, "still open\n", runtime.name);
  }
});

test("a process that exits normally while it holds the lock releases it", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  for (const runtime of runtimes) {
    await using child = LockProcess.start(runtime);
    await child.call("acquire", path);
    child.process.stdin.end();
    const { code, stderr } = await child.ended;
    assert.equal(stderr, "", "the process must not print a warning");
    assert.equal(code, 0);
    await new Lock(path).run(() => {});
  }
});

test(
  "8 processes of every runtime and Python count to 20,000 under one lock",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "counter");
    fs.writeFileSync(path, "0");
    const children = [
      ...Array.from(
        { length: 7 },
        (_, i) => LockProcess.start(at(runtimes, i % runtimes.length)),
      ),
      LockProcess.startPython(),
    ];
    try {
      await Promise.all(
        children.map((child) => child.call("count", path, 2500)),
      );
      assert.equal(fs.readFileSync(path, "utf8"), "20000");
    } finally {
      await Promise.all(children.map((child) => child[Symbol.asyncDispose]()));
    }
  },
  "Deno, Bun and Node",
  "Python's portalocker",
);
