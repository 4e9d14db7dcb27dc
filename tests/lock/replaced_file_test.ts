import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import {
  AlreadyLocked,
  Lock,
  LOCK_EX,
  lockAll,
  type LockedFile,
  type LockOptions,
  RLock,
  updateFile,
} from "../../mod.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { currentRuntime, runtimes } from "../support/env.ts";
import { lockOutsideLibrary, withPatchedFiles } from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { observeWaits } from "../support/waits.ts";

const PATIENT = { timeout: 60_000 } as const;

/** What happens to a lock file while it is held. */
const CHANGES: Record<string, (path: string) => void> = {
  removed: (path) => fs.unlinkSync(path),
  replaced(path) {
    fs.writeFileSync(`${path}.new`, "");
    fs.renameSync(`${path}.new`, path);
  },
  "renamed away": (path) => fs.renameSync(path, `${path}.old`),
};

/** Each function that waits for a lock file, and runs a body under it. */
const KINDS: Record<
  string,
  (path: string, body: (file?: LockedFile) => void) => Promise<void>
> = {
  Lock: (path, body) => new Lock(path, PATIENT).run(body),
  RLock: (path, body) => new RLock(path, PATIENT).run(body),
  async lockAll(path, body) {
    await using files = await lockAll([path], PATIENT);
    body(files.at(0));
  },
  // Its lock file is beside the file that it updates.
  async updateFile(path, body) {
    const file = path.slice(0, -".lock".length);
    await updateFile(file, (text) => {
      body();
      return `${text}+`;
    }, PATIENT);
  },
};

/** Returns whether the path names an open file. */
async function isAt(path: string, file: LockedFile): Promise<boolean> {
  const { dev, ino } = await file.stat();
  const name = fs.statSync(path);
  return name.dev === dev && name.ino === ino;
}

for (const [how, change] of Object.entries(CHANGES)) {
  test(
    `a waiter behind a holder whose lock file is ${how} is the only holder of the file at the path`,
    async () => {
      for (const runtime of runtimes) {
        await using holder = LockProcess.start(runtime);
        for (const [kind, wait] of Object.entries(KINDS)) {
          using dir = tempDir();
          const path = join(dir.path, "a.lock");
          await holder.call("acquire", path);
          using waits = observeWaits();
          const what = `${kind}, ${runtime.name}`;
          let inside: boolean | undefined;
          let free: LockedFile | null | undefined;
          const waiting = wait(path, (file) => {
            inside = file === undefined || fs.statSync(path).ino ===
                file.statSync().ino;
            free = new Lock(path).tryAcquireSync();
          });
          await waits.begun();
          change(path);
          await holder.call("release");
          await waiting;
          assert.equal(inside, true, what);
          assert.equal(free, null, what);
          assert.equal(openDescriptors(dir.path), 0);
        }
      }
    },
    "replacing open files",
  );

  test(
    `a blocked thread behind a holder whose lock file is ${how} locks the file at the path`,
    async () => {
      for (const options of [PATIENT, { flags: LOCK_EX }]) {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        await using holder = LockProcess.start(currentRuntime);
        await using waiter = LockProcess.start(currentRuntime);
        await holder.call("acquire", path);
        const waiting = waiter.call("acquireSync", path, options);
        await waiter.untilWaiting();
        change(path);
        await holder.call("release");
        await waiting;
        assert.equal(new Lock(path).tryAcquireSync(), null);
        await waiter.call("release");
        new Lock(path).acquireSync().closeSync();
      }
    },
    "replacing open files",
  );
}

test(
  "a waiter whose lock file is replaced waits for the holder of the new file, before the same deadline",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using holder = LockProcess.start(currentRuntime);
    await using newcomer = LockProcess.start(currentRuntime);
    for (const timeout of [1500, 60_000]) {
      await holder.call("acquire", path);
      using waits = observeWaits();
      const start = performance.now();
      const waiting = new Lock(path, { timeout }).acquire();
      const settled = waiting.then((file) => file, (error) => error);
      await waits.begun();
      fs.renameSync(path, `${path}.old`);
      await newcomer.call("acquire", path);
      await holder.call("release");
      if (timeout < 60_000) {
        const error = await settled;
        assert.ok(error instanceof AlreadyLocked, String(error));
        assert.ok(error.waited >= timeout - 1, `${error.waited}`);
        assert.ok(performance.now() - start < timeout + 30_000);
        await newcomer.call("release");
      } else {
        await newcomer.call("release");
        await using file = await waiting;
        assert.equal(await isAt(path, file), true);
      }
    }
    assert.equal(openDescriptors(dir.path), 0);
  },
  "replacing open files",
);

test(
  'with replaced: "ignore" a waiter keeps the lock on the file that it waited for',
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const other = lockOutsideLibrary(path);
    using waits = observeWaits();
    const waiting = new Lock(path, { ...PATIENT, replaced: "ignore" })
      .acquire();
    await waits.begun();
    fs.renameSync(path, `${path}.old`);
    other.release();
    await using file = await waiting;
    assert.equal(await isAt(`${path}.old`, file), true);
    assert.equal(fs.existsSync(path), false);
  },
  "replacing open files",
);

test(
  "a waiter follows a symbolic link to the file that it leads to after the wait",
  async () => {
    for (const replaced of [false, true]) {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const target = join(dir.path, "target");
      fs.writeFileSync(target, "");
      fs.symlinkSync("target", path);
      const other = lockOutsideLibrary(path);
      let opened = 0;
      const count = () => {
        opened++;
        return {};
      };
      await withPatchedFiles(count, async () => {
        using waits = observeWaits();
        const waiting = new Lock(path, PATIENT).acquire();
        await waits.begun();
        if (replaced) {
          fs.writeFileSync(`${target}2`, "");
          fs.unlinkSync(path);
          fs.symlinkSync("target2", path);
        }
        other.release();
        await using file = await waiting;
        assert.equal(await isAt(replaced ? `${target}2` : target, file), true);
      });
      assert.equal(opened, replaced ? 2 : 1);
    }
  },
  "symbolic links",
  "replacing open files",
);

test(
  "a waiter keeps a file that has lost another of its hard links",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    fs.writeFileSync(path, "");
    fs.linkSync(path, `${path}.2`);
    const other = lockOutsideLibrary(`${path}.2`);
    using waits = observeWaits();
    const waiting = new Lock(path, PATIENT).acquire();
    await waits.begun();
    fs.unlinkSync(`${path}.2`);
    const { ino } = fs.statSync(path);
    other.release();
    await using file = await waiting;
    assert.equal((await file.stat()).ino, ino);
  },
  "replacing open files",
);

test("a waiter checks the path that it opened, after the working directory has changed", async () => {
  using dir = tempDir();
  using elsewhere = tempDir();
  const before = process.cwd();
  const other = lockOutsideLibrary(join(dir.path, "a.lock"));
  try {
    process.chdir(dir.path);
    using waits = observeWaits();
    const waiting = new Lock("a.lock", PATIENT).acquire();
    await waits.begun();
    process.chdir(elsewhere.path);
    other.release();
    await using file = await waiting;
    assert.equal(await isAt(join(dir.path, "a.lock"), file), true);
    assert.deepEqual(fs.readdirSync(elsewhere.path), []);
  } finally {
    process.chdir(before);
  }
});

for (const mode of ["x", "x+"] as const) {
  test(
    `a waiter in mode "${mode}" creates its file again, but never opens one that another process has created`,
    async () => {
      for (const taken of [false, true]) {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        let holder: { release(): void } | undefined;
        // Another process locks the new file before its creator does.
        const overtake = (real: PlatformFile): Partial<PlatformFile> => ({
          tryLock(exclusive) {
            if (holder) return real.tryLock(exclusive);
            return (holder = lockOutsideLibrary(path)) === undefined;
          },
        });
        await withPatchedFiles(overtake, async () => {
          using waits = observeWaits();
          const lock = new Lock(path, { ...PATIENT, mode } as LockOptions);
          const waiting = lock.acquire();
          const settled = waiting.catch((error) => error);
          await waits.begun();
          fs.renameSync(path, `${path}.old`);
          if (taken) fs.writeFileSync(path, "theirs");
          holder!.release();
          if (taken) {
            assert.equal((await settled).code, "EEXIST");
            assert.equal(fs.readFileSync(path, "utf8"), "theirs");
          } else {
            await using file = await waiting;
            assert.equal(await isAt(path, file), true);
          }
        });
        assert.equal(openDescriptors(dir.path), 0);
      }
    },
    "replacing open files",
  );
}
