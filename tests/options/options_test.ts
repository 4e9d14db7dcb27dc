import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Lock, LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN } from "../../mod.ts";
import type { FileMode } from "../../mod.ts";
import { resolveLockOptions } from "../../src/options/lock_options.ts";
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
