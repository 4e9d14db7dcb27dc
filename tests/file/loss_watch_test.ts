import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { setImmediate, setTimeout as delay } from "node:timers/promises";
import {
  BoundedSemaphore,
  Lock,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  lockAll,
  type LockedFile,
  LockLostError,
  PidFileLock,
  RLock,
  TemporaryFileLock,
} from "../../mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { countWatches, openDescriptors } from "../support/descriptors.ts";
import { withPatchedFiles } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { observeWaits, SHORT_WAIT_MS } from "../support/waits.ts";

/** The mask of `watchName` in /proc. */
const NAME_EVENTS = "c04";

/** Longer than the signal takes to abort, in milliseconds. */
const SETTLED_MS = 300;

/** Each kind of lock, which locks a file in a directory. */
const KINDS: Record<string, (directory: string) => Promise<LockedFile>> = {
  Lock: (directory) => new Lock(join(directory, "a")).acquire(),
  RLock: (directory) => new RLock(join(directory, "a")).acquire(),
  TemporaryFileLock: (directory) =>
    new TemporaryFileLock(join(directory, "a")).acquire(),
  "shared TemporaryFileLock": (directory) =>
    new TemporaryFileLock(join(directory, "a"), { flags: LOCK_SH | LOCK_NB })
      .acquire(),
  PidFileLock: (directory) => new PidFileLock(join(directory, "a")).acquire(),
  BoundedSemaphore: (directory) =>
    new BoundedSemaphore(2, { directory }).acquire(),
  lockAll: async (directory) => (await lockAll([join(directory, "a")])).at(0)!,
  acquireSync: (directory) =>
    Promise.resolve(new Lock(join(directory, "a")).acquireSync()),
};

/** What another process does to a lock file. */
const LOSSES: Record<string, (path: string) => string[]> = {
  removed: (path) => ["rm", path],
  replaced: (path) => ["sh", "-c", 'echo >"$0.new"; mv "$0.new" "$0"', path],
  "renamed away": (path) => ["mv", path, `${path}.old`],
  "removed and created again": (path) => [
    "sh",
    "-c",
    'rm "$0"; echo >"$0"',
    path,
  ],
};

/** Runs a command in another process. */
function run([program, ...args]: string[]): void {
  assert.equal(spawnSync(program!, args).status, 0);
}

/**
 * Resolves with the reason when the signal aborts. Keeps the process alive, which
 * the signal does not.
 */
function aborted(signal: AbortSignal): Promise<unknown> {
  const alive = setInterval(() => {}, 1000);
  return new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  }).then(() => {
    clearInterval(alive);
    return signal.reason;
  });
}

/** A watch is removed in a later turn of the event loop. */
async function assertNoWatches(): Promise<void> {
  await setImmediate();
  assert.equal(countWatches(NAME_EVENTS), 0);
}

function assertLost(reason: unknown, path: string): void {
  assert.ok(reason instanceof LockLostError, String(reason));
  assert.equal(reason.code, "ERR_LOCK_LOST");
  assert.equal(reason.path, path);
}

for (const [how, command] of Object.entries(LOSSES)) {
  test(
    `a holder's signal aborts when its lock file is ${how} by another process`,
    async () => {
      for (const [kind, acquire] of Object.entries(KINDS)) {
        using dir = tempDir();
        await using file = await acquire(dir.path);
        const { signal } = file;
        assert.equal(file.signal, signal, kind);
        assert.equal(signal.aborted, false, kind);
        const lost = aborted(signal);
        run(command(file.path));
        assertLost(await lost, file.path);
        assert.match(String(signal.reason), /Lost the lock on .* replaced$/);
      }
      await assertNoWatches();
    },
    "inotify(7)",
    "sh(1)",
  );
}

test(
  "a holder's signal is aborted at once if its lock file was replaced before",
  async () => {
    using dir = tempDir();
    for (const [how, command] of Object.entries(LOSSES)) {
      const path = join(dir.path, how);
      await using file = await new Lock(path).acquire();
      run(command(path));
      assert.equal(file.signal.aborted, true, how);
      assertLost(file.signal.reason, path);
      // The lock on the old file is held, and can be released.
      await file.writeText("still open");
    }
    await assertNoWatches();
  },
  "inotify(7)",
  "sh(1)",
);

test(
  "a holder's signal does not abort for other changes, or when the lock is released",
  async () => {
    using dir = tempDir();
    const signals: AbortSignal[] = [];
    for (const [kind, acquire] of Object.entries(KINDS)) {
      const file = await acquire(dir.path);
      const { path } = file;
      signals.push(file.signal);
      run(["chmod", "600", path]);
      run(["touch", path]);
      fs.linkSync(path, `${path}.link`);
      run(["rm", `${path}.link`]);
      run(["sh", "-c", 'mv "$0" "$0.away"; mv "$0.away" "$0"', path]);
      if (kind === "Lock") await delay(SETTLED_MS);
      await file.close();
      signals.push(file.signal);
      fs.rmSync(path, { force: true });
    }
    const sync = new TemporaryFileLock(join(dir.path, "b")).acquireSync();
    signals.push(sync.signal);
    sync.closeSync();
    await delay(SETTLED_MS);
    assert.deepEqual(signals.filter(({ aborted }) => aborted), []);
    await assertNoWatches();
    assert.equal(openDescriptors(dir.path), 0);
  },
  "inotify(7)",
  "sh(1)",
);

test(
  "a holder's signal follows a symbolic link to the lock file",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const target = join(dir.path, "target.lock");
    fs.writeFileSync(target, "");
    fs.symlinkSync("target.lock", path);
    await using file = await new Lock(path).acquire();
    const lost = aborted(file.signal);
    run(["touch", target]);
    run(["chmod", "600", target]);
    await delay(SETTLED_MS);
    assert.equal(file.signal.aborted, false);
    fs.writeFileSync(`${target}.new`, "");
    run(["mv", `${target}.new`, target]);
    assertLost(await lost, path);
  },
  "inotify(7)",
  "symbolic links",
);

test(
  "a holder's signal and a waiter of the same thread watch one file at once",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const file = await new Lock(path).acquire();
    const { signal } = file;
    using waits = observeWaits();
    await assert.rejects(new Lock(path, { timeout: SHORT_WAIT_MS }).acquire());
    const waiting = new Lock(path, { timeout: 60_000 }).acquire();
    await waits.begun(2);
    const lost = aborted(signal);
    run(["rm", path]);
    assertLost(await lost, path);
    await file.close();
    await using next = await waiting;
    assert.equal(next.signal.aborted, false);
    const again = aborted(next.signal);
    run(["rm", path]);
    assertLost(await again, path);
  },
  "inotify(7)",
  "sh(1)",
);

test(
  "a holder's signal never aborts where the system reports nothing",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await withPatchedFiles(() => ({ watchName: () => null }), async () => {
      await using file = await new Lock(path).acquire();
      assert.equal(file.signal.aborted, false);
      fs.renameSync(path, `${path}.old`);
      await delay(SETTLED_MS);
      assert.equal(file.signal.aborted, false);
    });
  },
  "replacing open files",
);

test("a holder's signal aborts when relock() loses the lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.txt");
  fs.writeFileSync(path, "");
  let lost = false;
  const lose = (real: PlatformFile): Partial<PlatformFile> => ({
    tryLock: (exclusive) => lost || exclusive ? false : real.tryLock(exclusive),
    unlock() {
      lost = true;
      real.unlock();
    },
  });
  await withPatchedFiles(lose, async () => {
    const options = { mode: "r+", flags: LOCK_SH | LOCK_NB } as const;
    for (const form of ["relock", "relockSync"] as const) {
      lost = false;
      const file = await new Lock(path, options).acquire();
      const { signal } = file;
      await assert.rejects(
        // deno-lint-ignore require-await -- a throw must become a rejection
        async () => file[form](LOCK_EX, { timeout: 20, checkInterval: 20 }),
        { name: "AlreadyLocked" },
      );
      assertLost(signal.reason, path);
    }
  });
});
