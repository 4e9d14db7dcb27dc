import assert from "node:assert/strict";
import process from "node:process";
import { after } from "node:test";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { AddressInfo, Socket } from "node:net";
import { createClient, createCluster } from "redis";
import { AlreadyLocked, LOCK_EX, LOCK_SH, LockException } from "../../mod.ts";
import { nextRetryDelay } from "../../src/redis/acquisition/acquisition.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import type {
  RedisLockOptions,
  RedisSemaphoreOptions,
} from "../../src/redis/mod.ts";
import { toLockException } from "../../src/redis/protocol/errors.ts";
import { currentRuntime } from "../support/env.ts";
import { hasCapability } from "../support/capabilities.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import { RedisCluster } from "./support/cluster.ts";
import { freePort, waitUntil } from "./support/binaries.ts";
import { RedisSentinel } from "./support/sentinel.ts";
import { DelayProxy } from "./support/delay_proxy.ts";
import { FakePython } from "./support/fake_python.ts";
import { RedisServer } from "./support/server.ts";
import {
  assertNothingLeft,
  listClients,
  lockConnections,
  startRedisProcess,
  unsharedOptions,
  waitForNoConnections,
  waitForQueueLength,
} from "./support/inspect.ts";

/** More than any rejection takes on a loaded machine. */
const MAX_REJECTION_MS = 8000;

/** The error that a fault causes. */
interface ExpectedError {
  message: RegExp;
  code: string;
  /** Whether the acquisition is retried until the timeout expires. */
  retried?: boolean;
}

/** Asserts that every way to acquire rejects with the expected error. */
async function assertRejected(
  options: RedisSemaphoreOptions,
  { message, code, retried = false }: ExpectedError,
): Promise<void> {
  const isExpected = (error: unknown) => {
    assert.ok(error instanceof LockException, String(error));
    assert.ok(!(error instanceof AlreadyLocked), String(error));
    assert.match(error.message, /^Cannot lock faulty: .*\(waited \d+ ms\)$/);
    assert.match(error.message, message);
    assert.equal(error.code, code);
    assert.ok(error.cause instanceof Error);
    return true;
  };
  const start = performance.now();
  const unavailableTimeout = code === "ETIMEDOUT" ? 500 : 5000;
  const short = { unavailableTimeout, ...options };
  const lock = new RedisLock("faulty", short);
  await assert.rejects(lock.tryAcquire(), isExpected);
  await assert.rejects(lock.acquire({ timeout: 0 }), isExpected);
  // An error that lasts is not retried.
  const timeout = retried ? 1000 : Infinity;
  await assert.rejects(lock.acquire({ timeout }), isExpected);
  const semaphore = new RedisSemaphore("faulty", 2, short);
  await assert.rejects(semaphore.acquire({ timeout: 0 }), isExpected);
  assert.equal(lock.locked, false);
  assert.ok(performance.now() - start < MAX_REJECTION_MS);
}

/** Starts a fake server that replies to each chunk of data by itself. */
async function fakeServer(reply: (data: string) => string) {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (data) => void socket.write(reply(String(data))));
  });
  await new Promise<void>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve())
  );
  const { port } = server.address() as AddressInfo;
  return {
    port,
    options: { url: `redis://127.0.0.1:${port}` },
    /** Waits until a client has connected. */
    waitForClient: () =>
      waitUntil(
        () => Promise.resolve(connections > 0),
        () => "the first client",
      ),
    /** Waits until the last client has disconnected. */
    waitForNoClients: () =>
      waitUntil(
        () => Promise.resolve(sockets.size === 0),
        () => "the end of the last client",
      ),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Returns a function that replies in the same way to each command. */
const replyToEach = (reply: string) => (data: string) =>
  reply.repeat(data.match(/^\*\d+\r\n\$/gm)?.length ?? 0);

test("Redis faults: acquire() rejects with ECONNREFUSED when the port is closed", async () => {
  const url = `redis://127.0.0.1:${await freePort()}`;
  // Under Wine, Bun reports another code.
  const code = process.versions.bun && !hasCapability("POSIX error codes")
    ? "ECONNRESET"
    : "ECONNREFUSED";
  await assertRejected({ url }, {
    message: new RegExp(code),
    code,
    retried: true,
  });
});

/**
 * Acquires in a process that has just started, until one succeeds. A busy
 * machine may be slower than the time that a server gets after a start. Without
 * that time, none of the processes is fast enough.
 */
async function acquireAtStart(
  options: RedisSemaphoreOptions,
  isExpected: (outcome: Promise<unknown>) => Promise<boolean>,
): Promise<void> {
  for (let left = 30; left > 0; left--) {
    await using started = startRedisProcess(currentRuntime);
    const acquired = started.call("acquire", "start", {
      ...options,
      clientOptions: {},
    });
    if (await isExpected(acquired)) return;
  }
  assert.fail("no process was fast enough");
}

test("Redis faults: a process that has just started says that the port is closed", async () => {
  const url = `redis://127.0.0.1:${await freePort()}`;
  await acquireAtStart({ url, timeout: 50 }, (acquired) =>
    acquired.then(
      () => assert.fail("acquired"),
      ({ code }: LockException) => /^ECONN(REFUSED|RESET)$/.test(`${code}`),
    ));
});

test(
  "Redis faults: a process that has just started acquires with a short timeout",
  async () => {
    await using server = await RedisServer.start();
    await using proxy = await DelayProxy.start(server.port);
    proxy.holdReplies();
    const timer = setInterval(() => proxy.deliver(proxy.heldReplies), 20);
    const { url } = proxy;
    await acquireAtStart(
      { url, timeout: 1 },
      (acquired) => acquired.then(() => true, () => false),
    ).finally(() => clearInterval(timer));
  },
  "redis-server",
);

test("Redis faults: acquire() retries a refused connection until the timeout expires", async () => {
  const url = `redis://127.0.0.1:${await freePort()}`;
  for (const timeout of [200, 600]) {
    const start = performance.now();
    await assert.rejects(new RedisLock("port", { url, timeout }).acquire());
    const took = performance.now() - start;
    assert.ok(took > timeout - 20, `${took} of ${timeout} ms`);
  }
});

test("Redis faults: tryAcquire() rejects with the name of a host that does not exist", async () => {
  // A name server may be slow, or not reachable.
  const lock = new RedisLock("faulty", {
    url: "redis://nowhere.invalid",
    unavailableTimeout: 60_000,
  });
  await assert.rejects(lock.tryAcquire(), (error) => {
    assert.ok(error instanceof LockException);
    assert.match(error.message, /^Cannot lock faulty: .*nowhere\.invalid/);
    assert.match(String(error.code), /^(ENOTFOUND|EAI_AGAIN)$/);
    return true;
  });
});

test("Redis faults: acquire() rejects when the server never replies", async () => {
  await using silent = await fakeServer(() => "");
  await assertRejected(silent.options, {
    message: /the server does not answer/,
    code: "ETIMEDOUT",
    retried: true,
  });
  await silent.waitForNoClients();
});

test("Redis faults: an abort during the connect leaves no connection", async () => {
  await using silent = await fakeServer(() => "");
  const controller = new AbortController();
  const { signal } = controller;
  // Resolves the host name after a delay, as for a remote server.
  const lookup = (
    _host: string,
    { all }: { all?: boolean },
    done: (error: null, address: unknown, family?: number) => void,
  ) => {
    const address = "127.0.0.1";
    controller.abort();
    setTimeout(() => {
      if (all) done(null, [{ address, family: 4 }]);
      else done(null, address, 4);
    }, 200);
  };
  const socket = { host: "far.away", port: silent.port, lookup };
  const lock = new RedisLock("faulty", { clientOptions: { socket } });
  const acquiring = lock.acquire({ timeout: 60_000, signal });
  await assert.rejects(acquiring, { name: "AbortError" });
  await silent.waitForClient();
  await silent.waitForNoClients();
});

test("Redis faults: acquire() rejects with LOADING while the server loads its data", async () => {
  await using loading = await fakeServer(
    replyToEach("-LOADING Redis is loading the dataset in memory\r\n"),
  );
  await assertRejected(loading.options, {
    message: /LOADING .* \(the server is still loading its data\)/,
    code: "LOADING",
    retried: true,
  });
  await loading.waitForNoClients();
});

test("Redis faults: acquire() rejects when the server does not support RESP3", async () => {
  await using old = await fakeServer(
    replyToEach("-ERR unknown command 'HELLO'\r\n"),
  );
  await assertRejected(old.options, { message: /Redis 7/, code: "ERR" });
  await old.waitForNoClients();
  await using proxy = await fakeServer(
    replyToEach("-NOPROTO unsupported protocol version\r\n"),
  );
  await assertRejected(proxy.options, { message: /Redis 7/, code: "NOPROTO" });
  await proxy.waitForNoClients();
});

test("Redis faults: acquire() rejects when the server speaks another protocol", async () => {
  await using web = await fakeServer(() => "HTTP/1.1 400 Bad Request\r\n\r\n");
  await assert.rejects(
    new RedisLock("faulty", web.options).acquire({ timeout: 300 }),
    (error) => {
      assert.ok(error instanceof LockException);
      return typeof error.code === "string";
    },
  );
  await web.waitForNoClients();
});

/** Replies as a node of a cluster that no longer has the slot. */
function replyMoved(data: string): string {
  const hello = "%3\r\n+proto\r\n:3\r\n+id\r\n:7\r\n+mode\r\n+cluster\r\n";
  const words = data.match(/^[A-Z]+(?=\r$)/gim) ?? [];
  return words.map((word) =>
    word === "HELLO"
      ? hello
      : /^(EVALSHA|S(UN)?SUBSCRIBE)$/i.test(word)
      ? "-MOVED 1234 127.0.0.1:9\r\n"
      : /^(CLIENT|PING)$/.test(word)
      ? "+OK\r\n"
      : ""
  ).join("");
}

test("Redis faults: acquire() rejects with MOVED when no node reports the slot", async () => {
  await using node = await fakeServer(replyMoved);
  const client = {
    slots: Array.from({ length: 16384 }, () => ({ master: {} })),
    nodeClient: () => Promise.resolve(createClient(node.options)),
    // As if no node replied.
    sendCommand: () => new Promise<never>(() => {}),
    isOpen: true,
    close() {},
    destroy() {},
    on() {},
  };
  const lock = (options: RedisLockOptions = {}) =>
    new RedisLock("faulty", { client, ...options });
  const moved = { name: "LockException", code: "MOVED" };
  const late = () => sleep(30_000, undefined, { ref: false });
  const ends: [Promise<unknown>, object][] = [
    [lock({ unavailableTimeout: 1500 }).tryAcquire(), moved],
    [lock().acquire({ timeout: 2000 }), moved],
    [
      lock().acquire({ timeout: 60_000, signal: AbortSignal.timeout(300) }),
      { name: "TimeoutError" },
    ],
  ];
  await Promise.all(
    ends.map(([end, error]) =>
      assert.rejects(Promise.race([end, late()]), error)
    ),
  );
  await node.waitForNoClients();
});

let server: RedisServer | undefined;
after(() => server?.[Symbol.asyncDispose]());

/** Defines a test with a server. Afterwards, no lock may be left there. */
const it = (promise: string, body: (server: RedisServer) => Promise<void>) =>
  test(`Redis faults: ${promise}`, async () => {
    server ??= await RedisServer.start({ password: "s e c" });
    await body(server);
    await assertNothingLeft(server);
  }, "redis-server");

it("acquire() rejects with the reason when the password is wrong or missing", async (server) => {
  const host = `127.0.0.1:${server.port}`;
  await assertRejected({ url: `redis://:wrong@${host}` }, {
    message: /the user name or the password is wrong/,
    code: "WRONGPASS",
  });
  await assertRejected({ url: `redis://${host}` }, {
    message: /NOAUTH.*\(pass a password\)/,
    code: "NOAUTH",
  });
  await waitForNoConnections(server);
  assert.deepEqual(await listClients(server), []);
});

const ALL_PERMISSIONS = "on >p ~* &* +@all";

for (
  const [without, rules] of Object.entries({
    "EVALSHA": "-evalsha",
    "EVAL and EVALSHA": "-eval -evalsha",
    "SUBSCRIBE": "-subscribe",
    "its channels": "resetchannels &other",
    "the shared channel": "resetchannels &portalock:*",
    "its keys": "resetkeys ~other",
    "PUBSUB": "-pubsub",
    "HELLO's client name": "-client",
  })
) {
  it(`a user without permission for ${without} leaves nothing`, async (server) => {
    const all = ALL_PERMISSIONS.split(" ");
    // A user of its own, so that no idle connection of another test is used.
    const user = rules.replaceAll(/\W/g, "");
    await server.command("SCRIPT", "FLUSH");
    await server.command(
      ...["ACL", "SETUSER", user, ...all, ...rules.split(" ")],
    );
    const url = `redis://${user}:p@127.0.0.1:${server.port}`;
    const lock = new RedisLock("faulty", { url });
    if (without === "HELLO's client name") {
      // HELLO sets the name, so nothing is missing.
      await lock.run(() => {});
    } else {
      for (
        const attempt of [
          () => lock.tryAcquire(),
          () => lock.acquire({ timeout: Infinity }),
        ]
      ) {
        await assert.rejects(attempt, (error) => {
          assert.ok(error instanceof LockException, String(error));
          assert.equal(error.code, "NOPERM");
          assert.match(error.message, /NOPERM|can't run|ACL failure/);
          assert.match(
            error.message,
            /docs\/redis\.md#permissions, for keys and channels that begin with portalock:v1: or faulty\)/,
          );
          return true;
        });
        assert.equal(lock.locked, false);
        await assertNothingLeft(server);
      }
    }
    await using _ = await new RedisLock("faulty", unsharedOptions(server))
      .acquire();
  });
}

/** How a server refuses the scripts of one user, or of all, and stops to. */
const REFUSALS: Record<string, [begin: string, end: string]> = {
  NOPERM: [
    "ACL SETUSER refused -evalsha -eval",
    "ACL SETUSER refused +evalsha +eval",
  ],
  NOREPLICAS: [
    "CONFIG SET min-replicas-to-write 1",
    "CONFIG SET min-replicas-to-write 0",
  ],
  OOM: ["CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"],
};

for (const [code, [begin, end]] of Object.entries(REFUSALS)) {
  const setUp = async (server: RedisServer) => {
    const user = `ACL SETUSER refused reset ${ALL_PERMISSIONS}`;
    await server.command(...user.split(" "));
    const options: RedisLockOptions = {
      url: `redis://refused:p@127.0.0.1:${server.port}`,
      clientOptions: {},
      checkInterval: 20,
      unavailableTimeout: 400,
    };
    const others = await Promise.all(
      [1, 2, 3].map((i) => new RedisLock(`other ${i}`, options).acquire()),
    );
    return { options, others };
  };

  it(`a release that is refused is sent again, and no other lock is lost: ${code}`, async (server) => {
    const { options, others } = await setUp(server);
    const lock = new RedisLock("faulty", options);
    const lease = await lock.acquire();
    // With a waiter, the release has to write more than it deletes.
    const waiting = new RedisLock("faulty", unsharedOptions(server)).acquire({
      timeout: 60_000,
      checkInterval: 60_000,
    });
    await waitForQueueLength(server, "faulty", 1);
    await server.command(...begin.split(" "));
    try {
      await lease.release();
      // The mutex among the tasks of this object is free at once.
      assert.equal(lock.locked, false);
      await sleep(900);
      for (const { held, signal } of others) {
        assert.deepEqual([held, signal.aborted], [true, false]);
      }
    } finally {
      await server.command(...end.split(" "));
    }
    await (await waiting).release();
    for (const other of others) await other.release();
  });

  it(`a waiter keeps its place, or gives it up, while the server refuses: ${code}`, async (server) => {
    const { options, others } = await setUp(server);
    const lease = await new RedisLock("faulty", unsharedOptions(server))
      .acquire();
    const controller = new AbortController();
    const { signal } = controller;
    const [first, second] = [{ signal }, {}].map((more) =>
      new RedisLock("faulty", options).acquire({ timeout: 60_000, ...more })
    ) as [Promise<unknown>, Promise<{ release(): Promise<void> }>];
    first.catch(() => {});
    second.catch(() => {});
    await waitForQueueLength(server, "faulty", 2);
    const queue = () =>
      server.command("LRANGE", "portalock:v1:{faulty}:queue", 0, -1);
    const before = await queue();
    await server.command(...begin.split(" "));
    try {
      await sleep(200);
      controller.abort();
      await assert.rejects(first, code === "NOPERM" ? /NOPERM/ : /Abort/);
    } finally {
      await server.command(...end.split(" "));
    }
    await waitForQueueLength(server, "faulty", code === "NOPERM" ? 0 : 1);
    // Another user's permissions do not come back, so this waiter gives up.
    if (code === "NOPERM") await assert.rejects(second, /NOPERM/);
    else assert.deepEqual(await queue(), (before as unknown[]).slice(1));
    await lease.release();
    if (code !== "NOPERM") await (await second).release();
    for (const other of others) await other.release();
  });

  if (code === "NOPERM") continue;

  it(`acquire() is retried within its timeout: ${code}`, async (server) => {
    const { options, others } = await setUp(server);
    await server.command(...begin.split(" "));
    const lock = new RedisLock("faulty", options);
    await assert.rejects(lock.acquire({ timeout: 200 }), { code });
    await assert.rejects(lock.tryAcquire(), { code });
    const acquiring = lock.acquire({ timeout: 60_000 });
    await sleep(300);
    await server.command(...end.split(" "));
    await (await acquiring).release();
    for (const other of others) await other.release();
  });
}

const LOCK_KEYS = { holders: "", queue: ":queue", info: ":info" };

for (const [what, name] of Object.entries(LOCK_KEYS)) {
  it(`a key of another type ends an acquisition, and the error names it: ${what}`, async (server) => {
    const key = `portalock:v1:{faulty}${name}`;
    const options = unsharedOptions(server, { checkInterval: 20, info: "me" });
    const isExpected = (error: unknown) => {
      assert.ok(error instanceof LockException, String(error));
      assert.equal(error.code, "WRONGTYPE");
      assert.match(
        error.message,
        /written to portalock:v1:clock, or to a key that begins with "portalock:v1:\{faulty\}"; delete it, or set the option prefix/,
      );
      return true;
    };
    const lease = await new RedisLock("faulty", options).acquire();
    const waiting = new RedisLock("faulty", options)
      .acquire({ timeout: Infinity });
    waiting.catch(() => {});
    await waitForQueueLength(server, "faulty", 1);
    await server.command("SET", key, "text");
    // A waiter does not write its info again.
    if (name !== ":info") await assert.rejects(waiting, isExpected);
    const lock = new RedisLock("faulty", options);
    await assert.rejects(lock.acquire({ timeout: Infinity }), isExpected);
    await server.command("DEL", key);
    await lease.release();
    if (name === ":info") await (await waiting).release();
    await lock.run(() => {});
  });
}

it("a reader that may not ask Python's clients rejects at once", async (server) => {
  const user = `ACL SETUSER mute reset ${ALL_PERMISSIONS} -publish`;
  await server.command(...user.split(" "));
  await using _python = await FakePython.start(server.url, "faulty", []);
  const lock = new RedisLock("faulty", {
    url: `redis://mute:p@127.0.0.1:${server.port}`,
    shared: true,
  });
  const refused = { code: "NOPERM" };
  await assert.rejects(lock.acquire({ timeout: Infinity }), refused);
  await assert.rejects(lock.tryAcquire(), refused);
});

test("Redis faults: a refused release is sent again seldom if only an administrator can help", () => {
  const longest = (error: Error) => {
    let delay = 100;
    for (let i = 0; i < 20; i++) delay = nextRetryDelay(delay, error);
    return delay;
  };
  for (const code of ["NOREPLICAS", "MISCONF", "BUSY", "OOM", "CLUSTERDOWN"]) {
    assert.equal(longest(new Error(`${code} for a while`)), 1000);
  }
  for (const code of ["WRONGTYPE", "NOPERM"]) {
    assert.equal(longest(new Error(`${code} for good`)), 60_000);
  }
});

test("Redis faults: a script that may not run a command fails with NOPERM, on each version of Redis", () => {
  for (
    const message of [
      "ERR The user executing the script can't run this command or subcommand",
      "ERR The user executing the script can't access at least one of the keys",
      "ERR ACL failure in script: User u may not",
      "NOPERM this user may not",
    ]
  ) {
    const { code } = toLockException("Cannot lock jobs", new Error(message));
    assert.equal(code, "NOPERM");
  }
});

it("a lock whose release is refused for good is free when the connection ends", async (server) => {
  const user = `ACL SETUSER refused reset ${ALL_PERMISSIONS}`;
  await server.command(...user.split(" "));
  const lock = new RedisLock("faulty", {
    url: `redis://refused:p@127.0.0.1:${server.port}`,
    clientOptions: {},
    unavailableTimeout: 200,
  });
  const lease = await lock.acquire();
  await server.command("ACL", "SETUSER", "refused", "-evalsha", "-eval");
  await lease.release();
  await lock[Symbol.asyncDispose]();
  await new RedisLock("faulty", unsharedOptions(server)).run(() => {});
});

it("acquire() is retried while the server has too many clients", async () => {
  await using server = await RedisServer.start();
  const taken = createClient({ url: server.url }).on("error", () => {});
  await taken.connect();
  const lock = new RedisLock("faulty", { url: server.url });
  await lock.run(() => {});
  await lock[Symbol.asyncDispose]();
  await waitForNoConnections(server);
  const { length } = await listClients(server);
  // The connection of these commands counts, too.
  await server.command("CONFIG", "SET", "maxclients", length + 1);
  await assert.rejects(
    lock.acquire({ timeout: 200 }),
    /max number of clients|closed|ECONNRESET/,
  );
  const acquiring = lock.acquire({ timeout: 60_000 });
  await sleep(300);
  taken.destroy();
  await (await acquiring).release();
});

const KEYS = "resetkeys ~portalock:v1:{kept}* ~portalock:v1:clock";
const CHANNELS = "resetchannels &portalock:* &kept*";

/** How to make a server reject one lock but not the other, and how to stop. */
const REJECTIONS: Record<
  string,
  { rules?: string; begin?: string; end: string }
> = {
  NOREPLICAS: {
    begin: "CONFIG SET min-replicas-to-write 1",
    end: "CONFIG SET min-replicas-to-write 0",
  },
  WRONGTYPE: {
    begin: "SET portalock:v1:{faulty} x",
    end: "DEL portalock:v1:{faulty}",
  },
  "NOPERM, its keys": { rules: KEYS, end: "ACL SETUSER limited ~*" },
  "NOPERM, its channel": { rules: CHANNELS, end: "ACL SETUSER limited &*" },
  "NOPERM, its keys and its channel": {
    rules: `${KEYS} ${CHANNELS}`,
    end: "ACL SETUSER limited ~* &*",
  },
};

for (const [why, { rules = "", begin, end }] of Object.entries(REJECTIONS)) {
  it(`a rejected acquisition does not lose other locks: ${why}`, async (server) => {
    const user = `ACL SETUSER limited reset ${ALL_PERMISSIONS} ${rules}`.trim();
    await server.command(...user.split(" "));
    const options: RedisLockOptions = {
      url: `redis://limited:p@127.0.0.1:${server.port}`,
      clientOptions: {},
    };
    await using kept = await new RedisLock("kept", options).acquire();
    const lock = new RedisLock("faulty", options);
    if (begin) await server.command(...begin.split(" "));
    try {
      // What is refused until an administrator acts is not tried again.
      const timeout = why === "NOREPLICAS" ? 500 : Infinity;
      for (
        const attempt of [
          () => lock.tryAcquire(),
          () => lock.acquire({ timeout }),
        ]
      ) {
        await assert.rejects(attempt, new RegExp(at(why.split(","), 0)));
      }
      // If the connection had ended, its holders would know by now.
      await sleep(50);
      assert.equal(kept.signal.aborted, false);
    } finally {
      await server.command(...end.split(" "));
    }
    await lock.run(() => {});
    assert.equal(kept.held, true);
  });
}

it("locks exclude each other while SCRIPT FLUSH runs between any two steps", async (server) => {
  let flushing = true;
  const flush = (async () => {
    while (flushing) await server.command("SCRIPT", "FLUSH");
  })();
  let inside = 0;
  const work = Array.from({ length: 6 }, async (_, i) => {
    const options = unsharedOptions(server, { checkInterval: 1 + i });
    for (let n = 0; n < 60; n++) {
      const isReader = n % 7 === 0;
      const flags = isReader ? LOCK_SH : LOCK_EX;
      const lock = new RedisLock("faulty", { ...options, flags });
      const timeout = n % 3 === 0 ? Math.random() * 5 : 60_000;
      try {
        await lock.run(() => {
          if (!isReader) assert.equal(++inside, 1);
          if (!isReader) inside--;
        }, { timeout });
      } catch (error) {
        const { message } = error as Error;
        const late = error instanceof AlreadyLocked ||
          /does not answer|has not answered/.test(message);
        assert.ok(late && timeout < 6, message);
      }
    }
  });
  await Promise.all(work);
  flushing = false;
  await flush;
});

it("a waiter that is aborted during SCRIPT FLUSH leaves the queue", async (server) => {
  const options = unsharedOptions(server, { checkInterval: 1 });
  await using kept = await new RedisLock("kept", options).acquire();
  for (let i = 0; i < 100; i++) {
    const lease = await new RedisLock("faulty", unsharedOptions(server))
      .acquire();
    const controller = new AbortController();
    const { signal } = controller;
    const wait = new RedisLock("faulty", options).acquire({ signal });
    await waitForQueueLength(server, "faulty", 1);
    const flush = server.command("SCRIPT", "FLUSH");
    controller.abort();
    await assert.rejects(wait);
    await flush;
    await lease.release();
    // A member that stayed in the queue would now hold the lock until the
    // connection ends.
    await waitUntil(
      async () => !await server.command("EXISTS", "portalock:v1:{faulty}"),
      () => "the end of the holders",
    );
  }
  assert.equal(kept.held, true);
});

test("Redis faults: acquire() rejects on a replica or a sentinel", async () => {
  await using group = await RedisSentinel.start();
  await assertRejected({ url: group.replica.url }, {
    message: /READONLY .* \(the server is a replica; connect to its master\)/,
    code: "READONLY",
    retried: true,
  });
  await waitForNoConnections(group.replica);
  assert.deepEqual(
    await group.replica.command("PUBSUB", "CHANNELS", "*faulty*"),
    [],
  );
  const sentinel = at(group.sentinels, 0);
  await assertRejected({ url: sentinel.url }, {
    message: /the server is a sentinel; pass a client from createSentinel/,
    code: "EINVAL",
  });
  await waitForNoConnections(sentinel);
}, "redis-server");

test("Redis faults: acquire() rejects a client of the wrong type", async () => {
  await using cluster = await RedisCluster.start();
  const client = createClient({ url: at(cluster.urls, 0) });
  await client.on("error", () => {}).connect();
  try {
    await assertRejected({ client }, {
      message:
        /the server is part of a cluster; pass a client from createCluster, or a Cluster of ioredis/,
      code: "EINVAL",
    });
    await waitForNoConnections(at(cluster.nodes, 0));
  } finally {
    client.destroy();
  }
  await using server = await RedisServer.start();
  const rootNodes = [{ url: server.url }];
  const clusterClient = createCluster({ rootNodes }).on("error", () => {});
  await clusterClient.connect().catch(() => {});
  try {
    await assert.rejects(
      new RedisLock("faulty", { client: clusterClient }).acquire({
        timeout: 300,
      }),
      LockException,
    );
  } finally {
    clusterClient.destroy();
  }
  assert.deepEqual(await lockConnections(server), []);
}, "redis-server");

test("Redis faults: an error of a closed connection without a code has one in LockException", () => {
  const closed = new Error("Socket closed unexpectedly");
  const { code, cause } = toLockException("Cannot lock faulty", closed);
  assert.deepEqual([code, cause], ["ECONNRESET", closed]);
});
