/** What error messages say about values of the caller. */

import assert from "node:assert/strict";
import * as fs from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { inspect } from "node:util";
import {
  BoundedSemaphore,
  Lock,
  lock,
  LOCK_EX,
  lockAll,
  lockSync,
  PidFileLock,
  unlock,
  updateFile,
  writeAtomic,
} from "../../mod.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import { suppressedError } from "../../src/core/errors.ts";
import { toLockException } from "../../src/redis/protocol/errors.ts";
import { formatName, formatValue } from "../../src/options/validate.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

/** Longer than any message may be. */
const MAX_LENGTH = 1200;

const fail = (): never => {
  throw new Error("code of the caller ran");
};

/** Objects that are too large to show, or whose code must not run. */
function hostileValues(): Record<string, unknown> {
  class Hostile {
    static get name() {
      return fail();
    }
    get [Symbol.toStringTag]() {
      return fail();
    }
    [inspect.custom] = fail;
    [Symbol.toPrimitive] = fail;
    toString = fail;
    toJSON = fail;
    valueOf = fail;
    get message() {
      return fail();
    }
  }
  const numbers = Array.from({ length: 100_000 }, (_, i) => i);
  const traps = Object.fromEntries(
    Object.getOwnPropertyNames(Reflect).map((name) => [name, fail]),
  );
  const constructor = new Proxy(class {}, traps);
  const revocable = Proxy.revocable({}, {});
  revocable.revoke();
  return {
    "a large array": numbers,
    "a large object": Object.fromEntries(numbers.map((i) => [`key${i}`, i])),
    "a large string": "x".repeat(1_000_000),
    "a large symbol": Symbol("x".repeat(1_000_000)),
    "a large bigint": 10n ** 10_000n,
    "an object of a class whose name is large": new (class {
      static {
        Object.defineProperty(this, "name", { value: "x".repeat(1_000_000) });
      }
    })(),
    "an object whose accessors throw": new Hostile(),
    "a proxy of a constructor": { __proto__: { constructor } },
    "a proxy": new Proxy({}, traps),
    "a prototype that is a proxy": Object.create(
      new Proxy({}, traps),
    ),
    "a revoked proxy": revocable.proxy,
    "an object without prototype": Object.create(null),
    "a function with properties": Object.assign(() => {}, { toString: fail }),
  };
}

test("messages: a value is shown in short, without running its code", () => {
  for (const [name, value] of Object.entries(hostileValues())) {
    const shown = formatValue(value);
    assert.ok(shown.length > 0 && shown.length < 300, `${name}: ${shown}`);
    assert.doesNotMatch(shown, /\n/);
  }
});

test("messages: a value is shown by its type or its text", () => {
  class Report {}
  const cases: [value: unknown, shown: string][] = [
    ["a\nb", '"a\\nb"'],
    ["", '""'],
    [5, "5"],
    [-0, "-0"],
    [NaN, "NaN"],
    [5n, "5n"],
    [true, "true"],
    [null, "null"],
    [undefined, "undefined"],
    [Symbol("a"), "Symbol(a)"],
    [() => {}, "a function"],
    [class {}, "a function"],
    [{}, "an object"],
    [{ constructor: 5 }, "an object"],
    [Object.create(null), "an object"],
    [[1], "an Array"],
    [new Report(), "a Report"],
    [new (class extends Report {})(), "a Report"],
    [new Error("a"), "an Error"],
    [new Uint8Array(1), "a Uint8Array"],
    [new Map(), "a Map"],
    [Promise.resolve(), "a Promise: await it first"],
    [new Proxy({}, {}), "a Proxy"],
    ["x".repeat(300), `"${"x".repeat(200)}"… (300 characters)`],
  ];
  for (const [value, shown] of cases) assert.equal(formatValue(value), shown);
});

test("messages: a path is shown whole, and a longer name is cut off", () => {
  const path = "/a".repeat(2048);
  assert.equal(formatName(path), path);
  assert.ok(formatName("/a".repeat(100_000)).length < 5100);
});

test("messages: each argument of a wrong type is named in short", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  await using file = await new Lock(path, { mode: "w+" }).acquire();
  const calls: Record<string, (value: never) => unknown> = {
    Lock: (value) => new Lock(value),
    "options of Lock": (value) => new Lock(path, value),
    "an unknown option": (value) => new Lock(path, { [value]: 1 }),
    timeout: (timeout) => new Lock(path, { timeout }),
    flags: (flags) => new Lock(path, { flags }),
    signal: (signal) => new Lock(path, { signal }),
    locker: (locker) => new Lock(path, { locker }),
    mode: (mode) => new Lock(path, { mode }),
    PidFileLock: (value) => new PidFileLock(value),
    maximum: (value) => new BoundedSemaphore(value, { name: "a" }),
    name: (name) => new BoundedSemaphore(1, { name }),
    filenamePattern: (filenamePattern) =>
      new BoundedSemaphore(1, { name: "a", filenamePattern }),
    lock: (value) => lock(value, LOCK_EX),
    lockSync: (value) => lockSync(value, LOCK_EX),
    unlock: (value) => unlock(value),
    lockAll: (value) => lockAll(value),
    "a path of lockAll": (value) => lockAll([value]),
    writeAtomic: (value) => writeAtomic(path, value),
    updateFile: (value) => updateFile(path, value),
    "a result for updateFile": (value) =>
      updateFile(join(dir.path, "b"), () => value),
    encoding: (encoding) => updateFile(path, (text) => text, { encoding }),
    writeText: (value) => file.writeText(value),
    write: (value) => file.write(value),
    seek: (value) => file.seek(value, 0),
    whence: (value) => file.seek(0, value),
    truncate: (value) => file.truncate(value),
    channel: (value) => new RedisLock(value),
    client: (client) => new RedisLock("a", { client }),
    url: (url) => new RedisLock("a", { url }),
    "Redis flags": (flags) => new RedisLock("a", { flags }),
  };
  const values = hostileValues();
  const rejected = new Set<string>();
  for (const [name, call] of Object.entries(calls)) {
    for (const [kind, value] of Object.entries(values)) {
      // A key that is not a string is converted to one, by its own code.
      if (name === "an unknown option" && typeof value !== "string") continue;
      // The engine reports a trap that throws, and a revoked proxy.
      if (kind.includes("prox")) continue;
      let error: unknown;
      try {
        await call(value as never);
        continue;
      } catch (thrown) {
        error = thrown;
      }
      rejected.add(name);
      const { message } = error as Error;
      // The system's own message about a long path contains it.
      const { code = "" } = error as { code?: string };
      if (["ENAMETOOLONG", "ENOENT"].includes(code)) continue;
      assert.doesNotMatch(message, /code of the caller/, `${name}: ${kind}`);
      assert.ok(message.length < MAX_LENGTH, `${name}: ${kind}: ${message}`);
    }
  }
  assert.deepEqual([...rejected].sort(), Object.keys(calls).sort());
});

test("messages: another error's message is repeated in short", () => {
  for (const [kind, value] of Object.entries(hostileValues())) {
    const combined = suppressedError(value, new Error("x".repeat(1_000_000)));
    assert.match(combined.message, /; it suppressed an earlier error: x+/);
    assert.ok(combined.message.length < 2 * MAX_LENGTH, kind);
  }
  const { message } = toLockException("Cannot lock a", {
    message: "x".repeat(1_000_000),
  });
  assert.ok(message.length < MAX_LENGTH);
});

test("lock() says that a stream is not open yet, or is closed", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  fs.writeFileSync(path, "");
  for (const create of [fs.createWriteStream, fs.createReadStream]) {
    const stream = create(path);
    const kind = create === fs.createWriteStream ? "Write" : "Read";
    const expected =
      "file must be a descriptor, an object with one or a Deno.FsFile, " +
      `not a ${kind}Stream that is `;
    const opened = once(stream, "open");
    const closed = once(stream, "close");
    await assert.rejects(lock(stream as never, LOCK_EX), {
      name: "TypeError",
      message: `${expected}not open yet: wait for its "open" event`,
    });
    await opened;
    stream.destroy();
    await closed;
    assert.throws(() => lockSync(stream as never, LOCK_EX), {
      name: "TypeError",
      message: `${expected}closed`,
    });
  }
});

test("lock() says what a wrong argument is, and what to pass", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a");
  const handle = await fs.promises.open(path, "w");
  await handle.close();
  const cases: [argument: unknown, says: string][] = [
    [path, ": to lock a path, use new Lock(path)"],
    [fs.promises.open(path, "w"), " not a Promise: await it first"],
    [handle, "file must be open, not a FileHandle that is closed"],
    [{ fd: null }, " not an object whose fd is null"],
    [{ fd: "3" }, ' not an object whose fd is "3"'],
    [new Map(), " not a Map"],
  ];
  for (const [argument, says] of cases) {
    await assert.rejects(lock(argument as never, LOCK_EX), (error: Error) => {
      assert.equal(error.name, "TypeError");
      assert.ok(error.message.endsWith(says), error.message);
      return true;
    });
    if (argument instanceof Promise) await (await argument).close();
  }
});
