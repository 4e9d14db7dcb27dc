/** Which clients a lock accepts, and what it takes from them. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import process from "node:process";
import { Cluster, Redis } from "ioredis";
import * as ioredis5 from "ioredis-5";
import * as redis6 from "redis";
import {
  createClient,
  createClientPool,
  createCluster,
  createSentinel,
} from "redis";
import * as redis4 from "redis-4";
import * as redis5 from "redis-5";
import { builtin } from "../../ffi/mod.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import type { RedisLockOptions } from "../../src/redis/mod.ts";
import { ClientConnection } from "../../src/redis/clients/client_connection.ts";
import { connectionError } from "../../src/redis/clients/connection_error.ts";
import { serverOfIoredis } from "../../src/redis/clients/ioredis.ts";
import { serverOfNodeRedis } from "../../src/redis/clients/node_redis.ts";
import { withTwoConnections } from "../../src/redis/clients/two_connections.ts";
import { hasMarks } from "../../src/redis/clients/types.ts";
import type {
  ConnectionEvents,
  RedisConnection,
  Server,
} from "../../src/redis/clients/types.ts";
import { fromClient } from "../../src/redis/clients/mod.ts";
import { parseUrl } from "../../src/redis/clients/url.ts";
import { isRetryable } from "../../src/redis/protocol/errors.ts";
import type { Capability } from "../support/capabilities.ts";
import { test } from "../support/test.ts";
import { waitUntil } from "./support/binaries.ts";
import { RedisCluster } from "./support/cluster.ts";
import { DelayProxy } from "./support/delay_proxy.ts";
import { redisSuite } from "./support/inspect.ts";
import { RedisServer } from "./support/server.ts";
import type { CreateCluster } from "./support/topologies.ts";

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
const isWindows = process.platform === "win32";
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

/** Values that a lock refuses, and how the message describes them. */
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
  // The methods by which it is recognized, and others.
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
  "a class": [() => Redis, /a function: pass the client that it creates$/],
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
    /an object: pass one of these, or a URL as url$/,
  ],
  "the options of a client": [
    () => ({ host: "a", password: "geheim" }),
    /the options of one: pass them as clientOptions, or a URL as url$/,
  ],
  "a URL object": [
    () => new globalThis.URL("redis://x:geheim@a"),
    /a URL: pass its href as url$/,
  ],
  "a multi of ioredis": [
    () => new Redis(LAZY).multi(),
    /a Pipeline: pass one of these, or a URL as url$/,
  ],
  "null": [() => null, /null$/],
  "a Map": [() => new Map(), /a Map: pass one of these, or a URL as url$/],
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

it("a lock that is created inside the execute() of a full pool names the remedy", async (server) => {
  const limits = { maximum: 1, acquireTimeout: 1000 };
  const pool = createClientPool({ url: server.url }, limits);
  await pool.on("error", () => {}).connect();
  try {
    // Before the pool gives up, and after.
    for (const timeout of [800, 1500]) {
      await assert.rejects(
        pool.execute(() =>
          new RedisLock("pooled", { client: pool }).acquire({ timeout })
        ),
        /all clients of the pool are in use; create the lock before pool\.execute\(\), or pass the client that it passes \(waited/,
      );
    }
    await pool.execute((client) =>
      new RedisLock("pooled", { client }).run(() => {})
    );
  } finally {
    pool.destroy();
  }
});

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

test(
  "Redis clients: a connection of Bun's client that is closed at once is not opened",
  async () => {
    // It accepts connections and never replies.
    const server = createServer((socket) => void socket.on("error", () => {}));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const { RedisClient } = builtin<{
      RedisClient: new (url: string) => object;
    }>("bun")!;
    const client = new RedisClient(`redis://127.0.0.1:${port}`);
    const at = await fromClient(client as never, undefined).locate("");
    const connection = await at.create("name", {
      onMessage() {},
      onEnd() {},
      onMoved() {},
    });
    const opening = connection.open();
    connection.close();
    await assert.rejects(opening, /the connection ended/);
    server.close();
  },
  "Bun's RedisClient",
);

/** A connection whose replies the test sends. */
class FakeConnection implements RedisConnection {
  readonly ordered = true;
  readonly log: string[];
  readonly events: ConnectionEvents;
  readonly name: string;
  /** Settle the subscriptions, in the order of their commands. */
  readonly replies: ((error?: Error) => void)[] = [];
  closed = false;

  constructor(name: string, events: ConnectionEvents, log: string[]) {
    this.name = name;
    this.events = events;
    this.log = log;
  }

  open = () => Promise.resolve({ clientId: this.name });
  send = (args: readonly string[]) => {
    if (this.closed) return Promise.reject(new Error("closed"));
    this.log.push(args.join(" "));
    return Promise.resolve("OK");
  };
  subscribe = (channels: readonly string[]) => {
    this.log.push(`SUBSCRIBE ${channels}`);
    return new Promise<void>((resolve, reject) =>
      this.replies.push((error) => error ? reject(error) : resolve())
    );
  };
  unsubscribe = () => Promise.resolve();
  close = () => void (this.closed = true);
  ref() {}
  unref() {}
}

/** Opens a pair of connections, and records what it sends and reports. */
async function openPair() {
  const log: string[] = [];
  const ends: unknown[] = [];
  const created: FakeConnection[] = [];
  const server = withTwoConnections({
    address: "",
    create(name, events) {
      const connection = new FakeConnection(name, events, log);
      created.push(connection);
      return connection;
    },
  });
  const pair = await server.create("a", {
    onMessage: (channel, message) => void log.push(`${channel} ${message}`),
    onEnd: (error) => void ends.push(error),
    onMoved: () => {},
  });
  const opened = await pair.open();
  return {
    log,
    ends,
    pair,
    opened,
    subscriber: created[0]!,
    commands: created[1]!,
  };
}

test("Redis clients: no command of two connections overtakes a subscription", async () => {
  const { log, pair, subscriber } = await openPair();
  assert.equal(pair.ordered, false);
  const first = pair.subscribe(["x"], false);
  const second = pair.subscribe(["y"], false);
  second.catch(() => {});
  const sent = ["1", "2"].map((word) => pair.send([word]));
  assert.deepEqual(log, ["SUBSCRIBE x", "SUBSCRIBE y"]);
  subscriber.replies[0]!();
  await first;
  assert.deepEqual(log, ["SUBSCRIBE x", "SUBSCRIBE y"]);
  subscriber.replies[1]!(new Error("refused"));
  assert.deepEqual(await Promise.all(sent), ["OK", "OK"]);
  await pair.send(["3"]);
  assert.deepEqual(log, ["SUBSCRIBE x", "SUBSCRIBE y", "1", "2", "3"]);
});

test("Redis clients: two connections have the name and the number of the one that subscribes", async () => {
  const { opened, subscriber, commands } = await openPair();
  assert.equal(subscriber.name, "a");
  assert.equal(commands.name, "a:commands");
  assert.equal(opened.clientId, "a");
});

for (const which of ["subscriber", "commands"] as const) {
  test(`Redis clients: the end of the ${which} of two connections closes both, and is reported once`, async () => {
    const { ends, pair, ...both } = await openPair();
    pair.subscribe(["x"], false).catch(() => {});
    const waiting = pair.send(["1"]);
    const error = new Error("ended");
    both[which].events.onEnd(error);
    both.subscriber.events.onEnd(new Error("again"));
    both.commands.events.onEnd(new Error("again"));
    assert.deepEqual(ends, [error]);
    assert.deepEqual([both.subscriber.closed, both.commands.closed], [
      true,
      true,
    ]);
    await assert.rejects(waiting, /closed/);
  });
}

test("Redis clients: a URL is read as node-redis reads it", () => {
  const host = "a.b";
  const urls: [string, object][] = [
    ["redis://a.b", { host, port: 6379 }],
    ["rediss://a.b:7/3", { host, port: 7, tls: true }],
    ["redis://u%20r:p%2F@a.b", {
      host,
      port: 6379,
      username: "u r",
      password: "p/",
    }],
    ["redis://:p@[::1]:1", { host: "::1", port: 1, password: "p" }],
    ["unix:///run/a%20b?db=1", { path: "/run/a b", port: 6379 }],
    ["unix://u:p:w@/run/a", {
      path: "/run/a",
      port: 6379,
      username: "u",
      password: "p:w",
    }],
  ];
  for (const [url, address] of urls) assert.deepEqual(parseUrl(url), address);
});

for (
  const [version, create] of [
    ["6", createCluster as CreateCluster],
    ["5", redis5.createCluster as CreateCluster],
  ] as const
) {
  test(
    `Redis clients: a cluster of node-redis ${version} says that no node has the slot, or that it is not connected`,
    async () => {
      await using cluster = await RedisCluster.start({
        config: ["cluster-require-full-coverage no"],
      });
      const slot = await cluster.slotOf("{jobs}");
      for (const node of cluster.nodes) {
        await node.command("CLUSTER", "DELSLOTS", slot);
      }
      const client = create({
        rootNodes: cluster.urls.map((url) => ({ url })),
      });
      client.on("error", () => {});
      const lock = new RedisLock("jobs", { client: client as never });
      const acquire = () => lock.acquire({ timeout: 300 });
      await assert.rejects(acquire(), /not connected; await its connect\(\) /);
      await client.connect();
      try {
        await assert.rejects(acquire(), {
          name: "LockException",
          message: /: no node has the slot of the key \(waited /,
        });
      } finally {
        client.destroy();
      }
    },
    "redis-server",
  );
}

/** The server of a URL, in each package. */
const SERVERS_OF_URL: [name: string, create: (url: string) => Server][] = [
  ["node-redis 6", (url) => serverOfNodeRedis(redis6, url, {})],
  ["node-redis 5", (url) => serverOfNodeRedis(redis5 as never, url, {})],
  ["ioredis 6", (url) => serverOfIoredis({ Redis }, url, {})],
  ["ioredis 5", (url) => serverOfIoredis(ioredis5 as never, url, {})],
];

for (const [name, create] of SERVERS_OF_URL) {
  test(
    `Redis clients: ${name} connects to the socket of a unix: URL, with its password`,
    async () => {
      const config = ["unixsocket s", "user u on >p:w +@all"];
      await using server = await RedisServer.start({ config });
      const { folder } = server;
      const connection = await create(`unix://u:p:w@${folder}/s`).create(
        "name",
        { onMessage() {}, onEnd() {}, onMoved() {} },
      );
      await connection.open();
      assert.equal(await connection.send(["ACL", "WHOAMI"]), "u");
      connection.close();
    },
    "redis-server",
    "signals",
  );
}

it("the reason why a server cannot be connected to is found out", async (server) => {
  await server.command("CONFIG", "SET", "requirepass", "p w");
  try {
    const { port } = server;
    const reasons: [string, RegExp | undefined][] = [
      // Bun under Wine connects first.
      ["redis://127.0.0.1:1", isWindows ? /ECONNRE/ : /ECONNREFUSED/],
      [`redis://127.0.0.1:${port}`, /^NOAUTH /],
      [`redis://:wrong@127.0.0.1:${port}`, /^WRONGPASS /],
      [`redis://:p%20w@127.0.0.1:${port}`, undefined],
    ];
    for (const [url, reason] of reasons) {
      const error = await connectionError(url, 10_000) as Error | undefined;
      if (reason) assert.match(String(error?.message), reason);
      else assert.equal(error, undefined);
    }
  } finally {
    await server.command("CONFIG", "SET", "requirepass", "");
  }
});

/** A connection whose library is the test. */
class TestConnection extends ClientConnection {
  readonly ordered = true;
  connecting: () => Promise<unknown> = () => Promise.resolve();
  destroyed = 0;

  send([command]: readonly string[]) {
    const hello = ["id", 7, "proto", 3, "mode", "standalone"];
    return Promise.resolve(command === "HELLO" ? hello : "OK");
  }
  subscribe = () => Promise.resolve();
  unsubscribe = () => Promise.resolve();
  ref() {}
  unref() {}
  connect = () => this.connecting();
  destroy = () => {
    this.destroyed++;
    throw new Error("destroyed");
  };
  message = () => this.onMessage("a", "b");
  moved = () => this.onMoved("a");
  end = (message: string) => this.onEnd(new Error(message));
  fail = (error: unknown) => this.onEnd(error);
}

function testConnection(onEnd = (_error: unknown) => {}) {
  const log: string[] = [];
  const connection = new TestConnection({
    onMessage: (channel, message) => void log.push(`${channel} ${message}`),
    onMoved: (channel) => void log.push(`moved ${channel}`),
    onEnd: (error) => {
      log.push((error as Error).message);
      onEnd(error);
    },
  }, { sharded: false, protocol: 3 });
  return { log, connection };
}

test("Redis clients: a connection reports its end once, and nothing after close()", async () => {
  const { log, connection } = testConnection();
  assert.deepEqual(await connection.open(), { clientId: "7" });
  connection.message();
  connection.moved();
  connection.end("first");
  connection.end("second");
  connection.close();
  connection.message();
  connection.moved();
  assert.deepEqual(log, ["a b", "moved a", "first"]);
  const other = testConnection();
  await other.connection.open();
  other.connection.close();
  other.connection.close();
  other.connection.end("late");
  assert.deepEqual(other.log, []);
  assert.equal(other.connection.destroyed, 1);
});

test("Redis clients: a mistake of the library ends an open connection, and a retry may succeed", async () => {
  const mistake = new TypeError("undefined is not an object");
  const ends: unknown[] = [];
  const { log, connection } = testConnection((error) => ends.push(error));
  await connection.open();
  assert.equal(isRetryable(mistake), false);
  connection.fail(mistake);
  assert.deepEqual(log, [
    "the client library failed: undefined is not an object",
  ]);
  assert.equal(isRetryable(ends[0]), true);
  assert.equal((ends[0] as Error).cause, mistake);
});

test("Redis clients: open() rejects with the error that the library reported", async () => {
  const { log, connection } = testConnection();
  connection.connecting = () => {
    connection.end("refused");
    return Promise.reject(new Error("closed"));
  };
  await assert.rejects(connection.open(), { message: "refused" });
  assert.equal(connection.destroyed, 1);
  assert.deepEqual(log, []);
});

test("Redis clients: a connection that is closed while it opens is closed again", async () => {
  const { connection } = testConnection();
  connection.connecting = () => Promise.resolve(connection.close());
  await assert.rejects(connection.open(), { message: /was closed/ });
  assert.equal(connection.destroyed, 2);
});

/** A socket. Each call of these methods is one system call. */
interface Socket {
  _write(...args: unknown[]): unknown;
  _writev(...args: unknown[]): unknown;
}

it("ioredis writes the commands of one turn in groups", async (server) => {
  const sockets: Socket[] = [];
  const client = new Redis(server.url, LAZY);
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (options) => {
    const connection = duplicate(options);
    connection.on("ready", () => {
      sockets.push(connection.stream as unknown as Socket);
    });
    return connection;
  };
  const locks = Array.from(
    { length: 100 },
    (_, i) => new RedisLock(`lock ${i}`, { client }),
  );
  const leases = await Promise.all(locks.map((lock) => lock.acquire()));
  const [socket, ...others] = sockets;
  assert.ok(socket && others.length === 0);
  let writes = 0;
  for (const name of ["_write", "_writev"] as const) {
    const write = socket[name];
    socket[name] = function (...args) {
      writes++;
      return write.apply(this, args);
    };
  }
  const released = leases.map((lease) => lease.release());
  assert.ok(writes > 1, "the server has to wait for the end of the turn");
  await Promise.all(released);
  assert.ok(writes < 20, `${writes} writes`);
});

/** Clients that do not connect before they are used, and how to close them. */
const LAZY_CLIENTS: [
  name: string,
  create: (url: string) => object,
  ...needs: Capability[],
][] = [
  ["node-redis 6", (url) => createClient({ url })],
  ["node-redis 5", (url) => redis5.createClient({ url })],
  ["ioredis 6", (url) => new Redis(url, LAZY)],
  ["ioredis 5", (url) => new ioredis5.Redis(url, LAZY)],
  [
    "the RedisClient of Bun",
    (url) => {
      const { RedisClient } = builtin<{
        RedisClient: new (url: string) => object;
      }>("bun")!;
      return new RedisClient(url);
    },
    "Bun's RedisClient",
  ],
];

for (const [name, create, ...needs] of LAZY_CLIENTS) {
  test(
    `Redis clients: with ${name}, the reply to UNSUBSCRIBE is not taken for that to SUBSCRIBE`,
    async () => {
      await using server = await RedisServer.start();
      await using proxy = await DelayProxy.start(server.port);
      const source = fromClient(create(proxy.url) as never, undefined);
      const at = await source.locate("");
      const connection = await at.create("name", {
        onMessage() {},
        onEnd() {},
        onMoved() {},
      });
      const subscribers = (count: number) =>
        waitUntil(
          async () => {
            const counts = await server.command("PUBSUB", "NUMSUB", "a", "b");
            return String(counts) === `a,${count},b,${count}`;
          },
          () => `${count} subscribers`,
        );
      await connection.open();
      try {
        await connection.subscribe(["own"], false);
        for (let round = 0; round < 3; round++) {
          await connection.subscribe(["a", "b"], false);
          await subscribers(1);
          proxy.holdReplies();
          connection.unsubscribe(["a", "b"], false).catch(() => {});
          await waitUntil(
            () => Promise.resolve(proxy.heldReplies > 0),
            () => "the replies",
          );
          let settled = false;
          const again = connection.subscribe(["a", "b"], false)
            .finally(() => settled = true);
          proxy.deliver(1);
          await subscribers(1);
          assert.equal(settled, false);
          proxy.deliverAll();
          await again;
          await connection.unsubscribe(["a", "b"], false);
          await subscribers(0);
        }
      } finally {
        connection.close();
      }
    },
    "redis-server",
    ...needs,
  );
}
