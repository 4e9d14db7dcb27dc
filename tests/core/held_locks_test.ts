import assert from "node:assert/strict";
import { constants } from "node:os";
import { join } from "node:path";
import { BoundedSemaphore, Lock, LOCK_NB, LOCK_SH } from "../../mod.ts";
import { LockUnsupported, PidFileLock, TemporaryFileLock } from "../../mod.ts";
import { unlock } from "../../mod.ts";
import type { LockedFile } from "../../mod.ts";
import { lockOutsideLibrary, withPatchedFiles } from "../support/platform.ts";
import { currentFixtureCommand, LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { deferred } from "../support/values.ts";

/** How long a child may take for one attempt, in milliseconds. */
const MAX_ATTEMPT_MS = 30_000;

/** An attempt that is not blocked takes less, in milliseconds. */
const AT_ONCE_MS = 5000;

/** What the child reports for an attempt that throws. */
interface Thrown {
  name: string;
  code: string;
  errno?: number;
  holderPid: number | null;
  message: string;
  milliseconds: number;
}

/** Reads a line, and kills a child that is blocked. */
async function readLine(child: LockProcess): Promise<string> {
  const timer = setTimeout(
    () => child.process.kill("SIGKILL"),
    MAX_ATTEMPT_MS,
  );
  try {
    return await child.readLine();
  } finally {
    clearTimeout(timer);
  }
}

/** Yields what the child reports for each of its attempts. */
async function* attempts(
  kind: "deadlocks" | "others",
): AsyncGenerator<[name: string, result: "acquired" | Thrown, pid: number]> {
  using dir = tempDir();
  const path = (name: string) => join(dir.path, name);
  await using _foreign = await new Lock(path("foreign")).acquire();
  const shared = new Lock(path("shared"), {
    mode: "a+",
    flags: LOCK_SH | LOCK_NB,
  });
  await using _shared = await shared.acquire();
  const half = new BoundedSemaphore(2, { name: "half", directory: dir.path });
  await using _slot = await half.acquire();
  await using _range = await new Lock(path("ranges"), {
    mode: "a+",
    locker: "ofd",
    range: { start: 100, length: 10 },
  }).acquire().catch((error) => {
    if (error instanceof LockUnsupported) return null;
    throw error;
  });
  await using child = new LockProcess([
    ...currentFixtureCommand("self_deadlock"),
    dir.path,
    kind,
  ]);
  let supported = 0;
  for (const name of JSON.parse(await readLine(child)) as string[]) {
    const line = await readLine(child).catch((cause) =>
      assert.fail(`${name}: the thread is blocked (${cause})`)
    );
    const result = JSON.parse(line);
    if (result === "unsupported") continue;
    supported++;
    yield [name, result, child.process.pid!];
  }
  assert.ok(supported >= 8);
}

test("a thread that would wait for itself gets EDEADLK at once", async () => {
  for await (const [name, result, pid] of attempts("deadlocks")) {
    assert.ok(typeof result === "object", `${name}: acquired`);
    const { message } = result;
    assert.equal(result.name, "AlreadyLocked", `${name}: ${message}`);
    assert.equal(result.code, "EDEADLK", `${name}: ${message}`);
    assert.equal(result.errno, constants.errno.EDEADLK, name);
    assert.match(message, /the thread|this thread/, name);
    assert.match(message, /would wait for itself/, name);
    assert.ok(result.milliseconds < AT_ONCE_MS, name);
    // Another reader may be named instead, and a task may still wait.
    if (/of another process|asynchronously/.test(name)) continue;
    assert.equal(result.holderPid, pid, name);
    assert.match(message, /this thread holds it/, name);
  }
});

test("a thread that would not wait for itself waits, or makes one attempt", async () => {
  for await (const [name, result] of attempts("others")) {
    if (name.startsWith("acquired")) {
      assert.equal(result, "acquired", `${name}: ${JSON.stringify(result)}`);
    } else {
      assert.ok(typeof result === "object", `${name}: acquired`);
      const { message } = result;
      assert.equal(result.code, "EWOULDBLOCK", `${name}: ${message}`);
      assert.doesNotMatch(message, /this thread/, name);
    }
  }
});

test("a lock counts as held by the thread while its path is checked", async () => {
  for (const Kind of [TemporaryFileLock, PidFileLock]) {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const checking = deferred();
    const checked = deferred();
    let acquiring: Promise<LockedFile> | undefined;
    await withPatchedFiles((real) => ({
      async nameAt(path, noFollow) {
        checking.resolve();
        await checked.promise;
        return real.nameAtSync(path, noFollow);
      },
    }), async () => {
      acquiring = new Kind(path).acquire();
      await checking.promise;
    });
    assert.throws(
      () => new Kind(path, { timeout: Infinity }).acquireSync(),
      { code: "EDEADLK" },
    );
    checked.resolve();
    await using _file = await acquiring!;
  }
});

test(
  "a LockedFile that unlock() has unlocked does not count as held by the thread",
  () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    using file = new Lock(path).acquireSync();
    unlock(file as { fd: number });
    const other = lockOutsideLibrary(path);
    assert.throws(() => new Lock(path, { timeout: 20 }).acquireSync(), {
      code: "EWOULDBLOCK",
    });
    other.release();
  },
  "file descriptors",
);
