import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import process from "node:process";
import { setImmediate, setTimeout as delay } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { PlatformFile } from "../../ffi/types.ts";
import {
  AlreadyLocked,
  BoundedSemaphore,
  type BoundedSemaphoreOptions,
  type LastingWait,
  Lock,
  LockedFile,
  NamedBoundedSemaphore,
} from "../../mod.ts";
import type { AcquireOptions } from "../../mod.ts";
import { childPath } from "../../src/core/paths.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { runtimes } from "../support/env.ts";
import { systemError, withPatchedFiles } from "../support/platform.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import { SHORT_WAIT_MS } from "../support/waits.ts";

/**
 * Returns a function that creates semaphores with shared slots in a directory.
 */
function semaphoresIn({ path: directory }: { path: string }) {
  return (maximum: number, options: BoundedSemaphoreOptions = {}) =>
    new BoundedSemaphore(maximum, { name: "s", directory, ...options });
}

/** The async and the sync form, for tests of both. */
const FORMS: [
  form: string,
  acquire: (
    semaphore: BoundedSemaphore,
    options?: AcquireOptions,
  ) => LockedFile | Promise<LockedFile>,
][] = [
  ["acquire()", (semaphore, options) => semaphore.acquire(options)],
  ["acquireSync()", (semaphore, options) => semaphore.acquireSync(options)],
];

const PATTERNS: [pattern: string, name: string, ...expected: string[]][] = [
  ["{name}.{number:02d}.lock", "s", "s.00.lock", "s.09.lock", "s.100.lock"],
  ["{number}", "s", "0", "9", "100"],
  ["{number:}", "s", "0", "9", "100"],
  ["{number:d}", "s", "0", "9", "100"],
  ["{number:3d}", "s", "  0", "  9", "100"],
  ["{number:5}", "s", "    0", "    9", "  100"],
  ["{number:03}", "s", "000", "009", "100"],
  ["{number:012d}", "s", "000000000000", "000000000009", "000000000100"],
  ["{number:0}", "s", "0", "9", "100"],
  ["{number:002d}", "s", "00", "09", "100"],
  ["{{literal}}{number}", "s", "{literal}0", "{literal}9", "{literal}100"],
  ["{{{number}}}", "s", "{0}", "{9}", "{100}"],
  ["{{{{{number}", "s", "{{0", "{{9", "{{100"],
  ["{number}-{number:02d}", "s", "0-00", "9-09", "100-100"],
  ["{name}{name}{number}", "s $& ü", "s $& üs $& ü0", "s $& üs $& ü9"],
  ["{name}{number}", "{number}{{", "{number}{{0", "{number}{{9"],
];

test("a semaphore names its slot files by the pattern", () => {
  for (const [pattern, name, ...expected] of PATTERNS) {
    const { paths } = new BoundedSemaphore(101, {
      filenamePattern: pattern,
      name,
      directory: "/somewhere",
    });
    assert.equal(paths.length, 101);
    const numbers = [0, 9, 100].slice(0, expected.length);
    assert.deepEqual(
      numbers.map((number) => paths[number]),
      expected.map((slot) => childPath("/somewhere", slot)),
    );
  }
});

test("a semaphore names its slot files as Python does", async () => {
  await using python = LockProcess.startPython();
  for (const [filenamePattern, name] of PATTERNS) {
    const directory = "/somewhere";
    const options = { filenamePattern, name, directory };
    assert.deepEqual(
      new BoundedSemaphore(101, options).paths.map((path) => basename(path)),
      await python.call("slotNames", filenamePattern, name, 101),
    );
  }
}, "Python's portalocker");

test(
  "a semaphore has the default name and directory of Python's",
  () => {
    const { name, maximum, paths } = new BoundedSemaphore(2);
    assert.deepEqual([name, maximum], ["bounded_semaphore", 2]);
    assert.deepEqual(paths, [
      join(tmpdir(), "bounded_semaphore.00.lock"),
      join(tmpdir(), "bounded_semaphore.01.lock"),
    ]);
    const directory = pathToFileURL("/some where");
    assert.deepEqual(new BoundedSemaphore(1, { directory }).paths, [
      join(fileURLToPath(directory), "bounded_semaphore.00.lock"),
    ]);
  },
);

test("NamedBoundedSemaphore generates a unique name", () => {
  const names = Array.from({ length: 100 }, () => new NamedBoundedSemaphore(1))
    .map(({ name }) => name);
  assert.equal(new Set(names).size, 100);
  for (const name of names) assert.match(name, /^bounded_semaphore\.[\w-]+$/);
  const { name, paths } = new NamedBoundedSemaphore(1, {
    name: "given",
    directory: "/there",
  });
  assert.equal(name, "given");
  assert.deepEqual(paths, [childPath("/there", "given.00.lock")]);
});

const BAD: [maximum: unknown, options: unknown, error: string, says: RegExp][] =
  [
    [0, {}, "RangeError", /maximum/],
    [-1, {}, "RangeError", /maximum/],
    [1.5, {}, "RangeError", /maximum/],
    [NaN, {}, "RangeError", /maximum/],
    [Infinity, {}, "RangeError", /maximum/],
    [65_537, {}, "RangeError", /maximum must be 65536 or less/],
    ["3", {}, "TypeError", /maximum/],
    [3n, {}, "TypeError", /maximum/],
    [undefined, {}, "TypeError", /maximum/],
    [2, null, "TypeError", /options/],
    [2, 5, "TypeError", /options/],
    [2, { check_interval: 1 }, "TypeError", /check_interval/],
    [2, { mode: "a" }, "TypeError", /mode/],
    [2, { name: "" }, "RangeError", /\bname\b/],
    [2, { name: "a/b" }, "RangeError", /\bname\b/],
    [2, { name: "a\\b" }, "RangeError", /\bname\b/],
    [2, { name: "a\0b" }, "RangeError", /\bname\b/],
    [2, { name: 5 }, "TypeError", /\bname\b/],
    [2, { directory: "" }, "RangeError", /directory/],
    [2, { directory: 5 }, "TypeError", /directory/],
    [2, { filenamePattern: 5 }, "TypeError", /filenamePattern/],
    [1, { filenamePattern: "" }, "RangeError", /filenamePattern/],
    [2, { filenamePattern: "a/{number}" }, "RangeError", /filenamePattern/],
    [2, { timeout: -1 }, "RangeError", /timeout/],
    [2, { failWhenLocked: 1 }, "TypeError", /failWhenLocked/],
    [2, { creationMode: -1 }, "RangeError", /creationMode/],
    [2, { throwOnReleaseError: 1 }, "TypeError", /throwOnReleaseError/],
    // Patterns that Python rejects, or that this library does not support.
    ...[
      "{name}.lock",
      "{{number}}",
      "{number}{pid}",
      "{number}{",
      "}{number}",
      "{}{number}",
      "{0}{number}",
      "{number:x}",
      "{number:>3}",
      "{number:+d}",
      "{number:0100d}",
      "{number!r}",
      "{name:5}{number}",
      "{name:02d}{number}",
      "{ number }",
    ].map((filenamePattern) =>
      [2, { filenamePattern }, "RangeError", /filenamePattern/] as [
        unknown,
        unknown,
        string,
        RegExp,
      ]
    ),
  ];

test("new BoundedSemaphore() rejects invalid arguments before it opens a file", () => {
  for (const [maximum, options, name, message] of BAD) {
    for (const Class of [BoundedSemaphore, NamedBoundedSemaphore]) {
      assert.throws(
        () => new Class(maximum as number, options as object),
        { name, message },
        `${String(maximum)} ${JSON.stringify(options)}`,
      );
    }
  }
  using dir = tempDir();
  semaphoresIn(dir)(3);
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

test("BoundedSemaphore.acquire() rejects invalid options before it opens a file", async () => {
  using dir = tempDir();
  const semaphore = semaphoresIn(dir)(2);
  await assert.rejects(semaphore.acquire({ timeout: -1 }), RangeError);
  assert.throws(
    () => semaphore.acquireSync({ maximum: 1 } as object),
    TypeError,
  );
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

for (const [form, acquire] of FORMS) {
  test(`BoundedSemaphore.${form} returns a different slot to each holder`, async () => {
    using dir = tempDir();
    const semaphore = semaphoresIn(dir)(3);
    const slots = [];
    for (let i = 0; i < 3; i++) slots.push(await acquire(semaphore));
    for (const slot of slots) assert.ok(slot instanceof LockedFile);
    assert.deepEqual(slots.map(({ path }) => path).sort(), semaphore.paths);
    await assert.rejects(async () => await acquire(semaphore), AlreadyLocked);
    assert.equal(await semaphore.tryAcquire(), null);
    assert.equal(semaphore.tryAcquireSync(), null);
    // Each slot is a file that any program can lock.
    for (const path of semaphore.paths) {
      assert.equal(new Lock(path).tryAcquireSync(), null);
    }
    await at(slots, 1).close();
    const again = await acquire(semaphore);
    assert.equal(again.path, at(slots, 1).path, "the free slot");
    await semaphore[Symbol.asyncDispose]();
    assert.equal(openDescriptors(dir.path), 0);
  });

  test(`BoundedSemaphore.${form} fails at once, unless it has a timeout`, async () => {
    using dir = tempDir();
    const semaphore = semaphoresIn(dir);
    await using _held = await semaphore(1).acquire();
    const waits = async (s: BoundedSemaphore, options?: AcquireOptions) => {
      let attempts = 0;
      const hooks = (file: PlatformFile) => ({
        tryLock: (exclusive: boolean) => (attempts++, file.tryLock(exclusive)),
      });
      await withPatchedFiles(
        hooks,
        () =>
          assert.rejects(async () => await acquire(s, options), AlreadyLocked),
      );
      return attempts > 1;
    };
    const timeout = SHORT_WAIT_MS;
    assert.equal(await waits(semaphore(1)), false);
    assert.equal(await waits(semaphore(1, { timeout })), true);
    assert.equal(await waits(semaphore(1), { timeout }), true);
    assert.equal(
      await waits(semaphore(1, { failWhenLocked: true, timeout })),
      false,
    );
    const firm = semaphore(1, { failWhenLocked: true });
    assert.equal(await waits(firm, { timeout }), false);
    assert.equal(
      await waits(semaphore(1), { failWhenLocked: true, timeout }),
      false,
    );
    const patient = semaphore(1, { failWhenLocked: false, timeout });
    assert.equal(await waits(patient), true);
    assert.equal(openDescriptors(dir.path), 1);
  });

  test(`BoundedSemaphore.${form} names the holders of the slots`, async () => {
    using dir = tempDir();
    const semaphore = semaphoresIn(dir);
    await using child = LockProcess.start(at(runtimes, 0));
    const options = { name: "s", directory: dir.path };
    await child.call("acquireSlot", 2, options);
    await child.call("acquireSlot", 2, options);
    const path = join(dir.path, "s");
    const { pid } = child.process;
    const whom = new RegExp(
      `^Cannot lock ".*/s": all 2 slots are taken by process ${pid} \\([^)]+\\) \\(waited \\d+ ms\\)$`,
    );
    const fails = async (
      s: BoundedSemaphore,
      holderPid: number | null,
      message: RegExp,
    ) =>
      await assert.rejects(async () => await acquire(s), {
        name: "AlreadyLocked",
        code: "EWOULDBLOCK",
        path,
        holderPid,
        message,
      });
    await fails(semaphore(2), pid!, whom);
    await child.call("releaseSlot");
    await using mine = await semaphore(2).acquire();
    await fails(
      semaphore(2),
      mine.path.endsWith("00.lock") ? process.pid : pid!,
      / and 1 more /,
    );
    const one = semaphore(1, { name: "one" });
    await using _one = await one.acquire();
    await assert.rejects(async () => await acquire(one), {
      holderPid: process.pid,
      message: /its slot is taken through this same object/,
    });
  }, "inotify(7)");

  test(`BoundedSemaphore.${form} throws the runtime's own error when the directory does not exist`, async () => {
    using dir = tempDir();
    for (const options of [{}, { timeout: 1000 }]) {
      const semaphore = semaphoresIn({ path: join(dir.path, "no") })(
        3,
        options,
      );
      await assert.rejects(
        async () => await acquire(semaphore),
        (error: Error & { code: string }) => {
          assert.equal(error.code, "ENOENT");
          assert.notEqual(error.name, "LockException");
          return true;
        },
      );
      assert.equal(semaphore.locked, false);
      await assert.rejects(semaphore.tryAcquire(), { code: "ENOENT" });
    }
    assert.deepEqual(fs.readdirSync(dir.path), []);
    assert.equal(openDescriptors(dir.path), 0);
  });

  test(`BoundedSemaphore.${form} throws a system error without retrying`, async () => {
    using dir = tempDir();
    const semaphore = semaphoresIn(dir)(3, { timeout: 60_000 });
    let attempts = 0;
    await withPatchedFiles((file) => ({
      tryLock(exclusive) {
        attempts++;
        if (attempts % 2) return file.tryLock(exclusive) && false;
        throw systemError("ENOLCK", 37);
      },
    }), async () => {
      await assert.rejects(async () => await acquire(semaphore), {
        name: "LockException",
        code: "ENOLCK",
        errno: 37,
        message: /^Cannot lock ".*s\.0\d\.lock": injected ENOLCK \(ENOLCK\)$/,
      });
    });
    assert.equal(attempts, 2);
    assert.equal(openDescriptors(dir.path), 0);
    await (await acquire(semaphore)).close();
  });
}

test("BoundedSemaphore.acquireSync() does not wait for slots that the same object holds", async () => {
  using dir = tempDir();
  const semaphore = semaphoresIn(dir)(2, { timeout: 60_000 });
  const first = semaphore.acquireSync();
  semaphore.acquireSync();
  const begin = performance.now();
  assert.throws(() => semaphore.acquireSync(), {
    name: "AlreadyLocked",
    message: /all 2 slots are taken through this same object/,
  });
  assert.ok(performance.now() - begin < 5000);
  first.closeSync();
  semaphore.acquireSync();
  await semaphore[Symbol.asyncDispose]();
  // A slot that could not be released is not counted as held any more.
  await semaphore.acquire();
  semaphore.acquireSync();
  semaphore[Symbol.dispose]();
});

test("BoundedSemaphore.release() releases the latest slot, and concurrent calls release different slots", async () => {
  using dir = tempDir();
  const semaphore = semaphoresIn(dir)(4);
  const free = () =>
    semaphore.paths.filter((path) => {
      using file = new Lock(path).tryAcquireSync();
      return file !== null;
    });
  const slots = [];
  for (let i = 0; i < 4; i++) slots.push((await semaphore.acquire()).path);
  await semaphore.release();
  assert.deepEqual(free(), [slots[3]]);
  semaphore.releaseSync();
  assert.deepEqual(free(), [slots[2], slots[3]].sort());
  assert.equal(semaphore.locked, true);
  await Promise.all([semaphore.release(), semaphore.release()]);
  assert.equal(free().length, 4);
  assert.equal(semaphore.locked, false);
  await semaphore.release();
  semaphore.releaseSync();
});

test("BoundedSemaphore.release() releases different slots while closing is slow", async () => {
  using dir = tempDir();
  const semaphore = semaphoresIn(dir)(3);
  await withPatchedFiles((file) => ({
    close: () => delay(20).then(() => file.closeSync()),
  }), async () => {
    for (let i = 0; i < 3; i++) await semaphore.acquire();
    const slow = [semaphore.release(), semaphore.release()];
    semaphore.releaseSync();
    // All slots are unlocked. Two of them are still being closed.
    assert.equal(semaphore.locked, true);
    await Promise.all(slow);
    assert.equal(semaphore.locked, false);
  });
  assert.equal(openDescriptors(dir.path), 0);
});

for (const kind of ["asyncDispose", "dispose"] as const) {
  test(`disposing a BoundedSemaphore releases all of its slots (${kind})`, async () => {
    using dir = tempDir();
    const other = await semaphoresIn(dir)(5).acquire();
    const semaphore = semaphoresIn(dir)(5);
    for (let i = 0; i < 4; i++) await semaphore.acquire();
    await semaphore[Symbol[kind]]();
    assert.equal(semaphore.locked, false);
    assert.equal(openDescriptors(dir.path), 1);
    await other.close();
    await semaphore[Symbol[kind]]();
  });

  test(`disposing a BoundedSemaphore releases all of its slots when the system reports an error (${kind})`, async () => {
    using dir = tempDir();
    const broken = (file: { closeSync(): void }) => ({
      unlock() {
        throw systemError("EIO", 5);
      },
      close: () => file.closeSync(),
    });
    await withPatchedFiles(broken, async () => {
      for (const held of [1, 3]) {
        const loud = semaphoresIn(dir)(3, { throwOnReleaseError: true });
        for (let i = 0; i < held; i++) await loud.acquire();
        await assert.rejects(
          async () => await loud[Symbol[kind]](),
          (error: Error) => {
            const all = held === 1 ? [error] : (error as AggregateError).errors;
            assert.equal(all.length, held);
            for (const { name, code } of all) {
              assert.deepEqual([name, code], ["LockException", "EIO"]);
            }
            return true;
          },
        );
        assert.equal(loud.locked, false);
        assert.equal(openDescriptors(dir.path), 0);
      }
      const quiet = semaphoresIn(dir)(3);
      await quiet.acquire();
      await quiet[Symbol[kind]]();
    });
  });
}

test("BoundedSemaphore.run() holds a slot while its body runs", async () => {
  using dir = tempDir();
  const semaphore = semaphoresIn(dir)(2, { timeout: 60_000 });
  let inside = 0;
  let meet!: () => void;
  const met = new Promise<void>((resolve) => meet = resolve);
  const all = Array.from({ length: 20 }, (_, i) =>
    semaphore.run(async () => {
      assert.ok(++inside <= 2);
      if (inside === 2) meet();
      await met;
      await setImmediate();
      inside--;
      return i;
    }));
  assert.deepEqual(await Promise.all(all), [...all.keys()]);
  const error = new Error("from the body");
  await assert.rejects(
    semaphore.run(() => Promise.reject(error)),
    (e) => e === error,
  );
  assert.equal(semaphore.locked, false);
  assert.equal(openDescriptors(dir.path), 0);
});

test(
  "BoundedSemaphore calls onWait with the holders of the slots",
  async () => {
    using dir = tempDir();
    const semaphore = semaphoresIn(dir)(2);
    await semaphore.acquire();
    await semaphore.acquire();
    const reported: LastingWait[] = [];
    const waiting = semaphore.acquire({
      timeout: 60_000,
      onWait: (wait) => void reported.push(wait),
    });
    while (reported.length === 0) await delay(5);
    await semaphore.release();
    await waiting;
    const { path, waited, holders } = at(reported, 0);
    assert.equal(path, join(dir.path, "s"));
    assert.ok(waited >= 100);
    assert.deepEqual(holders.map(({ pid }) => pid), [process.pid, process.pid]);
    assert.equal(reported.length, 1);
    await semaphore[Symbol.asyncDispose]();
  },
  "inotify(7)",
);

test("diagnostics report a semaphore's waits and its slots", async () => {
  using dir = tempDir();
  const semaphore = semaphoresIn(dir)(2, { timeout: 60_000 });
  const events: string[] = [];
  const listeners = ["wait", "acquire", "release"].map((name) => {
    const listen = (event: unknown) => {
      const { path, exclusive } = event as { path: string; exclusive: boolean };
      const what = path.startsWith(dir.path) && basename(path);
      events.push(`${name} ${what} ${exclusive}`);
    };
    subscribe(`portalock:${name}`, listen);
    return () => unsubscribe(`portalock:${name}`, listen);
  });
  const held = [await semaphore.acquire(), await semaphore.acquire()];
  assert.equal(await semaphore.tryAcquire(), null);
  // The first waits for the slots. The second waits behind it and never for a
  // slot.
  const waiting = [semaphore.acquire(), semaphore.acquire()];
  const waits = () => events.filter((event) => event.startsWith("wait"));
  while (waits().length < 2) await delay(1);
  for (const slot of held) slot.closeSync();
  for (const slot of waiting) await slot;
  semaphore[Symbol.dispose]();
  for (const stop of listeners) stop();
  const slots = ["s.00.lock true", "s.01.lock true"];
  assert.deepEqual(
    events.sort(),
    [
      ...[...slots, ...slots].map((slot) => `acquire ${slot}`),
      ...[...slots, ...slots].map((slot) => `release ${slot}`),
      ...Array(2).fill("wait s true"),
    ].sort(),
  );
});

test(
  "processes of every runtime see each other's slots",
  async () => {
    using dir = tempDir();
    const options = { name: "s", directory: dir.path };
    const semaphore = semaphoresIn(dir)(2);
    for (const runtime of runtimes) {
      await using child = LockProcess.start(runtime);
      const theirs = await child.call("acquireSlot", 2, options);
      const ours = await semaphore.acquire();
      assert.deepEqual([theirs, ours.path].sort(), semaphore.paths);
      assert.equal(await child.call("tryAcquireSlot", 2, options), null);
      assert.equal(await semaphore.tryAcquire(), null);
      await child.call("releaseSlot");
      assert.equal((await semaphore.acquire()).path, theirs);
      await semaphore[Symbol.asyncDispose]();
    }
  },
);

for (const newer of [false, true]) {
  const peer = newer ? "Python's portalocker 4" : "Python's portalocker";

  test(
    `a semaphore excludes ${peer}, and is excluded by it`,
    async () => {
      using dir = tempDir();
      await using python = LockProcess.startPython(newer);
      const semaphore = semaphoresIn(dir)(2, { timeout: 60_000 });
      const how = [2, "s", dir.path];
      const theirs = await python.call("acquireSlot", ...how);
      const ours = await semaphore.acquire();
      assert.deepEqual([theirs, ours.path].sort(), semaphore.paths);
      assert.equal(semaphore.tryAcquireSync(), null);
      const waiting = semaphore.acquire();
      await python.call("releaseSlot");
      assert.equal((await waiting).path, theirs);
      assert.equal(await python.call("tryAcquireSlot", ...how), null);
      const theirTurn = python.call("acquireSlot", ...how);
      await ours.close();
      assert.equal(await theirTurn, ours.path);
      await semaphore[Symbol.asyncDispose]();
    },
    peer,
  );
}
