import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { findState } from "../../ffi/runtime/shared_state.ts";
import * as own from "../../mod.ts";
import { Deadline } from "../../src/wait/deadline.ts";
import { loadCopy } from "../support/copies.ts";
import type { Portalock } from "../support/copies.ts";
import { descriptorTargets } from "../support/descriptors.ts";
import { currentRuntime } from "../support/env.ts";
import { lockOutsideLibrary, withPatchedFiles } from "../support/platform.ts";
import { currentFixtureCommand, runScript } from "../support/processes.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { disablePolling } from "../support/timers.ts";
import { deferred } from "../support/values.ts";
import { observeWaits } from "../support/waits.ts";

const { LOCK_EX, LOCK_SH } = own;

/** Ends a wait that would not end without the shared state. */
const soon = () => AbortSignal.timeout(20_000);

const ownUrl = pathToFileURL(
  join(currentRuntime.directory, `mod${currentRuntime.extension}`),
).href;

test("two copies in one thread serve their waiters in one FIFO order", async () => {
  using copy = await loadCopy();
  using dir = tempDir();
  using waits = observeWaits();
  const path = join(dir.path, "a.lock");
  const holder = await new copy.portalock.Lock(path).acquire();
  const order: number[] = [];
  const waiting: Promise<void>[] = [];
  for (let i = 0; i < 6; i++) {
    const { Lock } = i % 2 === 0 ? own : copy.portalock;
    const lock = new Lock(path, { timeout: 60_000 });
    waiting.push(lock.run(() => void order.push(i)));
    await waits.begun(i + 1);
  }
  await holder.close();
  await Promise.all(waiting);
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5]);
});

test("two copies in one thread serve the waiters for a semaphore in one FIFO order", async () => {
  using copy = await loadCopy();
  using dir = tempDir();
  using waits = observeWaits();
  const options = { directory: dir.path, name: "two", failWhenLocked: false };
  const semaphore = ({ BoundedSemaphore }: Portalock) =>
    new BoundedSemaphore(1, { ...options, timeout: 60_000 });
  const holder = await semaphore(copy.portalock).acquire();
  assert.throws(() => semaphore(own).acquireSync(), { code: "EDEADLK" });
  const order: number[] = [];
  const waiting: Promise<void>[] = [];
  for (let i = 0; i < 6; i++) {
    const one = semaphore(i % 2 === 0 ? own : copy.portalock);
    waiting.push(one.run(() => void order.push(i)));
    await waits.begun(i + 1);
  }
  await holder.close();
  await Promise.all(waiting);
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5]);
});

test("a release wakes a waiter of another copy, also where the system reports nothing", async () => {
  using copy = await loadCopy();
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  using _copyWatches = copy.withoutWatches();
  await withPatchedFiles(() => ({ watchClose: () => null }), async () => {
    for (const [holding, waiting] of pairs(copy.portalock)) {
      using polling = disablePolling(0);
      const holder = await new holding.Lock(path).acquire();
      const lock = new waiting.Lock(path, { timeout: 1e9, signal: soon() });
      const acquired = lock.acquire();
      await polling.untilAsleep();
      await holder.close();
      await (await acquired).close();
    }
  });
});

/** Both orders of this copy and another one. */
function pairs(copy: Portalock): [one: Portalock, other: Portalock][] {
  return [[own, copy], [copy, own]];
}

test(
  "acquireSync() does not wait for a lock that another copy holds in this thread",
  async () => {
    using copy = await loadCopy();
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    for (const [holding, waiting] of pairs(copy.portalock)) {
      await using _held = await new holding.Lock(path).acquire();
      assert.throws(
        () => new waiting.Lock(path, { timeout: 60_000 }).acquireSync(),
        { code: "EDEADLK" },
      );
    }
  },
  "one lock per open file",
);

test(
  "unlock() ends the lock of a file that another copy has locked",
  async () => {
    using copy = await loadCopy();
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    for (const [locking, unlocking] of pairs(copy.portalock)) {
      await using file = await new locking.Lock(path).acquire();
      unlocking.unlock(file.fd!);
      const outside = lockOutsideLibrary(path);
      for (const { Lock } of [own, copy.portalock]) {
        assert.throws(
          () => new Lock(path, { timeout: 20 }).acquireSync(),
          { code: "EWOULDBLOCK" },
        );
      }
      outside.release();
    }
  },
  "file descriptors",
  "one lock per open file",
);

test(
  "lock() upgrades the lock of another copy ahead of the queue",
  async () => {
    using copy = await loadCopy();
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    fs.writeFileSync(path, "");
    for (const [locking, upgrading] of pairs(copy.portalock)) {
      using waits = observeWaits();
      const fd = fs.openSync(path, "r+");
      await locking.lock(fd, LOCK_SH);
      const waiting = new own.Lock(path, { timeout: 60_000 }).run(() => {});
      await waits.begun();
      await upgrading.lock(fd, LOCK_EX, { signal: soon() });
      locking.unlock(fd);
      await waiting;
      fs.closeSync(fd);
    }
  },
  "file descriptors",
  "one lock per open file",
);

test("of the atomic writes of two copies, the last call wins", async () => {
  using copy = await loadCopy();
  using dir = tempDir();
  const path = join(dir.path, "a");
  const replace = { replace: true };
  for (const [first, second] of pairs(copy.portalock)) {
    const pending = first.writeAtomic(path, "first", replace);
    second.writeAtomicSync(path, "second", replace);
    await pending;
    assert.equal(fs.readFileSync(path, "utf8"), "second");
  }
  assert.deepEqual(sortedNames(dir.path), ["a"]);
});

test("updateFile() of two copies runs in the order of the calls", async () => {
  using copy = await loadCopy();
  using dir = tempDir();
  using waits = observeWaits();
  const path = join(dir.path, "a");
  const inside = deferred();
  const end = deferred();
  const first = own.updateFile(path, async () => {
    inside.resolve();
    await end.promise;
    return "";
  });
  await inside.promise;
  const updates = [first];
  for (let i = 0; i < 6; i++) {
    const { updateFile } = i % 2 === 0 ? own : copy.portalock;
    const append = (text: string) => text + i;
    updates.push(updateFile(path, append, { timeout: 60_000 }));
    await waits.begun(i + 1);
  }
  end.resolve();
  await Promise.all(updates);
  assert.equal(fs.readFileSync(path, "utf8"), "012345");
});

test("updateFile() that waits for another copy rejects with the reason of its signal", async () => {
  using copy = await loadCopy();
  using dir = tempDir();
  using waits = observeWaits();
  const path = join(dir.path, "a");
  const inside = deferred();
  const end = deferred();
  const first = copy.portalock.updateFile(path, async () => {
    inside.resolve();
    await end.promise;
    return "";
  });
  await inside.promise;
  const controller = new AbortController();
  const { signal } = controller;
  const second = own.updateFile(path, () => "", { signal });
  await waits.begun();
  const reason = new Error("not needed anymore");
  const { stack } = reason;
  controller.abort(reason);
  await assert.rejects(second, (error) => error === reason);
  assert.equal(reason.stack, stack);
  assert.equal(reason.cause, undefined);
  end.resolve();
  await first;
});

test("an error is an instance of the class of another copy", async () => {
  using copy = await loadCopy();
  const NAMES = [
    "LockException",
    "AlreadyLocked",
    "AlreadyExists",
    "FileTooLarge",
    "LockUnsupported",
    "LockLostError",
  ] as const;
  for (const [one, other] of pairs(copy.portalock)) {
    for (const name of NAMES) {
      const error = new one[name]("x");
      for (const type of NAMES) {
        const expected = type === name || type === "LockException";
        assert.equal(error instanceof other[type], expected, type);
        assert.equal(error instanceof one[type], expected, type);
      }
    }
    class Derived extends one.AlreadyLocked {}
    assert.ok(new Derived("x") instanceof other.AlreadyLocked);
    assert.ok(new Derived("x") instanceof Derived);
    assert.ok(!(new other.AlreadyLocked("x") instanceof Derived));
    assert.ok(!(new one.AlreadyLocked("x") instanceof Derived));
    for (const value of [null, undefined, "x", {}, new Error("x")]) {
      assert.ok(!(value instanceof other.LockException));
    }
  }
});

for (
  const [how, expected] of [["end", 0], ["exit", 7], ["throw", 1], [
    "reject",
    1,
  ]] as const
) {
  test(`the files of two copies are removed when their process ends: ${how}`, async () => {
    using copy = await loadCopy();
    using dir = tempDir();
    const { code, stdout, stderr } = await runScript([
      ...currentFixtureCommand("copies_end"),
      how,
      dir.path,
      ownUrl,
      copy.url,
    ]);
    // Of each copy: two locks, a PID and a temporary file.
    assert.equal(stdout, "8\n", stderr);
    assert.equal(code, expected, stderr);
    assert.deepEqual(sortedNames(dir.path), []);
  });
}

test(
  "two copies in a worker share a queue, and neither shares with the main thread",
  async () => {
    using copy = await loadCopy();
    using dir = tempDir();
    const heldByMain = join(dir.path, "main.lock");
    await using _held = await new own.Lock(heldByMain).acquire();
    const script = new URL(
      `../fixtures/copies_thread${currentRuntime.extension}`,
      import.meta.url,
    );
    const worker = new Worker(script, {
      workerData: {
        urls: [ownUrl, copy.url],
        path: join(dir.path, "a.lock"),
        heldByMain,
      },
    });
    const message = await new Promise((resolve, reject) => {
      worker.on("message", resolve);
      worker.on("error", reject);
    });
    await worker.terminate();
    assert.deepEqual(message, {
      order: [0, 1, 2, 3],
      whileHeld: ["EDEADLK", "EDEADLK"],
      byMain: ["EWOULDBLOCK", "EWOULDBLOCK"],
    });
  },
  "one lock per open file",
);

test(
  "the copies in one thread have one inotify instance for their waiters",
  async () => {
    using copy = await loadCopy();
    using dir = tempDir();
    using waits = observeWaits();
    const instances = () =>
      descriptorTargets(process.pid).filter((target) => /inotify/.test(target))
        .length;
    const wait = async ({ Lock }: Portalock, name: string) => {
      const path = join(dir.path, name);
      const holder = await new Lock(path).acquire();
      const acquired = new Lock(path, { timeout: 60_000 }).acquire();
      return { holder, acquired };
    };
    const one = await wait(own, "a.lock");
    await waits.begun(1);
    const before = instances();
    const other = await wait(copy.portalock, "b.lock");
    await waits.begun(2);
    assert.equal(instances(), before);
    for (const { holder, acquired } of [one, other]) {
      await holder.close();
      await (await acquired).close();
    }
  },
  "inotify(7)",
);

test("a global object that cannot be extended gets no shared state", () => {
  const global = {};
  const state = findState(global);
  assert.equal(findState(global), state);
  assert.deepEqual(Object.keys(global), []);
  const [key = ""] = Reflect.ownKeys(global);
  assert.equal(typeof key, "symbol");
  const throwing = {
    get [key](): never {
      throw new Error("hostile");
    },
  };
  const hostile = [
    Object.freeze({}),
    { [key]: "other" },
    throwing,
    new Proxy({}, {
      defineProperty() {
        throw new Error("hostile");
      },
    }),
  ];
  for (const object of hostile) {
    assert.notEqual(findState(object), findState(object));
    assert.deepEqual([...findState(object)], []);
  }
});

/** The members of an object and its class, methods with their parameters. */
function members(value: unknown): string {
  const names = new Set<string>();
  for (
    let at = value as object;
    at !== null && at !== Object.prototype;
    at = Object.getPrototypeOf(at)
  ) {
    for (const name of Object.getOwnPropertyNames(at)) {
      const { value: member, get } = Object.getOwnPropertyDescriptor(at, name)!;
      if (name === "constructor") continue;
      names.add(
        typeof member === "function" && !get
          ? `${name}/${member.length}`
          : name,
      );
    }
  }
  return [...names].sort().join(" ");
}

/** Of {@linkcode members}, those that other copies use. */
const used = (value: unknown, ...names: string[]) =>
  members(value).split(" ").filter((name) =>
    names.includes(name.replace(/\/.*/, ""))
  ).join(" ");

/** Returns the next value that is entered into a map. */
function firstEntry(map: Map<unknown, unknown>): Promise<unknown> {
  return new Promise((resolve) => {
    map.set = (key, value) => {
      Reflect.deleteProperty(map, "set");
      resolve(value);
      return map.set(key, value);
    };
  });
}

test(
  "what copies share has the shape of its layout",
  async () => {
    using dir = tempDir();
    using waits = observeWaits();
    const state = findState(globalThis);
    const value = <T>(name: string) => state.get(name) as T;
    const path = join(dir.path, "a.lock");
    const temporary = new own.TemporaryFileLock(join(dir.path, "temporary"));
    await using _temporary = await temporary.acquire();
    const holder = await new own.Lock(path).acquire();
    const waiting = new own.Lock(path, { timeout: 60_000 }).run(() => {});
    await waits.begun();
    const fd = fs.openSync(join(dir.path, "b.lock"), "w");
    own.lockSync(fd, LOCK_EX);
    const inside = deferred();
    const end = deferred();
    const update = own.updateFile(join(dir.path, "c"), async () => {
      inside.resolve();
      await end.promise;
      return "";
    });
    await inside.promise;
    const writes = value<Record<string, Map<unknown, unknown>>>("writes");
    const publication = firstEntry(writes.inProgress!);
    const published = firstEntry(writes.published!);
    await own.writeAtomic(join(dir.path, "d"), "");
    const [queue] = value<Map<string, { mutex: unknown }>>("queues").values();
    const [updating] = value<Map<string, { lock: unknown }>>("updates")
      .values();
    const [byCaller] = value<Map<number, unknown>>("locked").values();
    const HOLD = ["identity", "isLocked", "file", "exclusive", "mayHaveEnded"];
    const holds = value<unknown[]>("holds").map((hold) =>
      used(hold, ...HOLD, "index")
    );
    // If this fails, raise LAYOUT in ffi/runtime/shared_state.ts, and then
    // change the layout and the shape here. A new name needs neither.
    assert.deepEqual({
      key: Reflect.ownKeys(globalThis).map(String).filter((key) =>
        key.startsWith("Symbol(@x/portalock state")
      ),
      names: [...state.keys()].sort().join(" "),
      exit: members(value("exit")),
      holds: [...new Set(holds)].sort(),
      inotify: used(value<{ instance: unknown }>("inotify").instance, "watch"),
      locked: members(byCaller),
      queue: members(queue),
      mutex: members(queue?.mutex),
      deadline: used(
        Deadline.prototype,
        "markContended",
        "remaining",
        "sleepUntilWoken",
      ),
      update: members(updating),
      updateLock: used(updating?.lock, "acquire", "path"),
      writes: members(value("writes")),
      publication: members(await publication),
      published: members(await published),
    }, {
      key: ["Symbol(@x/portalock state 1)"],
      names: "callerErrors exit holds inotify locked queues updates writes",
      exit: "cleanUps stopWaiting/0",
      holds: [
        "exclusive file identity/0 index isLocked/0 mayHaveEnded",
        "exclusive identity/0 index isLocked/0 mayHaveEnded",
      ],
      inotify: "watch/2",
      locked: "argument exclusive identity/0 index isLocked/0 mayHaveEnded",
      queue: "enter/0 exit/0 heldAtWakeup mutex sleep/2 sleepSync/1 " +
        "wakeAll/0 wakeups",
      mutex: "acquire/1 release/0 tryAcquire/0 wait/1",
      deadline: "markContended/0 remaining sleepUntilWoken/2",
      update: "lock readOnly users",
      updateLock: "acquire/1 path",
      writes: "calls inProgress lastCall published",
      publication: "end/1 ended withdraw/0 withdrawn",
      published: "call until",
    });
    end.resolve();
    await update;
    own.unlock(fd);
    fs.closeSync(fd);
    await holder.close();
    await waiting;
  },
  "inotify(7)",
);
