import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { Lock, LOCK_EX, LOCK_NB, LOCK_SH, PidFileLock } from "../../mod.ts";
import { TemporaryFileLock } from "../../mod.ts";
import { runtimes } from "../support/env.ts";
import { hasCapability } from "../support/capabilities.ts";
import { LockProcess } from "../support/processes.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const CLASSES = { TemporaryFileLock, PidFileLock };

const FLAGS = { exclusive: LOCK_EX | LOCK_NB, shared: LOCK_SH | LOCK_NB };
type Kind = keyof typeof FLAGS;
const KINDS = Object.keys(FLAGS) as Kind[];

/** Two locks are compatible if both are shared. */
const compatible = (one: Kind, other: Kind) =>
  one === "shared" && other === "shared";

for (const ours of KINDS) {
  for (const theirs of KINDS) {
    const [our, their] = [ours, theirs].map((kind) =>
      kind === "shared" ? "a shared" : "an exclusive"
    );
    const outcome = compatible(ours, theirs) ? "shares with" : "excludes";

    test(
      `${our} Lock ${outcome} ${their} lock of Python's portalocker`,
      async () => {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        await using python = LockProcess.startPython();
        await using _file = await new Lock(path, { flags: FLAGS[ours] })
          .acquire();
        const expected = compatible(ours, theirs);
        assert.equal(await python.call("tryAcquire", path, theirs), expected);
      },
      "Python's portalocker",
      "sh(1)",
    );

    test(
      `${their} lock of Python's portalocker ${outcome} ${our} Lock`,
      async () => {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        await using python = LockProcess.startPython();
        await python.call("acquire", path, theirs);
        const lock = new Lock(path, { flags: FLAGS[ours] });
        using file = lock.tryAcquireSync();
        assert.equal(file !== null, compatible(ours, theirs));
      },
      "Python's portalocker",
      "sh(1)",
    );

    test(
      `${our} Lock ${outcome} ${their} flock(1)`,
      async () => {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        await using _file = await new Lock(path, { flags: FLAGS[ours] })
          .acquire();
        assert.equal(tryFlock(path, theirs), compatible(ours, theirs));
      },
      "flock(1)",
      "sh(1)",
    );

    test(
      `${their} flock(1) ${outcome} ${our} Lock`,
      async () => {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        await using _holder = await startFlock(path, theirs);
        using file = new Lock(path, { flags: FLAGS[ours] }).tryAcquireSync();
        assert.equal(file !== null, compatible(ours, theirs));
      },
      "flock(1)",
      "sh(1)",
    );
  }
}

test("a Lock and Python's portalocker wait for each other", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  await using python = LockProcess.startPython();
  const lock = new Lock(path, { timeout: 60_000 });
  for (let i = 0; i < 5; i++) {
    await python.call("acquire", path);
    const waiting = lock.acquire();
    assert.equal(lock.locked, false);
    await python.call("release");
    await waiting;
    const pythonWaiting = python.call("acquire", path);
    await lock.release();
    await pythonWaiting;
    await python.call("release");
  }
}, "Python's portalocker");

test("a waiting Lock acquires when flock(1) is killed", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const holder = await startFlock(path, "exclusive");
  const lock = new Lock(path, { timeout: 60_000 });
  const waiting = lock.acquire();
  assert.equal(lock.locked, false);
  await holder[Symbol.asyncDispose]();
  await waiting;
  await lock.release();
}, "flock(1)");

for (const kind of ["TemporaryFileLock", "PidFileLock"] as const) {
  const files = kind === "PidFileLock" ? ["a", "a.lock"] : ["a"];

  test(
    `${kind} and Python's exclude each other and leave the same files`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a");
      const lock = new CLASSES[kind](path);
      await using python = LockProcess.startPython(true);
      for (let i = 0; i < 3; i++) {
        await python.call("hold", kind, path);
        assert.deepEqual(sortedNames(dir.path), files);
        assert.equal(await lock.tryAcquire(), null);
        assert.equal(lock.tryAcquireSync(), null);
        await python.call("drop");
        assert.deepEqual(sortedNames(dir.path), []);
        const file = i % 2 ? lock.acquireSync() : await lock.acquire();
        assert.deepEqual(sortedNames(dir.path), files);
        assert.equal(await python.call("attempt", kind, path), false);
        await file.close();
        assert.deepEqual(sortedNames(dir.path), []);
      }
    },
    "Python's portalocker 4",
  );

  test(
    `${kind} and Python's wait for each other, and lock the file at the path`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a");
      const locked = join(dir.path, files.at(-1)!);
      const lock = new CLASSES[kind](path, { timeout: 60_000 });
      await using python = LockProcess.startPython(true);
      for (let i = 0; i < 5; i++) {
        await python.call("hold", kind, path, 60);
        const waiting = lock.acquire();
        await python.call("drop");
        const file = await waiting;
        const { dev, ino } = file.statSync();
        const named = fs.statSync(locked);
        assert.deepEqual([named.dev, named.ino], [dev, ino]);
        const pythonWaiting = python.call("hold", kind, path, 60);
        await lock.release();
        await pythonWaiting;
        assert.equal(await lock.tryAcquire(), null);
        await python.call("drop");
      }
      assert.deepEqual(sortedNames(dir.path), []);
    },
    "Python's portalocker 4",
  );

  test(
    `${kind} and Python's acquire after the other was killed`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a");
      const dead = LockProcess.startPython(true);
      await dead.call("hold", kind, path);
      await dead.kill();
      assert.deepEqual(sortedNames(dir.path), files);
      await new CLASSES[kind](path).run(() => {});
      assert.deepEqual(sortedNames(dir.path), []);
      for (const runtime of runtimes) {
        await using worker = LockProcess.start(runtime);
        await worker.call("hold", kind, path);
        await worker.kill();
        await using python = LockProcess.startPython(true);
        assert.equal(await python.call("attempt", kind, path), true);
        await python.call("drop");
        assert.deepEqual(sortedNames(dir.path), []);
      }
    },
    "Python's portalocker 4",
  );
}

test(
  "PidFileLock and Python's read and report the same PID",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    const lock = new PidFileLock(path);
    await using python = LockProcess.startPython(true);
    const { pid } = python.process;
    await python.call("hold", "PidFileLock", path);
    assert.equal(fs.readFileSync(path, "utf8"), String(pid));
    assert.equal(await lock.readPid(), pid);
    // Deno without FFI cannot ask the kernel whether this process is the holder.
    const holderPid = hasCapability("inotify(7)") ? pid : null;
    await assert.rejects(lock.acquire(), { holderPid });
    await python.call("drop");
    await lock.acquire();
    assert.equal(fs.readFileSync(path, "utf8"), String(process.pid));
    assert.equal(await python.call("readPid", path), process.pid);
    assert.equal(await python.call("enter", path), process.pid);
    await lock.release();
    assert.equal(await python.call("readPid", path), null);
    assert.equal(await python.call("enter", path), null);
  },
  "Python's portalocker 4",
);

/** Returns whether flock(1) acquires without waiting. */
function tryFlock(path: string, kind: Kind): boolean {
  try {
    execFileSync("flock", ["-n", `--${kind}`, path, "true"]);
    return true;
  } catch (error) {
    assert.equal((error as { status: number }).status, 1);
    return false;
  }
}

/** Starts a flock(1) that holds the lock until it is disposed. */
async function startFlock(path: string, kind: Kind) {
  // Without a fork, there is one process to kill.
  const args = [`--${kind}`, "--no-fork", path, "sh", "-c", "echo held; cat"];
  const child = spawn("flock", args, { stdio: ["pipe", "pipe", "inherit"] });
  await once(child.stdout, "data");
  return {
    async [Symbol.asyncDispose]() {
      const closed = once(child, "close");
      child.kill("SIGKILL");
      child.stdin.end();
      await closed;
    },
  };
}
