import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { runInNewContext } from "node:vm";
import { Lock, LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN } from "../../mod.ts";
import {
  DEFAULT_CHECK_INTERVAL,
  DEFAULT_TIMEOUT,
  lockAll,
  PidFileLock,
  RLock,
  TemporaryFileLock,
} from "../../mod.ts";
import type { FileMode, LockOptions } from "../../mod.ts";
import { resolveLockOptions } from "../../src/options/lock_options.ts";
import { parseMode } from "../../src/options/open_mode.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

type Bad = [option: string, value: unknown, error: "TypeError" | "RangeError"];

const BAD_WAITS: Bad[] = [
  ["timeout", -1, "RangeError"],
  ["timeout", NaN, "RangeError"],
  ["timeout", "5000", "TypeError"],
  ["timeout", 5000n, "TypeError"],
  ["timeout", null, "TypeError"],
  ["checkInterval", 0, "RangeError"],
  ["checkInterval", -250, "RangeError"],
  ["checkInterval", NaN, "RangeError"],
  ["checkInterval", Infinity, "RangeError"],
  ["checkInterval", {}, "TypeError"],
  ["failWhenLocked", 1, "TypeError"],
  ["failWhenLocked", null, "TypeError"],
  ["signal", {}, "TypeError"],
  ["signal", new AbortController(), "TypeError"],
  ["signal", null, "TypeError"],
];

const BAD_LOCKS: Bad[] = [
  ...BAD_WAITS,
  ["mode", "rw", "RangeError"],
  ["mode", "", "RangeError"],
  ["mode", "constructor", "RangeError"],
  ["mode", 0o644, "TypeError"],
  ["mode", ["r"], "TypeError"],
  ["mode", "rt", "RangeError"],
  ["mode", "br", "RangeError"],
  ["mode", "rbb", "RangeError"],
  ["mode", "b", "RangeError"],
  ["shared", 1, "TypeError"],
  ["shared", null, "TypeError"],
  ["flags", LOCK_EX | LOCK_SH, "RangeError"],
  ["flags", LOCK_UN, "RangeError"],
  ["flags", LOCK_NB, "RangeError"],
  ["flags", 0, "RangeError"],
  ["flags", LOCK_EX | 64, "RangeError"],
  ["flags", NaN, "RangeError"],
  ["flags", 2.5, "RangeError"],
  ["flags", 6.5, "RangeError"],
  ["flags", 2 ** 32 + LOCK_EX, "RangeError"],
  ["flags", 2 ** 32 + LOCK_EX + LOCK_NB, "RangeError"],
  ["flags", -2, "RangeError"],
  ["flags", "LOCK_EX", "TypeError"],
  ["creationMode", -1, "RangeError"],
  ["creationMode", 0o10000, "RangeError"],
  ["creationMode", 1.5, "RangeError"],
  ["creationMode", "644", "TypeError"],
  ["locker", "fcntl", "RangeError"],
  ["locker", "constructor", "RangeError"],
  ["locker", null, "TypeError"],
  ["range", { start: 0, length: 1 }, "RangeError"],
  ["replaced", "never", "RangeError"],
  ["replaced", true, "TypeError"],
  ["throwOnReleaseError", "yes", "TypeError"],
];

for (const [option, value, name] of BAD_LOCKS) {
  test(`new Lock() rejects ${option}: ${describe(value)} and names the option`, () => {
    assert.throws(
      () => new Lock("never.lock", { [option]: value }),
      { name, message: new RegExp(`^(?!unknown option).*\\b${option}\\b`) },
    );
  });
}

test("Lock.acquire() rejects invalid options before it opens a file", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new Lock(path);
  for (const [option, value, name] of BAD_WAITS) {
    const options = { [option]: value };
    const refused = {
      name,
      message: new RegExp(`^(?!unknown option).*\\b${option}\\b`),
    };
    await assert.rejects(lock.acquire(options), refused);
    await assert.rejects(lock.run(() => {}, options), refused);
    await assert.rejects(lock.run(undefined as never), {
      name: "TypeError",
      message: /^body must be a function/,
    });
    assert.throws(() => lock.acquireSync(options), refused);
  }
  assert.equal(fs.existsSync(path), false);
  assert.equal(lock.locked, false);
});

test("unknown options are rejected with a list of the known options", () => {
  const unknown = {
    name: "TypeError",
    message: /check_interval.*checkInterval/,
  };
  const options = { check_interval: 1 } as object;
  assert.throws(() => new Lock("never.lock", options), unknown);
  assert.throws(() => new Lock("never.lock").acquireSync(options), unknown);
  assert.throws(() => new Lock("never.lock", null!), { name: "TypeError" });
  assert.throws(() => new Lock("never.lock", 5 as unknown as object), {
    name: "TypeError",
  });
});

test("an object of a class without any option is rejected", async () => {
  const { signal } = new AbortController();
  const lock = new Lock("never.lock");
  await assert.rejects(lock.acquire(signal as object), {
    name: "TypeError",
    message: /^options must be an object with options, not an AbortSignal$/,
  });
  const promise = Promise.resolve({ mode: "r" });
  assert.throws(() => new Lock("never.lock", promise as object), {
    name: "TypeError",
    message: /^options must be an object with options, not a Promise: await it/,
  });
  // It has an option, like an object without a prototype or of another realm.
  class Options {
    mode = "r" as const;
  }
  new Lock("never.lock", new Options());
  new Lock("never.lock", Object.create(null));
  new Lock("never.lock", runInNewContext("({})"));
});

test("undefined options have their defaults", () => {
  const { mode, exclusive, locker, creationMode, throwOnReleaseError, wait } =
    resolveLockOptions(
      { mode: undefined, timeout: undefined, flags: undefined } as object,
    );
  assert.deepEqual(locker, { name: "flock" });
  assert.equal(mode.name, "a");
  assert.equal(exclusive, true);
  assert.equal(creationMode, 0o666);
  assert.equal(throwOnReleaseError, false);
  assert.deepEqual(wait, {
    timeout: 5000,
    openTimeout: 5000,
    checkInterval: 250,
    failWhenLocked: false,
    failFastUnlessTimeout: false,
    signal: undefined,
    onWait: undefined,
  });
});

test("flags without LOCK_NB wait without a limit, unless timeout is given", () => {
  assert.equal(resolveLockOptions({ flags: LOCK_EX }).wait.timeout, Infinity);
  assert.equal(resolveLockOptions({ flags: LOCK_SH }).wait.timeout, Infinity);
  assert.equal(
    resolveLockOptions({ flags: LOCK_EX, timeout: 7 }).wait.timeout,
    7,
  );
  assert.equal(
    resolveLockOptions({ flags: LOCK_EX | LOCK_NB }).wait.timeout,
    5000,
  );
});

for (
  const [range, name, message] of [
    [null, "TypeError", /^range must be an object/],
    [7, "TypeError", /^range must be an object/],
    [{}, "TypeError", /^range\.start must/],
    [{ start: 0 }, "TypeError", /^range\.length must/],
    [{ start: "0", length: 1 }, "TypeError", /^range\.start must/],
    [{ start: 0, length: 1n }, "TypeError", /^range\.length must/],
    [{ start: -1, length: 1 }, "RangeError", /^range\.start must/],
    [{ start: 0.5, length: 1 }, "RangeError", /^range\.start must/],
    [{ start: 0, length: 0 }, "RangeError", /^range\.length must/],
    [{ start: 0, length: Infinity }, "RangeError", /^range\.length must/],
    [{ start: 2 ** 53 - 2, length: 2 }, "RangeError", /^range must end/],
    [
      { start: 0, length: 1, whence: 0 },
      "TypeError",
      /^unknown option "whence" in/,
    ],
  ] as const
) {
  test(`new Lock() rejects the range ${JSON.stringify(range, shown)}`, () => {
    for (const locker of ["ofd", "lockf"] as const) {
      const options = { locker, range } as object;
      assert.throws(() => new Lock("never.lock", options), { name, message });
    }
  });
}

test("record locks are rejected if the mode does not allow them", () => {
  for (const locker of ["ofd", "lockf"] as const) {
    const refused = (mode: FileMode, flags: number, message: RegExp) =>
      assert.throws(() => new Lock("never.lock", { locker, mode, flags }), {
        name: "RangeError",
        message,
      });
    const words = (mode: string, verb: string, flag: string) =>
      new RegExp(
        `^mode "${mode}" cannot ${verb}.*flags.*${flag}.*"${locker}".*"${mode}\\+"$`,
      );
    for (const mode of ["a", "x"] as const) {
      refused(mode, LOCK_SH, words(mode, "read", "LOCK_SH"));
      assert.ok(new Lock("never.lock", { locker, mode, flags: LOCK_EX }));
    }
    refused("r", LOCK_EX, words("r", "write", "LOCK_EX"));
    for (const mode of ["r", "r+", "a+", "x+"] as const) {
      assert.ok(new Lock("never.lock", { locker, mode, flags: LOCK_SH }));
    }
  }
  for (const flags of [LOCK_EX, LOCK_SH]) {
    for (const mode of ["r", "a"] as const) {
      assert.ok(new Lock("never.lock", { mode, flags }));
    }
  }
});

test("LOCK_SH with a mode that truncates the file is rejected and keeps the content", () => {
  using dir = tempDir();
  const path = join(dir.path, "a.txt");
  fs.writeFileSync(path, "precious");
  for (const mode of ["w", "w+"] as const) {
    assert.throws(() => new Lock(path, { mode, flags: LOCK_SH }), {
      name: "RangeError",
      message: /mode.*flags|flags.*mode/,
    });
  }
  assert.equal(fs.readFileSync(path, "utf8"), "precious");
});

test("a mode with b, as in Python, is the mode without it", async () => {
  const modes = ["r", "r+", "w", "w+", "a", "a+", "x", "x+"] as const;
  for (const name of modes) {
    const [letter, plus = ""] = name;
    const aliases = [`${letter}b${plus}`, `${letter}${plus}b`] as FileMode[];
    for (const alias of aliases) {
      assert.deepEqual(parseMode(alias), parseMode(name));
      assert.equal(parseMode(alias).name, name);
    }
  }
  using dir = tempDir();
  const path = join(dir.path, "a.bin");
  const use = (mode: FileMode) => new Lock(path, { mode }).acquire();
  const written = Uint8Array.of(0xff, 0x0d, 0x0a, 0x00);
  {
    await using file = await use("wb");
    await file.write(written);
    await assert.rejects(file.readBytes(), /mode "w"; use "w\+"/);
  }
  {
    await using file = await use("rb+");
    assert.deepEqual(await file.readBytes(), written);
  }
  await using file = await use("ab");
  await file.write(Uint8Array.of(1));
  assert.equal(fs.readFileSync(path).length, 5);
});

test("a mode with t says that the method chooses between text and bytes", () => {
  const modes = [["rt", "r"], ["rt+", "r+"], ["r+t", "r+"], ["wt", "w"]];
  for (const [mode, instead] of modes) {
    assert.throws(() => new Lock("never.lock", { mode: mode as FileMode }), {
      name: "RangeError",
      message:
        `mode must not contain "t", not "${mode}": a file holds bytes, ` +
        "and the method chooses, such as readText() or readBytes(); " +
        `use "${instead}"`,
    });
  }
});

test("DEFAULT_TIMEOUT and DEFAULT_CHECK_INTERVAL are the defaults, in ms", () => {
  assert.deepEqual([DEFAULT_TIMEOUT, DEFAULT_CHECK_INTERVAL], [5000, 250]);
  const { timeout, checkInterval } = resolveLockOptions().wait;
  assert.equal(timeout, DEFAULT_TIMEOUT);
  assert.equal(checkInterval, DEFAULT_CHECK_INTERVAL);
});

/** The functions that take `shared`, and hold the lock until they end. */
const SHARING: Record<
  string,
  (path: string, options: LockOptions) => Promise<AsyncDisposable>
> = {
  Lock: (path, options) => new Lock(path, options).acquire(),
  RLock: (path, options) => new RLock(path, options).acquire(),
  lockAll: (path, options) => lockAll([path], options),
  TemporaryFileLock: (path, options) =>
    new TemporaryFileLock(path, options).acquire(),
};

for (const [name, acquire] of Object.entries(SHARING)) {
  test(`${name} with shared: true excludes writers, and no readers`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const timeout = 0;
    {
      await using _one = await acquire(path, { shared: true });
      await using _two = await acquire(path, { shared: true, timeout });
      const busy = { name: "AlreadyLocked" };
      await assert.rejects(acquire(path, { timeout }), busy);
      await assert.rejects(acquire(path, { shared: false, timeout }), busy);
    }
    await using _one = await acquire(path, { shared: false });
    const reader = acquire(path, { shared: true, timeout });
    await assert.rejects(reader, { name: "AlreadyLocked" });
  });

  test(`${name} refuses shared beside flags`, async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    for (const shared of [true, false]) {
      for (const flags of [LOCK_EX, LOCK_SH | LOCK_NB]) {
        await assert.rejects(
          async () => await acquire(path, { shared, flags }),
          {
            name: "TypeError",
            message: /^shared and flags exclude each other; pass shared alone/,
          },
        );
      }
    }
    assert.deepEqual(fs.readdirSync(dir.path), []);
  });
}

test("PidFileLock refuses shared: true, because a PID file has one holder", () => {
  assert.throws(() => new PidFileLock("never.pid", { shared: true }), {
    name: "RangeError",
    message: "shared must be false: a PID file has one holder",
  });
  assert.ok(new PidFileLock("never.pid", { shared: false }));
});

test("shared: true waits for 5 seconds, as LOCK_SH | LOCK_NB does", () => {
  const shared = resolveLockOptions({ shared: true });
  assert.deepEqual(shared, resolveLockOptions({ flags: LOCK_SH | LOCK_NB }));
  assert.deepEqual(resolveLockOptions({ shared: false }), resolveLockOptions());
});

test("shared: true with a mode that does not permit it is named in the message", () => {
  const refused = (options: LockOptions, message: RegExp) =>
    assert.throws(() => new Lock("never.lock", { shared: true, ...options }), {
      name: "RangeError",
      message,
    });
  for (const mode of ["w", "w+", "wb"] as const) {
    refused({ mode }, /^mode "w\+?" truncates .* with shared: true; use/);
  }
  refused({ mode: "a", locker: "ofd" }, /^mode "a" .* shared: true and/);
});

for (
  const [value, name] of [
    [5, "TypeError"],
    [undefined, "TypeError"],
    [null, "TypeError"],
    [{}, "TypeError"],
    ["", "RangeError"],
    ["a\0b", "RangeError"],
    ["a\ud800b", "RangeError"],
    [new URL("https://example.com/a.lock"), "TypeError"],
  ] as const
) {
  test(`new Lock() rejects the path ${describe(value)}`, () => {
    assert.throws(() => new Lock(value as string), { name });
  });
}

test("new Lock() accepts a file: URL", async () => {
  using dir = tempDir();
  const path = join(dir.path, "ä b%.lock");
  const lock = new Lock(pathToFileURL(path));
  assert.equal(lock.path, path);
  await lock.run(() => assert.ok(fs.existsSync(path)));
});

/** Replaces the numbers that JSON cannot represent. */
function shown(_key: string, value: unknown): unknown {
  return value === Infinity || typeof value === "bigint"
    ? String(value)
    : value;
}

function describe(value: unknown): string {
  if (typeof value === "bigint") return `${value}n`;
  if (value instanceof URL || typeof value === "number") return String(value);
  if (value instanceof AbortController) return "AbortController";
  return JSON.stringify(value) ?? "undefined";
}

test("a mode that truncates is rejected with a range that does not cover the whole file", () => {
  const whole = { start: 0, length: Number.MAX_SAFE_INTEGER };
  for (const locker of ["ofd", "lockf"] as const) {
    for (const mode of ["w", "w+"] as const) {
      for (
        const range of [
          { start: 0, length: 100 },
          { start: 1, length: Number.MAX_SAFE_INTEGER - 1 },
        ]
      ) {
        for (const create of [Lock, RLock]) {
          assert.throws(
            () => new create("never.lock", { locker, mode, range }),
            {
              name: "RangeError",
              message: /^mode "w\+?" truncates .* range .*; use mode "r\+"/,
            },
          );
        }
      }
      new Lock("never.lock", { locker, mode, range: whole });
      new Lock("never.lock", { locker, mode });
    }
    const range = { start: 0, length: 100 };
    for (const mode of ["r+", "a", "x"] as const) {
      new Lock("never.lock", { locker, mode, range });
    }
  }
});
