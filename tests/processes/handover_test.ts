import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import { platform } from "../../ffi/mod.ts";
import { Lock, LOCK_EX, lockSync } from "../../mod.ts";
import { runtimes } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { waitUntilBlocked } from "../support/waits.ts";

const FORMS = ["acquire", "acquireSync"] as const;

/**
 * The longest delay of a waiter that still polls, in milliseconds. A killed
 * process closes its files a moment before the kernel releases its locks.
 */
const MAX_POLL_MS = 5;

/** A program that can acquire and release a lock. */
interface Holder extends AsyncDisposable {
  acquire(path: string): Promise<unknown>;
  release(): Promise<unknown>;
}

function processHolder(start: () => LockProcess, kill = false): () => Holder {
  return () => {
    const processHolder = start();
    return {
      acquire: (path) => processHolder.call("acquire", path),
      release() {
        if (!kill) return processHolder.call("release");
        processHolder.process.kill("SIGKILL");
        return processHolder.ended;
      },
      [Symbol.asyncDispose]: () => processHolder[Symbol.asyncDispose](),
    };
  };
}

/**
 * Returns a holder that runs flock(1) until the standard input of its `cat`
 * ends.
 */
function flockHolder(): Holder {
  let child: ReturnType<typeof spawn> | undefined;
  const release = async () => {
    if (!child || child.exitCode !== null) return;
    const ended = once(child, "exit");
    child.stdin!.end();
    await ended;
  };
  return {
    async acquire(path) {
      const command = ["-c", 'flock "$0" sh -c "echo; cat"', path];
      child = spawn("sh", command, { stdio: ["pipe", "pipe", "inherit"] });
      await once(child.stdout!, "data");
    },
    release,
    [Symbol.asyncDispose]: release,
  };
}

const testWakeup = (
  name: string,
  holders: readonly (() => Holder)[],
  ...needs: Need[]
) =>
  test(
    `a release by ${name} wakes waiters on every runtime`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      for (const runtime of runtimes) {
        await using waiter = LockProcess.start(runtime);
        await waiter.call("disablePolling", MAX_POLL_MS);
        for (const holder of holders) {
          for (const form of FORMS) {
            await using other = holder();
            await other.acquire(path);
            const waiting = waiter.call(form, path, { timeout: 60_000 });
            await waiter.untilAsleep();
            await other.release();
            await waiting;
            await waiter.call("release");
          }
        }
      }
    },
    "inotify(7)",
    ...needs,
    "/proc",
  );

type Need = "Python's portalocker" | "flock(1)";

/** Returns a holder on each runtime. */
const onRuntimes = (kill?: boolean) =>
  runtimes.map((runtime) =>
    processHolder(() => LockProcess.start(runtime), kill)
  );

testWakeup("a process of this package", onRuntimes());
testWakeup("a process that is killed", onRuntimes(true));
testWakeup(
  "Python's portalocker",
  [processHolder(LockProcess.startPython)],
  "Python's portalocker",
);
testWakeup("flock(1)", [flockHolder], "flock(1)");

test(
  "acquireSync() without a timeout is woken by the kernel when no file is closed",
  async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const fd = fs.openSync(path, "a+");
      lockSync(fd, LOCK_EX);
      await using processHolder = LockProcess.start(runtime);
      await processHolder.call("disablePolling", 30);
      const waiting = processHolder.call("acquireSync", path, {
        flags: LOCK_EX,
      });
      await waitUntilBlocked(processHolder);
      assert.equal(await new Lock(path, { timeout: 0 }).tryAcquire(), null);
      // The file stays open, and the waiter makes no further attempt.
      platform().fromFd(fd).unlock();
      await waiting;
      assert.equal(await new Lock(path, { timeout: 0 }).tryAcquire(), null);
      fs.closeSync(fd);
      await processHolder.call("release");
      await new Lock(path, { timeout: 0 }).run(() => {});
    }
  },
  "file descriptors",
);
