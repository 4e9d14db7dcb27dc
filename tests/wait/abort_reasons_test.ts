import assert from "node:assert/strict";
import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  BoundedSemaphore,
  Lock,
  lockAll,
  openAtomic,
  PidFileLock,
  RLock,
  TemporaryFileLock,
  updateFile,
} from "../../mod.ts";
import type { AcquireOptions } from "../../mod.ts";
import {
  abortReasons,
  assertRejectsWith,
  REASONS,
} from "../support/abort_reasons.ts";
import { openDescriptors, waitForDescriptors } from "../support/descriptors.ts";
import {
  lockOutsideLibrary,
  systemError,
  withPatchedPlatform,
} from "../support/platform.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { deferred } from "../support/values.ts";
import { observeWaits } from "../support/waits.ts";

/** Starts an acquisition. Each call uses the same lock object, if there is one. */
type Acquire = (options: AcquireOptions) => Promise<unknown>;

/** The public methods that wait, and the file that each of them locks. */
const METHODS: Record<string, {
  make(path: string): Acquire;
  file?(path: string): string;
}> = {
  "Lock.acquire": {
    make: (path) => {
      const lock = new Lock(path);
      return (options) => lock.acquire(options);
    },
  },
  "Lock.run": {
    make: (path) => {
      const lock = new Lock(path);
      return (options) => lock.run(() => {}, options);
    },
  },
  "RLock.acquire": {
    make: (path) => {
      const lock = new RLock(path);
      return (options) => lock.acquire(options);
    },
  },
  "RLock.run": {
    make: (path) => {
      const lock = new RLock(path);
      return (options) => lock.run(() => {}, options);
    },
  },
  "TemporaryFileLock.acquire": {
    make: (path) => {
      const lock = new TemporaryFileLock(path, { failWhenLocked: false });
      return (options) => lock.acquire(options);
    },
  },
  "PidFileLock.acquire": {
    make: (path) => {
      const lock = new PidFileLock(path, { failWhenLocked: false });
      return (options) => lock.acquire(options);
    },
    file: (path) => `${path}.lock`,
  },
  "BoundedSemaphore.acquire": {
    make: (path) => {
      const lock = new BoundedSemaphore(1, {
        directory: dirname(path),
        name: basename(path),
        filenamePattern: "{name}.{number}",
        failWhenLocked: false,
      });
      return (options) => lock.acquire(options);
    },
    file: (path) => `${path}.0`,
  },
  lockAll: {
    make: (path) => (options) => lockAll([path], options),
  },
  updateFile: {
    make: (path) => (options) => updateFile(path, () => "new", options),
    file: (path) => `${path}.lock`,
  },
};

const UNLIMITED = { timeout: Infinity };

for (
  const [name, { make, file = (path: string) => path }] of Object.entries(
    METHODS,
  )
) {
  test(`${name} rejects with any reason of a signal that is aborted before`, async () => {
    for (const aborting of abortReasons()) {
      using dir = tempDir();
      aborting.abort();
      const { signal } = aborting;
      await aborting.rejects(make(join(dir.path, "a"))({ signal }));
      assert.deepEqual(fs.readdirSync(dir.path), []);
    }
  });

  test(`${name} rejects with any abort reason while the file is being opened`, async () => {
    for (const aborting of abortReasons()) {
      using dir = tempDir();
      const opened = deferred();
      await withPatchedPlatform((real) => ({
        async open(...how) {
          setTimeout(aborting.abort, 5);
          await opened.promise;
          return await real.open(...how);
        },
      }), async () => {
        const { signal } = aborting;
        await aborting.rejects(make(join(dir.path, "a"))({ signal }));
        opened.resolve();
        await delay(10);
      });
      await waitForDescriptors(dir.path, 0);
    }
  });

  test(`${name} rejects with any abort reason while another process holds the lock`, async () => {
    for (const aborting of abortReasons()) {
      using dir = tempDir();
      const path = join(dir.path, "a");
      const holder = lockOutsideLibrary(file(path));
      using waits = observeWaits();
      const { signal } = aborting;
      const waiting = make(path)({ signal, ...UNLIMITED });
      await waits.begun();
      aborting.abort();
      await aborting.rejects(waiting);
      holder.release();
      await waitForDescriptors(dir.path, 0);
    }
  });

  for (const same of [true, false]) {
    const through = same ? "this object" : "other objects";
    test(`${name} rejects with any abort reason in the queue of ${through}`, async () => {
      for (const aborting of abortReasons()) {
        using dir = tempDir();
        const path = join(dir.path, "a");
        const holder = lockOutsideLibrary(file(path));
        using waits = observeWaits();
        const last = new AbortController();
        const first = make(path);
        const ahead = first({ signal: last.signal, ...UNLIMITED });
        await waits.begun();
        const { signal } = aborting;
        const waiting = (same ? first : make(path))({ signal, ...UNLIMITED });
        await waits.begun(2);
        aborting.abort();
        await aborting.rejects(waiting);
        last.abort("the end");
        await assertRejectsWith(ahead, () => "the end");
        holder.release();
        await waitForDescriptors(dir.path, 0);
      }
    });
  }

  test(`${name} rejects with any value that onWait throws`, async () => {
    for (const reason of REASONS) {
      using dir = tempDir();
      const path = join(dir.path, "a");
      const holder = lockOutsideLibrary(file(path));
      const onWait = () => {
        throw reason;
      };
      const waiting = make(path)({ onWait, ...UNLIMITED });
      await assertRejectsWith(waiting, () => reason);
      holder.release();
      await waitForDescriptors(dir.path, 0);
    }
  });
}

test("BoundedSemaphore.acquire rejects with any abort reason while a read-only slot is being opened", async () => {
  for (const aborting of abortReasons()) {
    using dir = tempDir();
    const opened = deferred();
    await withPatchedPlatform((real) => ({
      async open(path, mode, ...how) {
        if (mode.write) throw systemError("EACCES", 13);
        setTimeout(aborting.abort, 5);
        await opened.promise;
        return await real.open(path, { ...mode, create: true }, ...how);
      },
    }), async () => {
      const { signal } = aborting;
      const slots = new BoundedSemaphore(2, { directory: dir.path });
      await aborting.rejects(slots.acquire({ signal, timeout: 60_000 }));
      opened.resolve();
      await delay(10);
    });
    await waitForDescriptors(dir.path, 0);
  }
});

test("a function of the caller may throw any value", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.txt");
  for (const reason of REASONS) {
    const fail = () => {
      throw reason;
    };
    const calls = [
      () => new Lock(path).run(fail),
      () => new RLock(path).run(fail),
      () => updateFile(path, fail),
      () => openAtomic(path, { replace: true }, fail),
      () => lockAll({ [Symbol.iterator]: fail }),
    ];
    for (const call of calls) await assertRejectsWith(call(), () => reason);
  }
  assert.equal(openDescriptors(dir.path), 0);
  assert.deepEqual(sortedNames(dir.path), ["a.txt", "a.txt.lock"]);
});
