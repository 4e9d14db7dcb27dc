/** Which clients a lock accepts, and what it takes from them. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { Cluster, Redis } from "ioredis";
import * as ioredis5 from "ioredis-5";
import { createClient, createClientPool, createSentinel } from "redis";
import * as redis4 from "redis-4";
import * as redis5 from "redis-5";
import { builtin } from "../../ffi/mod.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import type { RedisLockOptions } from "../../src/redis/mod.ts";
import { hasMarks } from "../../src/redis/clients/types.ts";
import { test } from "../support/test.ts";
import { waitUntil } from "./support/binaries.ts";
import { redisSuite } from "./support/inspect.ts";

// Neither has declarations.
const require = createRequire(import.meta.url);
const redis3 = require("redis-3") as {
  createClient(options: object): {
    on(event: "error", listener: () => void): void;
    end(flush: boolean): void;
  };
};
type Ioredis4 = new (...args: unknown[]) => object;
const ioredis4 = require("ioredis-4") as Ioredis4 & { Cluster: Ioredis4 };

/** Nothing listens there. */
const URL = "redis://127.0.0.1:1";
const NODES = [{ host: "127.0.0.1", port: 1 }];
const LAZY = { lazyConnect: true };

const SUPPORTED =
  /^client must be a client, a pool, a cluster or sentinels of node-redis 5 or 6, a client or a cluster of ioredis 5 or 6, or a RedisClient of Bun, not /;

/** Constructors of everything that takes a client. */
const CONSTRUCTORS: ((options: RedisLockOptions) => unknown)[] = [
  (options) => new RedisLock("a", options),
  (options) => new RedisSemaphore("a", 2, options),
];

/** Returns a client of node-redis 3, which connects when it is created. */
function nodeRedis3(): object {
  const client = redis3.createClient({ host: "127.0.0.1", port: 1 });
  client.on("error", () => {});
  client.end(true);
  return client;
}

/** What is no client that a lock can use, and how the message describes it. */
const STRANGERS: Record<string, [() => unknown, RegExp]> = {
  "a client of node-redis 4": [
    () => redis4.createClient({ url: URL }),
    /one of node-redis 4: update it \(npm install redis@6\)$/,
  ],
  "a cluster of node-redis 4": [
    () => redis4.createCluster({ rootNodes: [{ url: URL }] }),
    /one of node-redis 4: update it \(npm install redis@6\)$/,
  ],
  "a client of node-redis 3": [
    nodeRedis3,
    /one of node-redis 3 or older: update it \(npm install redis@6\)$/,
  ],
  "a client of ioredis 4": [
    () => new ioredis4(1, LAZY),
    /one of ioredis 4 or older: update it \(npm install ioredis@6\)$/,
  ],
  "a cluster of ioredis 4": [
    () => new ioredis4.Cluster(NODES, LAZY),
    /one of ioredis 4 or older: update it \(npm install ioredis@6\)$/,
  ],
  // It has no methods in common with the others but these.
  "a client of valkey-glide": [
    () => ({
      customCommand() {},
      updateConnectionPassword() {},
      exec() {},
      close() {},
    }),
    /one of valkey-glide: pass one of another package/,
  ],
  "a promise of a client": [
    () =>
      createClientPool({ url: URL }).connect.call({ on() {} }).catch(() => {}),
    /a promise: await it$/,
  ],
  "a URL": [() => "redis://x:geheim@a", /a string: pass a URL as url$/],
  "a class": [() => Redis, /a function$/],
  "an object with the methods of several libraries": [
    () => ({
      options: {},
      duplicate() {},
      disconnect() {},
      quit() {},
      destroy() {},
      execute() {},
      nodes() {},
    }),
    /an object$/,
  ],
  "a multi of ioredis": [() => new Redis(LAZY).multi(), /./],
  "null": [() => null, /null$/],
  "a Map": [() => new Map(), /a Map$/],
};

for (const [name, [create, description]] of Object.entries(STRANGERS)) {
  test(`Redis clients: ${name} is refused with what it is and what is supported`, () => {
    const client = create();
    for (const construct of CONSTRUCTORS) {
      assert.throws(() => construct({ client: client as never }), (error) => {
        assert.ok(error instanceof TypeError);
        assert.match(error.message, SUPPORTED);
        assert.match(error.message, description);
        assert.doesNotMatch(error.message, /geheim/);
        return true;
      });
    }
  });
}

interface BunModule {
  readonly RedisClient: new (url: string) => { close(): void };
}

/** Clients that are supported. None is connected. */
const CLIENTS: Record<string, () => object> = {
  "a client of node-redis 6": () => createClient({ url: URL }),
  "a client of node-redis 5": () => redis5.createClient({ url: URL }),
  "a pool of node-redis 6": () => createClientPool({ url: URL }),
  "a pool of node-redis 5": () => redis5.createClientPool({ url: URL }),
  "a cluster of node-redis 5": () =>
    redis5.createCluster({ rootNodes: [{ url: URL }] }),
  "a client of ioredis 6": () => new Redis(LAZY),
  "a client of ioredis 5": () => new ioredis5.Redis(LAZY),
  "a cluster of ioredis 6": () => new Cluster(NODES, LAZY),
  "a cluster of ioredis 5": () => new ioredis5.Cluster(NODES, LAZY),
};

const BUN = "a RedisClient of Bun";
CLIENTS[BUN] = () => new (builtin<BunModule>("bun")!.RedisClient)(URL);

for (const [name, create] of Object.entries(CLIENTS)) {
  test(`Redis clients: ${name} is accepted, but not with clientOptions`, () => {
    const client = create() as never;
    for (const construct of CONSTRUCTORS) {
      construct({ client });
      assert.throws(() => construct({ client, clientOptions: {} }), {
        name: "TypeError",
        message: /^clientOptions need url or sentinels/,
      });
    }
  }, ...name === BUN ? ["Bun's RedisClient" as const] : []);
}

test("Redis clients: sentinels of node-redis are accepted with clientOptions", () => {
  const options = { name: "a", sentinelRootNodes: NODES };
  for (
    const client of [createSentinel(options), redis5.createSentinel(options)]
  ) {
    for (const construct of CONSTRUCTORS) {
      construct({ client: client as never });
      construct({ client: client as never, clientOptions: {} });
    }
  }
});

test("Redis clients: a client is recognized only if it has all marks", () => {
  const marks = { methods: ["a", "b"], properties: ["c"] };
  assert.equal(hasMarks({ a() {}, b() {}, c: undefined }, marks), true);
  for (const value of [{ a() {}, b() {} }, { a() {}, b: 1, c: 1 }, { c: 1 }]) {
    assert.equal(hasMarks(value, marks), false);
  }
});

const it = redisSuite("Redis clients");

/** What a test needs of a pool, in each version of node-redis. */
interface Pool {
  on(event: "error", listener: () => void): unknown;
  connect(): Promise<unknown>;
  execute(work: () => Promise<unknown>): Promise<unknown>;
  destroy(): void;
}
type CreatePool = (client: object, pool: object) => Pool;

for (
  const [version, create] of [
    ["6", createClientPool as CreatePool],
    ["5", redis5.createClientPool as CreatePool],
  ] as const
) {
  it(`acquire() in the execute() of a full pool of node-redis ${version} resolves`, async (server) => {
    const pool = create({ url: server.url }, { maximum: 1 });
    pool.on("error", () => {});
    await pool.connect();
    try {
      const lock = new RedisLock("pooled", { client: pool as never });
      const work = () => lock.run(() => "done", { timeout: 20_000 });
      assert.equal(await pool.execute(work), "done");
    } finally {
      pool.destroy();
    }
  });
}

for (
  const [version, create] of [
    ["6", (options: object) => new Redis(options)],
    ["5", (options: object) => new ioredis5.Redis(options)],
  ] as const
) {
  test(`Redis clients: an aborted acquire() closes the connections that ioredis ${version} was opening`, async () => {
    const sockets = new Set<object>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.resume();
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const client = create({ host: "127.0.0.1", port, lazyConnect: true });
    const controller = new AbortController();
    const accepted = once(server, "connection");
    const acquiring = new RedisLock("a", { client: client as never })
      .acquire({ signal: controller.signal });
    await accepted;
    controller.abort(new Error("enough"));
    await assert.rejects(acquiring, { message: "enough" });
    await waitUntil(
      () => Promise.resolve(sockets.size === 0),
      () => "the end of the connections",
    );
    server.close();
  });
}
