import assert from "node:assert/strict";
import { inspect } from "node:util";
import { Redis } from "ioredis";
import { createClient, createClientPool } from "redis";
import { LOCK_EX, LOCK_NB, LOCK_SH, LockException } from "../../mod.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import { test } from "../support/test.ts";

type Make = (...args: unknown[]) => unknown;

const lock: Make = (...args) =>
  new RedisLock(...args as ConstructorParameters<typeof RedisLock>);
const semaphore: Make = (channel, options) =>
  new RedisSemaphore(channel as string, 2, options as object);

/** Invalid arguments, the class of the error, and its message. */
const BAD: [unknown[], typeof TypeError | typeof RangeError, RegExp][] = [
  [[""], RangeError, /^channel must not be empty/],
  [[undefined], TypeError, /^channel must be a string, not undefined/],
  [[17], TypeError, /^channel must be a string, not 17/],
  [[["a"]], TypeError, /^channel must be a string, not an Array/],
  [["portalock:x"], RangeError, /^channel must not begin with portalock:/],
  [["a\ud800"], RangeError, /^channel must not contain a lone surrogate/],
  [
    ["lock:x", { prefix: "porta" }],
    RangeError,
    /^channel must not begin with portalock:.*"portalock:x"/,
  ],
  [["a", { prefix: 5 }], TypeError, /^prefix must be a string, not 5/],
  [["a", { prefix: null }], TypeError, /^prefix must be a string, not null/],
  [
    ["a", { prefix: "a\n" }],
    RangeError,
    /^prefix must not contain control characters, not "a\\n"/,
  ],
  [
    ["a", { prefix: "\ud800" }],
    RangeError,
    /^prefix must not contain a lone surrogate/,
  ],
  [
    ["a", { prefix: "a{}b" }],
    RangeError,
    /^prefix must not contain the empty hash tag/,
  ],
  [
    ["a", { prefix: "portalock:b:" }],
    RangeError,
    /^prefix must not begin with portalock:/,
  ],
  [["a", null], TypeError, /^options must be an object, not null/],
  [["a", 5], TypeError, /^options must be an object, not 5/],
  [["a", { time_out: 5 }], TypeError, /^unknown option "time_out" .*timeout/],
  [["a", { mode: "w" }], TypeError, /^unknown option "mode"/],
  [["a", { timeout: -1 }], RangeError, /^timeout must be .* not -1/],
  [["a", { timeout: NaN }], RangeError, /^timeout must be .* not NaN/],
  [["a", { timeout: "5" }], TypeError, /^timeout must be .* not "5"/],
  [["a", { checkInterval: 0 }], RangeError, /^checkInterval must be/],
  [["a", { checkInterval: Infinity }], RangeError, /^checkInterval must be/],
  [["a", { failWhenLocked: 1 }], TypeError, /^failWhenLocked must be/],
  [["a", { signal: {} }], TypeError, /^signal must be an AbortSignal/],
  ...[0, -1, NaN, Infinity].map((unavailableTimeout) =>
    [
      ["a", { unavailableTimeout }],
      RangeError,
      /^unavailableTimeout must be .*more than 0 and finite/,
    ] as (typeof BAD)[number]
  ),
  [["a", { unavailableTimeout: "5" }], TypeError, /^unavailableTimeout must/],
  [["a", { unavailableTimeout: null }], TypeError, /^unavailableTimeout must/],
  [["a", { clientOptions: "x" }], TypeError, /^clientOptions must be an obj/],
  [["a", { clientOptions: null }], TypeError, /^clientOptions must be an obj/],
  [
    ["a", { client: createClient(), clientOptions: {} }],
    TypeError,
    /^clientOptions need url or sentinels/,
  ],
  [["a", { client: {} }], TypeError, /^client must be a client, a pool/],
  [["a", { client: null }], TypeError, /^client must be .*not null/],
  [
    ["a", { client: "redis://a" }],
    TypeError,
    /^client must be .*not a string: pass a URL as url$/,
  ],
  [["a", { client: new Map() }], TypeError, /^client must be a client/],
  [["a", { url: 5 }], TypeError, /^url must be a string, not 5/],
  [["a", { url: "" }], RangeError, /^url must begin with redis:/],
  [["a", { url: "http://x:geheim@a" }], RangeError, /^url must begin with red/],
  [
    ["a", { url: "redis://x:geheim@a:b:c" }],
    RangeError,
    /^url cannot be read; expected redis:.*percent-encoded/,
  ],
  [
    ["a", { url: "redis://:geheim@[" }],
    RangeError,
    /^url cannot be read; expected redis:.*percent-encoded/,
  ],
  [
    ["a", { url: "unix:geheim" }],
    RangeError,
    /^url cannot be read; expected redis:.*percent-encoded/,
  ],
  [
    ["a", { url: "redis://:geheim@a/x" }],
    RangeError,
    /^url cannot be read; expected redis:.*percent-encoded/,
  ],
  [
    ["a", { url: "redis://:geheim%@a" }],
    RangeError,
    /^url cannot be read; expected redis:.*percent-encoded/,
  ],
];

/** Runtimes print a lone surrogate in different ways. */
function nameOf(args: unknown): string {
  return inspect(args).replace(/\\ud800|\ufffd|\ud800/gi, "a lone surrogate");
}

for (const [name, make] of Object.entries({ lock, semaphore })) {
  for (const [args, Kind, message] of BAD) {
    test(`Redis options: a ${name} rejects ${nameOf(args)}`, () => {
      assert.throws(() => make(...args), (error) => {
        assert.ok(error instanceof Kind, String(error));
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /geheim/);
        return true;
      });
    });
  }
}

/** Objects whose options would all be the defaults: the server at localhost. */
const STRANGERS: Record<string, [() => object, RegExp]> = {
  "a client of node-redis": [
    () => createClient(),
    /^options must not be a client: pass it as \{ client \}$/,
  ],
  "a pool": [() => createClientPool(), /^options must not be a client/],
  "a client of ioredis": [
    () => new Redis({ lazyConnect: true }),
    /^options must not be a client/,
  ],
  "a promise": [
    () => Promise.resolve({}),
    /^options must be an object with options, not a Promise: await it first$/,
  ],
  "a URL": [
    () => new URL("redis://x:geheim@a"),
    /^options must be an object with options, not a URL$/,
  ],
};

for (const [name, [create, message]] of Object.entries(STRANGERS)) {
  test(`Redis options: ${name} in the place of the options is rejected`, () => {
    const options = create();
    for (const make of [lock, semaphore]) {
      assert.throws(() => make("a", options), { name: "TypeError", message });
    }
  });
}

test("Redis options: options may be inherited", () => {
  class Options {
    get url() {
      return "http://a";
    }
  }
  for (const options of [new Options(), Object.create(new Options())]) {
    for (const make of [lock, semaphore]) {
      assert.throws(() => make("a", options), /^RangeError: url must begin/);
    }
  }
});

test("Redis options: run() rejects a body that is not a function, without a connection", async () => {
  const url = "redis://127.0.0.1:1";
  for (const target of [lock("a", { url }), semaphore("a", { url })]) {
    const { run } = target as { run(body: unknown): Promise<unknown> };
    await assert.rejects(run.call(target, undefined), {
      name: "TypeError",
      message: /^body must be a function, not undefined/,
    });
  }
});

for (
  const flags of [LOCK_EX | LOCK_NB, LOCK_SH | LOCK_NB, LOCK_NB, 0, 8, "ex"]
) {
  test(`Redis options: a lock rejects flags ${inspect(flags)}`, () => {
    assert.throws(() => lock("a", { flags }), (error) => {
      assert.ok(error instanceof RangeError);
      assert.match(error.message, /^flags must be LOCK_EX or LOCK_SH, not /);
      return true;
    });
  });
}

test("Redis options: a lock refuses shared beside flags, and values other than booleans", () => {
  for (const flags of [LOCK_EX, LOCK_SH]) {
    for (const shared of [true, false]) {
      assert.throws(() => lock("a", { shared, flags }), {
        name: "TypeError",
        message: /^shared and flags exclude each other; pass shared alone/,
      });
    }
  }
  assert.throws(() => lock("a", { shared: 1 }), {
    name: "TypeError",
    message: /^shared must be a boolean/,
  });
});

test("Redis options: a semaphore does not accept shared", () => {
  const message = /^unknown option "shared"/;
  assert.throws(() => semaphore("a", { shared: true }), { message });
});

test("Redis options: a semaphore does not accept flags", () => {
  assert.throws(
    () => semaphore("a", { flags: LOCK_EX }),
    /unknown option "fla/,
  );
});

test("Redis options: a semaphore rejects a maximum that is not a positive integer", () => {
  for (const maximum of [0, -1, 1.5, NaN, Infinity, "2", undefined]) {
    assert.throws(
      () => new RedisSemaphore("a", maximum as number),
      /^(TypeError|RangeError): maximum must be a whole number/,
    );
  }
});

test("Redis options: a lock rejects client together with url", () => {
  const client = createClient();
  assert.throws(
    () => new RedisLock("a", { client, url: "redis://x:geheim@a" }),
    {
      name: "TypeError",
      message: /^client and url exclude each other; pass one/,
    },
  );
});

test("Redis options: acquire() rejects unknown and invalid options", async () => {
  const lock = new RedisLock("a", { url: "redis://127.0.0.1:1" });
  const options = { flags: LOCK_SH } as object;
  await assert.rejects(lock.acquire(options), {
    name: "TypeError",
    message: /^unknown option "flags"/,
  });
  const { signal } = new AbortController();
  await assert.rejects(lock.acquire(signal as object), {
    name: "TypeError",
    message: /^options must be an object with options, not an AbortSignal/,
  });
  await assert.rejects(lock.acquire({ timeout: -1 }), RangeError);
  await assert.rejects(lock.run(() => {}, { timeout: -1 }), RangeError);
  assert.equal(lock.locked, false);
});

test("Redis options: a lock accepts valid options", () => {
  const urls = [
    "redis://localhost",
    "rediss://user:geheim@localhost:6380/3",
    "redis://[::1]:6379",
    "unix:///run/redis.sock",
    "unix://user:geheim@/run/redis.sock?db=1",
  ];
  for (const url of urls) lock("a", { url });
  lock("a");
  lock("a", { timeout: Infinity, checkInterval: 1, unavailableTimeout: 0.5 });
  lock("a", { timeout: undefined, client: undefined, url: undefined });
  lock("a", { clientOptions: { socket: { port: 1 } }, flags: LOCK_SH });
});

test("Redis options: an error of a connection does not contain the password", async () => {
  const url = "redis://user:geheim@127.0.0.1:1";
  await assert.rejects(new RedisLock("a", { url }).tryAcquire(), (error) => {
    assert.ok(error instanceof LockException);
    assert.doesNotMatch(inspect(error), /geheim/);
    return true;
  });
});
