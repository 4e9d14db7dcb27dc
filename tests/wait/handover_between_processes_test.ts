import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { platform } from "../../ffi/mod.ts";
import { Lock, LOCK_EX, lockSync } from "../../mod.ts";
import {
  folder,
  onlyShortPauses,
  openDescriptors,
  runtimes,
  self,
  test,
  Worker,
} from "../support/harness.ts";

const FORMS = ["acquire", "acquireSync"] as const;

/** Long enough for a waiter to be past its first attempts. */
const SETTLED = 40;
/** What a process that is killed may need between two steps of its end. */
const SHORT = 5;

/** On each of the four runtimes that run the suite. */
const HAND_OVERS = 2_500;

/** Somebody who can hold a lock and let it go. */
interface Holder extends AsyncDisposable {
  acquire(path: string): Promise<unknown>;
  release(): Promise<unknown>;
}

function worker(start: () => Worker, kill = false): () => Holder {
  return () => {
    const worker = start();
    return {
      acquire: (path) => worker.ask("acquire", path),
      release() {
        if (!kill) return worker.ask("release");
        worker.process.kill("SIGKILL");
        return worker.ended;
      },
      [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose](),
    };
  };
}

/** flock(1) while `cat` reads, and both end when there is nothing to read. */
function flock(): Holder {
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

const wakes = (name: string, holder: () => Holder, ...needs: Needs[]) =>
  test(
    `the release of ${name} wakes waiters on every runtime`,
    async () => {
      using dir = folder();
      const path = join(dir.path, "a.lock");
      for (const runtime of runtimes) {
        await using waiter = Worker.on(runtime);
        await waiter.ask("onlyShortPauses", SHORT);
        for (const form of FORMS) {
          await using other = holder();
          await other.acquire(path);
          const waiting = waiter.ask(form, path, { timeout: 60_000 });
          while (openDescriptors(path, waiter.process.pid) === 0) {
            await delay(5);
          }
          await delay(SETTLED);
          await other.release();
          await waiting;
          await waiter.ask("release");
        }
      }
    },
    "inotify(7)",
    ...needs,
    "/proc",
  );

type Needs = "Python's portalocker" | "flock(1)";

wakes("a process of this package", worker(() => Worker.on(self)));
wakes("a process that is killed", worker(() => Worker.on(self), true));
wakes("Python's portalocker", worker(Worker.python), "Python's portalocker");
wakes("flock(1)", flock, "flock(1)");

test(
  "no release is missed, at whatever moment it comes",
  async () => {
    using dir = folder();
    const path = join(dir.path, "a.lock");
    using _pauses = onlyShortPauses(0);
    const lock = new Lock(path, { timeout: Infinity });
    for (const runtime of runtimes) {
      await using worker = Worker.on(runtime);
      await worker.ask("onlyShortPauses", 0);
      for (let i = 0; i < 320; i++) {
        const mine = await lock.acquire();
        const theirs = worker.ask(FORMS[i % 2], path, { timeout: 60_000 });
        spin(Math.random() * 0.4);
        await mine.close();
        await theirs;
        const again = lock.acquire();
        spin(Math.random() * 0.4);
        await worker.ask("release");
        await (await again).close();
      }
    }
  },
  "inotify(7)",
);

test(
  "thousands of hand-overs between Deno, Bun, Node and Python, and the lock never lies free while somebody waits",
  async () => {
    using dir = folder();
    const path = join(dir.path, "turns");
    fs.writeFileSync(path, `0 ${Date.now()} 0`);
    const workers = [...runtimes.map(Worker.on), Worker.python()];
    try {
      const gaps = await Promise.all(
        workers.map((worker) => worker.ask("takeTurns", path, HAND_OVERS)),
      ) as number[][];
      // Python does not tell; a busy machine may stand still once or twice.
      const ours = gaps.slice(0, -1).flat();
      assert.ok(ours.length < 3, `the lock lay free for ${ours} ms`);
    } finally {
      await Promise.all(workers.map((worker) => worker[Symbol.asyncDispose]()));
    }
  },
  "Python's portalocker",
  "Deno, Bun and Node",
);

/** Passes time without letting go of the thread. */
function spin(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

test(
  "acquireSync() without an end is woken by the kernel, of whom nobody tells",
  async () => {
    for (const runtime of runtimes) {
      using dir = folder();
      const path = join(dir.path, "a.lock");
      const fd = fs.openSync(path, "a+");
      lockSync(fd, LOCK_EX);
      await using worker = Worker.on(runtime);
      await worker.ask("onlyShortPauses", 30);
      const waiting = worker.ask("acquireSync", path, { flags: LOCK_EX });
      await delay(300);
      assert.equal(await new Lock(path, { timeout: 0 }).tryAcquire(), null);
      // The file stays open, and no attempt follows.
      platform().fromFd(fd).unlock();
      await waiting;
      assert.equal(await new Lock(path, { timeout: 0 }).tryAcquire(), null);
      fs.closeSync(fd);
      await worker.ask("release");
      await new Lock(path, { timeout: 0 }).run(() => {});
    }
  },
  "descriptors",
);
