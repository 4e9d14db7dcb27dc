import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { AlreadyLocked, Lock, LOCK_EX, LOCK_NB, LOCK_SH } from "../../mod.ts";
import { LockUnsupported, TemporaryFileLock } from "../../mod.ts";
import type { LockedFile } from "../../mod.ts";
import type { Platform, PlatformFile } from "../../ffi/types.ts";
import { openDescriptors, waitForDescriptors } from "../support/descriptors.ts";
import { allRuntimes } from "../support/env.ts";
import {
  holdAsOther,
  systemError,
  withPatchedFiles,
  withPatchedPlatform,
} from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { disablePolling } from "../support/timers.ts";
import { at, deferred } from "../support/values.ts";
import { observeWaits, SHORT_WAIT_MS } from "../support/waits.ts";

const SHARED = { flags: LOCK_SH | LOCK_NB };
const NOBODY = 65534;

/** The async and the sync form, for tests of both. */
const FORMS: [
  string,
  (lock: TemporaryFileLock) => LockedFile | Promise<LockedFile>,
][] = [
  ["acquire()", (lock) => lock.acquire()],
  ["acquireSync()", (lock) => lock.acquireSync()],
];

function inode(path: string): string {
  const { dev, ino } = fs.statSync(path);
  return `${dev}:${ino}`;
}

function inodeOf(file: LockedFile): string {
  const { dev, ino } = file.statSync();
  return `${dev}:${ino}`;
}

/** Asserts that neither the file of a lock nor a descriptor is left. */
function assertNothingLeft(path: string) {
  assert.equal(fs.existsSync(path), false, "the file is left");
  assert.equal(openDescriptors(path), 0, "a descriptor is left");
  assert.equal(exitListeners(), 0);
}

/** Test runners add listeners, too. */
function exitListeners(): number {
  return process.listeners("exit").filter(({ name }) => name === "cleanUpAll")
    .length;
}

for (const [form, acquire] of FORMS) {
  test(`TemporaryFileLock.${form} creates a file that exists while the lock is held`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const lock = new TemporaryFileLock(path);
    assert.equal(fs.existsSync(path), false);
    for (let i = 0; i < 3; i++) {
      const file = await acquire(lock);
      assert.equal(lock.path, path);
      assert.equal(lock.locked, true);
      assert.equal(inode(path), inodeOf(file));
      assert.equal(fs.statSync(path).size, 0);
      file.writeTextSync("mine");
      assert.equal(await file.readText(), "mine");
      assert.equal(exitListeners(), 1);
      if (i % 2) file.closeSync();
      else await lock.release();
      assert.equal(lock.locked, false);
      assertNothingLeft(path);
    }
  });

  test(`TemporaryFileLock.${form} fails at once, unless it has a timeout`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using held = await holdAsOther(() =>
      new TemporaryFileLock(path).acquire()
    );
    const begin = performance.now();
    await assert.rejects(
      async () => await acquire(new TemporaryFileLock(path)),
      (error: AlreadyLocked) => {
        assert.ok(error instanceof AlreadyLocked);
        assert.equal(error.path, path);
        return true;
      },
    );
    assert.ok(performance.now() - begin < 4000);
    const timeout = SHORT_WAIT_MS;
    for (const options of [{ timeout }, { timeout, failWhenLocked: false }]) {
      await assert.rejects(
        async () => await acquire(new TemporaryFileLock(path, options)),
        (error: AlreadyLocked) => error.waited >= timeout,
      );
    }
    const impatient = { timeout: Infinity, failWhenLocked: true };
    await assert.rejects(
      async () => await acquire(new TemporaryFileLock(path, impatient)),
      AlreadyLocked,
    );
    assert.equal(inode(path), inodeOf(held), "the holder's file stays");
    assert.equal(openDescriptors(path), 1);
  });

  test(`TemporaryFileLock.${form}: unlink split-brain: the holder releases after this process has opened the file`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const holder = new TemporaryFileLock(path);
    await holder.acquire();
    // Only the first file that opens is the one that the holder unlinks.
    let attempts = 0;
    const change = (real: PlatformFile): Partial<PlatformFile> => ({
      tryLock(exclusive) {
        if (++attempts === 1) holder.releaseSync();
        return real.tryLock(exclusive);
      },
    });
    await withPatchedFiles(change, async () => {
      const file = await acquire(new TemporaryFileLock(path));
      assert.equal(attempts, 2);
      assert.equal(inode(path), inodeOf(file));
      assert.equal(await new TemporaryFileLock(path).tryAcquire(), null);
      await file.close();
    });
    assertNothingLeft(path);
  });

  test(`TemporaryFileLock.${form}: unlink split-brain: a third process acquires before this process locks`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const holder = new TemporaryFileLock(path);
    const third = new TemporaryFileLock(path);
    await holder.acquire();
    let attempts = 0;
    const change = (real: PlatformFile): Partial<PlatformFile> => ({
      tryLock(exclusive) {
        if (++attempts === 1) {
          holder.releaseSync();
          third.acquireSync();
        }
        return real.tryLock(exclusive);
      },
    });
    await withPatchedFiles(change, async () => {
      await assert.rejects(
        async () => await acquire(new TemporaryFileLock(path)),
        AlreadyLocked,
      );
    });
    assert.equal(third.locked, true);
    assert.equal(openDescriptors(path), 1);
    third.releaseSync();
    assertNothingLeft(path);
  });

  test(`TemporaryFileLock.${form}: unlink split-brain: a third process acquires while this process waits`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const holder = new TemporaryFileLock(path);
    const third = new TemporaryFileLock(path);
    await holder.acquire();
    let attempts = 0;
    const change = (real: PlatformFile): Partial<PlatformFile> => ({
      identity: () => null,
      tryLock(exclusive) {
        attempts++;
        if (attempts === 3) {
          holder.releaseSync();
          third.acquireSync();
        }
        // Two attempts later, on the file of the third process.
        if (attempts === 6) third.releaseSync();
        return real.tryLock(exclusive);
      },
    });
    await withPatchedFiles(change, async () => {
      const waiter = new TemporaryFileLock(path, { timeout: 60_000 });
      const file = await acquire(waiter);
      assert.equal(third.locked, false);
      assert.equal(inode(path), inodeOf(file));
      file.closeSync();
    });
    assertNothingLeft(path);
  });

  test(`TemporaryFileLock.${form} takes over and truncates the file of a killed process`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    for (const runtime of allRuntimes) {
      await using child = LockProcess.start(runtime);
      await child.call("hold", "TemporaryFileLock", path);
      fs.writeFileSync(path, "of a killed process");
      await child.kill();
      assert.ok(fs.existsSync(path), runtime.name);
      const file = await acquire(new TemporaryFileLock(path));
      assert.equal(file.readTextSync(), "");
      await file.close();
      assertNothingLeft(path);
    }
  });

  test(
    `TemporaryFileLock.${form}: planted symlink in a shared directory is rejected`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const victim = join(dir.path, "victim");
      for (
        const [exists, options] of [[true], [false], [true, SHARED]] as const
      ) {
        if (exists) fs.writeFileSync(victim, "intact");
        fs.symlinkSync(victim, path);
        const lock = new TemporaryFileLock(path, options);
        await assert.rejects(async () => await acquire(lock), {
          code: "ELOOP",
          message: /^Cannot lock .+: it is a symbolic link, which .+ refuse; /,
        });
        assert.equal(fs.existsSync(victim), exists, "no file is created");
        if (exists) assert.equal(fs.readFileSync(victim, "utf8"), "intact");
        assert.ok(fs.lstatSync(path).isSymbolicLink(), "no file is removed");
        fs.rmSync(path);
        fs.rmSync(victim, { force: true });
      }
      assertNothingLeft(path);
    },
    "symbolic links",
  );

  test(`TemporaryFileLock.${form}: planted symlink that replaces the file while it is opened is rejected`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const victim = join(dir.path, "victim");
    fs.writeFileSync(victim, "intact");
    // The first open follows the link, as in a runtime that cannot reject
    // links.
    let opened = 0;
    const followOnce = (how: Parameters<typeof realOpen>) => {
      const [, mode, ...rest] = how;
      return opened++ === 0
        ? realOpen(victim, { ...mode, noFollow: false }, ...rest)
        : realOpen(...how);
    };
    let realOpen!: (...how: Parameters<PlatformOpen>) => PlatformFile;
    await withPatchedPlatform((real) => {
      realOpen = real.openSync;
      return {
        open: (...how) => followOnce(how),
        openSync: (...how) => followOnce(how),
      };
    }, async () => {
      await using file = await acquire(new TemporaryFileLock(path));
      assert.equal(inode(path), inodeOf(file));
    });
    assert.equal(opened, 2);
    assert.equal(fs.readFileSync(victim, "utf8"), "intact");
    assertNothingLeft(path);
    assert.equal(openDescriptors(victim), 0);
  });

  test(`TemporaryFileLock.${form} truncates the file only after it is locked`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const held = await new TemporaryFileLock(path).acquire();
    await held.writeText("the holder's");
    await assert.rejects(async () =>
      await acquire(new TemporaryFileLock(path))
    );
    const late = new TemporaryFileLock(path, { timeout: SHORT_WAIT_MS });
    await assert.rejects(async () => await acquire(late));
    assert.equal(await held.readText(), "the holder's");
    await held.close();
    assertNothingLeft(path);
  });

  test(`TemporaryFileLock.${form} that cannot truncate its file releases the lock`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    fs.writeFileSync(path, "stale");
    const lock = new TemporaryFileLock(path);
    const fail = () => {
      throw systemError("EIO", 5);
    };
    await withPatchedFiles(
      () => ({ truncate: async () => await fail(), truncateSync: fail }),
      () =>
        assert.rejects(async () => await acquire(lock), {
          name: "LockException",
          code: "EIO",
        }),
    );
    assert.equal(lock.locked, false);
    assertNothingLeft(path);
    await (await acquire(lock)).close();
  });
}

type PlatformOpen = Platform["openSync"];

test("a TemporaryFileLock that cannot be released at exit does not prevent other releases", async () => {
  using dir = tempDir();
  const [a, b] = [join(dir.path, "a"), join(dir.path, "b")];
  const broken = () => ({
    unlock() {
      throw systemError("EIO", 5);
    },
  });
  const options = { throwOnReleaseError: true };
  await withPatchedFiles(
    broken,
    () => new TemporaryFileLock(a, options).acquire(),
  );
  const other = await new TemporaryFileLock(b).acquire();
  const releaseAll = at(process.listeners("exit"), -1) as () => void;
  releaseAll();
  assert.ok(!fs.existsSync(a) && !fs.existsSync(b));
  other.closeSync();
});

/** Creates a file with two names, and returns a check that both are intact. */
function planted(victim: string, path: string, content: string): () => void {
  fs.writeFileSync(victim, content);
  fs.linkSync(victim, path);
  return () => {
    for (const name of [victim, path]) {
      assert.equal(fs.readFileSync(name, "utf8"), content);
      assert.equal(inode(name), inode(victim));
    }
  };
}

for (const [form, acquire] of FORMS) {
  test(
    `TemporaryFileLock.${form}: a hard link in the place of a lock file is rejected`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const victim = join(dir.path, "victim");
      for (const content of ["precious", ""]) {
        const checkIntact = planted(victim, path, content);
        for (const options of [{}, SHARED, { timeout: 60_000 }]) {
          const lock = new TemporaryFileLock(path, options);
          await assert.rejects(async () => await acquire(lock), {
            name: "LockException",
            code: "EMLINK",
            path,
            message:
              /^Cannot lock .*a\.lock"?: it has 2 hard links \(EMLINK\).*use another path$/,
          });
          checkIntact();
          assert.equal(openDescriptors(dir.path), 0);
          assert.equal(exitListeners(), 0);
        }
        fs.rmSync(victim);
        await (await acquire(new TemporaryFileLock(path))).close();
        assertNothingLeft(path);
      }
    },
    "hard links",
  );

  test(
    `TemporaryFileLock.${form}: a hard link that appears between open and lock is rejected`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const victim = join(dir.path, "victim");
      let checkIntact = () => {};
      await withPatchedFiles((real) => ({
        tryLock(exclusive) {
          if (!fs.existsSync(victim)) {
            fs.rmSync(path);
            checkIntact = planted(victim, path, "precious");
          }
          return real.tryLock(exclusive);
        },
      }), () =>
        assert.rejects(
          async () => await acquire(new TemporaryFileLock(path)),
          { code: "EMLINK" },
        ));
      checkIntact();
      assert.equal(openDescriptors(dir.path), 0);
    },
    "hard links",
    "unlinking open files",
  );

  test(
    `TemporaryFileLock.${form} that gets a second name while it is held removes only its own name`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const other = join(dir.path, "other");
      const file = await acquire(new TemporaryFileLock(path));
      file.writeTextSync("kept");
      fs.linkSync(path, other);
      file.closeSync();
      assertNothingLeft(path);
      assert.equal(fs.readFileSync(other, "utf8"), "kept");
    },
    "hard links",
  );

  test(
    `TemporaryFileLock.${form} does not truncate a file whose names it cannot count`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const victim = join(dir.path, "victim");
      planted(victim, path, "precious");
      await withPatchedFiles((real) => ({
        nameAtSync(path, noFollow) {
          const name = real.nameAtSync(path, noFollow);
          return name && { ...name, nlink: null };
        },
      }), async () => {
        const file = await acquire(new TemporaryFileLock(path));
        assert.equal(file.statSync().size, 0);
        assert.notEqual(inode(path), inode(victim));
        file.closeSync();
      });
      assertNothingLeft(path);
      assert.equal(fs.readFileSync(victim, "utf8"), "precious");
    },
    "hard links",
  );

  test(
    `TemporaryFileLock.${form} rejects a FIFO and a device, and removes neither`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      for (
        const create of [["mkfifo", path], ["mknod", path, "c", "1", "3"]]
      ) {
        execFileSync(at(create, 0), create.slice(1));
        for (const options of [{}, SHARED]) {
          const lock = new TemporaryFileLock(path, options);
          await assert.rejects(
            async () => await acquire(lock),
            (error: AlreadyLocked) => {
              // Deno without FFI does not open a FIFO at all.
              assert.ok(
                error instanceof LockUnsupported || error.code === "EEXIST",
              );
              return true;
            },
          );
          assert.equal(fs.lstatSync(path).isFile(), false);
        }
        fs.rmSync(path);
      }
      assertNothingLeft(path);
    },
    "mkfifo(1)",
    "root",
  );
}

test(
  "TemporaryFileLock.acquire() aborted while it opens a hard link or a file with content keeps it",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const victim = join(dir.path, "victim");
    for (const hasLink of [true, false]) {
      for (const content of ["precious", ""]) {
        const checkIntact = planted(victim, path, content);
        if (!hasLink) fs.rmSync(victim);
        const opening = deferred<void>();
        const opened = deferred<void>();
        const closed = deferred<void>();
        const controller = new AbortController();
        await withPatchedPlatform((real) => ({
          async open(...how) {
            opening.resolve();
            await opened.promise;
            const file = real.openSync(...how);
            return {
              ...file,
              ...bindMethods(file),
              close: () => (file.closeSync(), closed.resolve()),
            };
          },
        }), async () => {
          const { signal } = controller;
          const acquiring = new TemporaryFileLock(path).acquire({ signal });
          await opening.promise;
          controller.abort("enough");
          await assert.rejects(acquiring, (reason) => reason === "enough");
          opened.resolve();
          await closed.promise;
        });
        if (hasLink) checkIntact();
        else assert.equal(fs.existsSync(path), content !== "");
        for (const name of [victim, path]) fs.rmSync(name, { force: true });
      }
    }
  },
  "hard links",
);

for (const [form, acquire] of FORMS) {
  test(`TemporaryFileLock.${form} removes its file after the working directory has changed`, async () => {
    using dir = tempDir();
    using elsewhere = tempDir();
    const before = process.cwd();
    try {
      process.chdir(dir.path);
      const lock = new TemporaryFileLock("a.lock");
      const file = await acquire(lock);
      assert.equal(file.path, "a.lock");
      process.chdir(elsewhere.path);
      file.closeSync();
      assertNothingLeft(join(dir.path, "a.lock"));
      // The lock object still means the same file.
      using _ = await acquire(lock);
      assert.ok(fs.existsSync(join(dir.path, "a.lock")));
    } finally {
      process.chdir(before);
    }
    assertNothingLeft(join(dir.path, "a.lock"));
    assert.deepEqual(sortedNames(elsewhere.path), []);
  });
}

test("TemporaryFileLock has the default path .lock", () => {
  assert.equal(new TemporaryFileLock().path, ".lock");
  const options = { mode: "a" } as object;
  assert.throws(() => new TemporaryFileLock("a.lock", options), TypeError);
});

test("TemporaryFileLock.acquire() options override the options of the lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const holder = new TemporaryFileLock(path);
  const lock = new TemporaryFileLock(path);
  for (const options of [{ failWhenLocked: false }, { timeout: 60_000 }]) {
    await holder.acquire();
    using waits = observeWaits();
    const waiting = lock.acquire(options);
    await waits.begun();
    await holder.release();
    await (await waiting).close();
  }
  await holder.acquire();
  const patient = new TemporaryFileLock(path, { timeout: 60_000 });
  await assert.rejects(patient.acquire({ failWhenLocked: true }));
  await assert.rejects(patient.acquire({ timeout: 0 }));
  assert.equal(await patient.tryAcquire(), null);
  assert.equal(patient.tryAcquireSync(), null);
  await holder.release();
  assertNothingLeft(path);
});

test("TemporaryFileLock with flags without LOCK_NB waits without a limit", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const holder = await new TemporaryFileLock(path).acquire();
  using waits = observeWaits();
  const waiting = new TemporaryFileLock(path, { flags: LOCK_EX }).acquire();
  await waits.begun();
  await holder.close();
  await (await waiting).close();
  assertNothingLeft(path);
});

test(
  "TemporaryFileLock is woken by the release",
  async () => {
    for (const runtime of allRuntimes) {
      if (runtime.name === "deno without FFI") continue;
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      await using child = LockProcess.start(runtime);
      await child.call("hold", "TemporaryFileLock", path);
      using polling = disablePolling(30);
      const options = { timeout: Infinity, checkInterval: 60_000 };
      const waiting = new TemporaryFileLock(path, options).acquire();
      await polling.untilAsleep();
      await child.call("drop");
      const file = await waiting;
      assert.equal(inode(path), inodeOf(file));
      await file.close();
    }
  },
  "inotify(7)",
);

test("TemporaryFileLock calls onWait with the holder", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const holder = new TemporaryFileLock(path);
  await holder.acquire();
  let reported = 0;
  const lock = new TemporaryFileLock(path, {
    timeout: 60_000,
    onWait(wait) {
      reported++;
      assert.equal(wait.path, path);
      assert.ok(wait.waited >= 100);
      for (const { pid } of wait.holders) assert.equal(pid, process.pid);
      holder.releaseSync();
    },
  });
  await (await lock.acquire()).close();
  assert.equal(reported, 1);
  assertNothingLeft(path);
});

test("TemporaryFileLock.acquire() aborted while waiting leaves no file and no descriptor", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const holder = await new TemporaryFileLock(path).acquire();
  const controller = new AbortController();
  const { signal } = controller;
  const lock = new TemporaryFileLock(path, { timeout: 60_000, signal });
  using waits = observeWaits();
  const waiting = lock.acquire();
  await waits.begun();
  controller.abort("enough");
  await assert.rejects(waiting, (reason) => reason === "enough");
  await waitForDescriptors(path, 1);
  assert.equal(inode(path), inodeOf(holder));
  await holder.close();
  await assert.rejects(lock.acquire(), (reason) => reason === "enough");
  assertNothingLeft(path);
});

test(
  "TemporaryFileLock.acquire() aborted while its file is created removes it, unless another process holds it",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    for (const fate of ["free", "held", "replaced"]) {
      const opening = deferred();
      const opened = deferred();
      const closed = deferred();
      const controller = new AbortController();
      await withPatchedPlatform((real) => ({
        async open(...how) {
          opening.resolve();
          await opened.promise;
          const file = real.openSync(...how);
          if (fate === "replaced") {
            fs.writeFileSync(`${path}.other`, "another's");
            fs.renameSync(`${path}.other`, path);
          }
          return {
            ...file,
            ...bindMethods(file),
            close: () => (file.closeSync(), closed.resolve()),
          };
        },
      }), async () => {
        const { signal } = controller;
        const acquiring = new TemporaryFileLock(path).acquire({ signal });
        await opening.promise;
        controller.abort("enough");
        await assert.rejects(acquiring, (reason) => reason === "enough");
        using holder = fate === "held"
          ? new TemporaryFileLock(path).acquireSync()
          : null;
        opened.resolve();
        await closed.promise;
        assert.equal(fs.existsSync(path), fate !== "free");
        if (fate === "replaced") fs.unlinkSync(path);
        if (holder) assert.equal(inode(path), inodeOf(holder));
      });
      assertNothingLeft(path);
    }
  },
  "replacing open files",
);

/** Binds the methods of a file to the file. */
function bindMethods(file: PlatformFile): PlatformFile {
  return new Proxy(file, {
    ownKeys: () => [
      "tryLock",
      "unlock",
      "nameAt",
      "nameAtSync",
      "isStillAt",
      "seek",
      "unlink",
      "closeSync",
    ],
    getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }),
    get(target, name) {
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

test("a shared TemporaryFileLock keeps its file while other readers hold it", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  for (const form of ["close", "closeSync"] as const) {
    const one = await new TemporaryFileLock(path, SHARED).acquire();
    const two = new TemporaryFileLock(path, SHARED).acquireSync();
    assert.equal(inodeOf(one), inodeOf(two));
    await one[form]();
    assert.equal(await new TemporaryFileLock(path).tryAcquire(), null);
    assert.equal(inode(path), inodeOf(two), "the file must still be there");
    await two[form]();
    assertNothingLeft(path);
  }
});

test("the last reader of a shared TemporaryFileLock removes its file", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using child = LockProcess.start(runtime);
    for (const last of ["we", "they"]) {
      await child.call("hold", "TemporaryFileLock", path, SHARED);
      const file = await new TemporaryFileLock(path, SHARED).acquire();
      if (last === "they") await file.close();
      else await child.call("drop");
      assert.ok(fs.existsSync(path));
      const writer = new TemporaryFileLock(path);
      assert.equal(await writer.tryAcquire(), null);
      if (last === "they") await child.call("drop");
      else await file.close();
      assertNothingLeft(path);
    }
  }
});

test("a shared TemporaryFileLock is removed when two readers release together, as on macOS", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  let meanwhile = () => {};
  const stays = (file: PlatformFile): Partial<PlatformFile> => ({
    // On macOS, flock(2) keeps a shared lock whose upgrade fails.
    tryLock(exclusive) {
      if (file.tryLock(exclusive)) return true;
      if (exclusive) file.tryLock(false);
      const then = meanwhile;
      meanwhile = () => {};
      then();
      return false;
    },
  });
  await withPatchedFiles(stays, async () => {
    const one = await new TemporaryFileLock(path, SHARED).acquire();
    const two = new TemporaryFileLock(path, SHARED).acquireSync();
    meanwhile = () => two.closeSync();
    await one.close();
  });
  assertNothingLeft(path);
});

test("a shared TemporaryFileLock keeps the content of the file", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "kept");
  await using file = await new TemporaryFileLock(path, SHARED).acquire();
  assert.equal(await file.readText(), "kept");
});

test(
  "TemporaryFileLock keeps a file that another process has put in its place",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    for (const options of [{}, SHARED]) {
      const lock = new TemporaryFileLock(path, options);
      await lock.acquire();
      fs.rmSync(path);
      await lock.release();
      assertNothingLeft(path);
      await lock.acquire();
      fs.rmSync(path);
      const other = await new TemporaryFileLock(path).acquire();
      await lock.release();
      assert.equal(inode(path), inodeOf(other));
      await other.close();
      assertNothingLeft(path);
      await lock.acquire();
      fs.renameSync(path, `${path}.moved`);
      fs.symlinkSync(`${path}.moved`, path);
      await lock.release();
      assert.ok(fs.lstatSync(path).isSymbolicLink());
      fs.rmSync(path);
      fs.rmSync(`${path}.moved`);
    }
  },
  "symbolic links",
);

test("TemporaryFileLock reports a file that is replaced again and again", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new TemporaryFileLock(path, { timeout: Infinity });
  await withPatchedFiles(() => ({ nameAtSync: () => null }), async () => {
    await assert.rejects(lock.acquire(), LockUnsupported);
    assert.throws(() => lock.acquireSync(), LockUnsupported);
  });
  assert.equal(openDescriptors(path), 0);
  await lock.run(() => {});
});

test("TemporaryFileLock retries if other processes lock the file first", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new TemporaryFileLock(path, { timeout: 60_000 });
  let files = 0;
  let attempts = 0;
  await withPatchedFiles((real) => {
    files++;
    let first = true;
    return {
      // Each file was locked when it was opened and unlinked when it became
      // free.
      tryLock(exclusive) {
        attempts++;
        if (files > 20_000 || !first) return real.tryLock(exclusive);
        return first = false;
      },
      nameAtSync: (path, noFollow) =>
        files > 20_000 ? real.nameAtSync(path, noFollow) : null,
      watchClose: () => null,
      lockKey: () => null,
    };
  }, () => lock.acquireSync().closeSync());
  assert.ok(attempts > 40_000);
  assertNothingLeft(path);
});

test("TemporaryFileLock that cannot check its path holds nothing", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new TemporaryFileLock(path);
  await withPatchedFiles(() => ({
    nameAtSync() {
      throw systemError("EIO", 5);
    },
  }), async () => {
    await assert.rejects(lock.acquire(), { code: "EIO" });
    assert.throws(() => lock.acquireSync(), { code: "EIO" });
  });
  assert.equal(lock.locked, false);
  assert.equal(openDescriptors(path), 0);
  await lock.run(() => {});
  assertNothingLeft(path);
});

test("TemporaryFileLock on a file system without locks holds nothing", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new TemporaryFileLock(path, { timeout: Infinity });
  await withPatchedFiles(() => ({
    tryLock() {
      throw systemError("ENOSYS", 38);
    },
  }), () => assert.rejects(lock.acquire(), LockUnsupported));
  assert.equal(openDescriptors(path), 0);
  assert.equal(exitListeners(), 0);
});

test(
  "TemporaryFileLock creates its file with creationMode minus the umask",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const umask = process.umask(0o027);
    try {
      for (
        const [options, mode] of [
          [{}, 0o640],
          [{ creationMode: 0o604 }, 0o600],
        ] as const
      ) {
        const lock = new TemporaryFileLock(path, options);
        await lock.acquire();
        assert.equal(fs.statSync(path).mode & 0o777, mode);
        await lock.release();
        lock.acquireSync();
        assert.equal(fs.statSync(path).mode & 0o777, mode);
        lock.releaseSync();
      }
      fs.writeFileSync(path, "");
      assert.equal(
        fs.statSync(path).mode & 0o777,
        0o640,
        "the umask must not change",
      );
    } finally {
      process.umask(umask);
    }
  },
  "permission bits",
);

test("TemporaryFileLock shared by 100 tasks serves them one by one in FIFO order", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new TemporaryFileLock(path, { timeout: 60_000 });
  let inside = 0;
  const order: number[] = [];
  await Promise.all(Array.from({ length: 100 }, (_, i) =>
    lock.run(async () => {
      assert.equal(++inside, 1);
      assert.ok(fs.existsSync(path));
      await delay(i % 7 === 0 ? 1 : 0);
      order.push(i);
      inside--;
    })));
  assert.deepEqual(order, Array.from({ length: 100 }, (_, i) => i));
  assertNothingLeft(path);
});

test("TemporaryFileLock with 100 objects has one holder at a time", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  let inside = 0;
  await Promise.all(
    Array.from(
      { length: 100 },
      () =>
        new TemporaryFileLock(path, { timeout: 60_000 }).run(async (file) => {
          assert.equal(++inside, 1);
          assert.equal(inode(path), inodeOf(file));
          await delay(0);
          inside--;
        }),
    ),
  );
  assertNothingLeft(path);
});

test("TemporaryFileLock excludes processes of every runtime", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using child = LockProcess.start(runtime);
    await child.call("hold", "TemporaryFileLock", path);
    const lock = new TemporaryFileLock(path);
    assert.equal(await lock.tryAcquire(), null);
    assert.equal(await new Lock(path).tryAcquire(), null);
    const waiting = lock.acquire({ timeout: 60_000 });
    await child.call("drop");
    const file = await waiting;
    assert.equal(inode(path), inodeOf(file));
    assert.equal(
      await child.call("attempt", "TemporaryFileLock", path),
      false,
    );
    await file.close();
    assertNothingLeft(path);
  }
});

test("an error about a lock file without permissions names the owner", async () => {
  const refused = () => {
    const error = systemError("EACCES", 13);
    assert.match(error.stack!, /injected EACCES/);
    throw error;
  };
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "");
  const { uid } = fs.statSync(path);
  const named = new RegExp(`^injected EACCES \\(owned by user ${uid}\\)$`);
  await withPatchedPlatform(
    () => ({ open: refused, openSync: refused }),
    async () => {
      for (const [, acquire] of FORMS) {
        await assert.rejects(
          async () => await acquire(new TemporaryFileLock(path)),
          (error: Error) => {
            assert.match(error.message, named);
            assert.match(error.stack!, /injected EACCES \(owned by/);
            return true;
          },
        );
      }
      const nowhere = new Lock(`${path}.missing`);
      await assert.rejects(nowhere.acquire(), { message: "injected EACCES" });
    },
  );
});

test(
  "sticky /tmp with protected_regular: the kernel allows locking a file of another user",
  () => {
    using dir = tempDir();
    fs.chmodSync(dir.path, 0o1777);
    for (const kind of [Lock, TemporaryFileLock]) {
      const path = join(dir.path, `${kind.name}.lock`);
      fs.writeFileSync(path, "");
      fs.chownSync(path, NOBODY, NOBODY);
      fs.chmodSync(path, 0o666);
      assert.throws(() => fs.openSync(path, "a"), { code: "EACCES" });
      using file = new kind(path).acquireSync();
      assert.equal(inode(path), inodeOf(file));
      file.closeSync();
      fs.rmSync(path, { force: true });
    }
  },
  "root",
  "protected_regular",
  "permission bits",
);

test(
  "workers: a thread that ends removes the file of an exclusive lock, but not of a shared one",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a");
    const events: string[] = [];
    const unlinkOnThreadExit: Platform["unlinkOnThreadExit"] = (_, path) => {
      events.push(basename(path));
      return () => events.push(`cancelled before ${fs.existsSync(path)}`);
    };
    const patch = (real: Platform) => ({ ...real, unlinkOnThreadExit });
    await withPatchedPlatform(patch, async () => {
      await new TemporaryFileLock(path, SHARED).run(() => {});
      assert.deepEqual(events, []);
      await new TemporaryFileLock(path).run(() => {});
      assert.deepEqual(events, ["a", "cancelled before true"]);
    });
  },
  "file descriptors",
);
