import assert from "node:assert/strict";
import process from "node:process";
import { after } from "node:test";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { AddressInfo, Socket } from "node:net";
import { createClient, createCluster } from "redis";
import { AlreadyLocked, LOCK_SH, LockException } from "../../mod.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import type {
  RedisLockOptions,
  RedisSemaphoreOptions,
} from "../../src/redis/mod.ts";
import { hasCapability } from "../support/capabilities.ts";
import { test } from "../support/test.ts";
import { RedisCluster } from "./support/cluster.ts";
import { freePort, waitUntil } from "./support/binaries.ts";
import { RedisSentinel } from "./support/sentinel.ts";
import { RedisServer } from "./support/server.ts";
import {
  assertNothingLeft,
  listClients,
  lockConnections,
  unsharedOptions,
  waitForNoConnections,
  waitForQueueLength,
} from "./support/inspect.ts";

/** More than any refusal takes on a loaded machine, in milliseconds. */
const AT_ONCE = 8000;

interface Refusal {
  message: RegExp;
  code?: string;
  /** Whether it is tried again until the wait is over. */
  lasting?: boolean;
}

/** Nobody gets a lock there, and everybody is told why. */
async function assertRefused(
  options: RedisSemaphoreOptions,
  { message, code, lasting = false }: Refusal,
): Promise<void> {
  const explained = (error: unknown) => {
    assert.ok(error instanceof LockException, String(error));
    assert.ok(!(error instanceof AlreadyLocked), String(error));
    assert.match(error.message, /^Cannot lock weather: .*\(waited \d+ ms\)$/);
    assert.match(error.message, message);
    assert.equal(error.code, code);
    assert.ok(error.cause instanceof Error);
    return true;
  };
  const start = performance.now();
  const short = { unavailableTimeout: 500, ...options };
  const lock = new RedisLock("weather", short);
  await assert.rejects(lock.tryAcquire(), explained);
  await assert.rejects(lock.acquire({ timeout: 0 }), explained);
  // What cannot become better is not tried again.
  const timeout = lasting ? 1000 : Infinity;
  await assert.rejects(lock.acquire({ timeout }), explained);
  const semaphore = new RedisSemaphore("weather", 2, short);
  await assert.rejects(semaphore.acquire({ timeout: 0 }), explained);
  assert.equal(lock.locked, false);
  assert.ok(performance.now() - start < AT_ONCE);
}

/** A server that answers each piece of data by itself. */
async function impostor(answer: (data: string) => string) {
  const sockets = new Set<Socket>();
  let visits = 0;
  const server = createServer((socket) => {
    visits++;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (data) => void socket.write(answer(String(data))));
  });
  await new Promise<void>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve())
  );
  const { port } = server.address() as AddressInfo;
  return {
    port,
    options: { url: `redis://127.0.0.1:${port}` },
    /** Waits until somebody has been connected. */
    visited: () =>
      waitUntil(() => Promise.resolve(visits > 0), () => "the first socket"),
    /** Waits until nobody is connected. */
    deserted: () =>
      waitUntil(
        () => Promise.resolve(sockets.size === 0),
        () => "the last socket",
      ),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Answers each command of a piece of data, of which it knows the number. */
const each = (reply: string) => (data: string) =>
  reply.repeat(data.match(/^\*\d+\r\n\$/gm)?.length ?? 0);

test("bad weather in Redis: nobody listens on the port", async () => {
  const url = `redis://127.0.0.1:${await freePort()}`;
  // Bun has another name for it under Wine.
  const code = process.versions.bun && !hasCapability("POSIX error codes")
    ? "ECONNRESET"
    : "ECONNREFUSED";
  await assertRefused({ url }, {
    message: new RegExp(code),
    code,
    lasting: true,
  });
});

test("bad weather in Redis: it is tried until the wait is over", async () => {
  const url = `redis://127.0.0.1:${await freePort()}`;
  for (const timeout of [200, 600]) {
    const start = performance.now();
    await assert.rejects(new RedisLock("port", { url, timeout }).acquire());
    const took = performance.now() - start;
    assert.ok(took > timeout - 20, `${took} of ${timeout} ms`);
  }
});

test("bad weather in Redis: the host does not exist", async () => {
  // Whoever is to know takes as long as they take, or may be out of reach.
  const lock = new RedisLock("weather", {
    url: "redis://nowhere.invalid",
    unavailableTimeout: 60_000,
  });
  await assert.rejects(lock.tryAcquire(), (error) => {
    assert.ok(error instanceof LockException);
    assert.match(error.message, /^Cannot lock weather: .*nowhere\.invalid/);
    assert.match(String(error.code), /^(ENOTFOUND|EAI_AGAIN)$/);
    return true;
  });
});

test("bad weather in Redis: the server never answers", async () => {
  await using silent = await impostor(() => "");
  await assertRefused(silent.options, {
    message: /the server does not answer/,
    lasting: true,
  });
  await silent.deserted();
});

test("bad weather in Redis: who gives up while it connects is connected no more", async () => {
  await using silent = await impostor(() => "");
  const controller = new AbortController();
  const { signal } = controller;
  /** As if the server were far away. */
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
  const lock = new RedisLock("weather", { clientOptions: { socket } });
  const acquiring = lock.acquire({ timeout: 60_000, signal });
  await assert.rejects(acquiring, { name: "AbortError" });
  await silent.visited();
  await silent.deserted();
});

test("bad weather in Redis: the server loads its data", async () => {
  await using loading = await impostor(
    each("-LOADING Redis is loading the dataset in memory\r\n"),
  );
  await assertRefused(loading.options, {
    message: /LOADING .* \(the server is still loading its data\)/,
    code: "LOADING",
    lasting: true,
  });
  await loading.deserted();
});

test("bad weather in Redis: the server speaks no RESP3", async () => {
  await using old = await impostor(
    each("-ERR unknown command 'HELLO'\r\n"),
  );
  await assertRefused(old.options, { message: /Redis 6/, code: "ERR" });
  await old.deserted();
  await using proxy = await impostor(
    each("-NOPROTO unsupported protocol version\r\n"),
  );
  await assertRefused(proxy.options, { message: /Redis 6/, code: "NOPROTO" });
  await proxy.deserted();
});

test("bad weather in Redis: the server speaks something else", async () => {
  await using web = await impostor(() => "HTTP/1.1 400 Bad Request\r\n\r\n");
  await assert.rejects(
    new RedisLock("weather", web.options).acquire({ timeout: 300 }),
    LockException,
  );
  await web.deserted();
});

/** What a node of a cluster says that has no slots any more. */
function movedAway(data: string): string {
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

test("bad weather in Redis: the slot has moved, nobody knows where", async () => {
  await using node = await impostor(movedAway);
  const client = {
    getNodeClientForKey: () => Promise.resolve(createClient(node.options)),
    // As when no node answers.
    sendCommand: () => new Promise<never>(() => {}),
  };
  const lock = (unavailableTimeout?: number) =>
    new RedisLock("weather", { client, unavailableTimeout });
  const moved = { name: "LockException", code: "MOVED" };
  const late = () => sleep(30_000, undefined, { ref: false });
  const ends: [Promise<unknown>, object][] = [
    [lock(1500).tryAcquire(), moved],
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
  await node.deserted();
});

let server: RedisServer | undefined;
after(() => server?.[Symbol.asyncDispose]());

/** A test with a server that it must leave as it was. */
const suite = (promise: string, body: (server: RedisServer) => Promise<void>) =>
  test(`bad weather in Redis: ${promise}`, async () => {
    server ??= await RedisServer.start({ password: "s e c" });
    await body(server);
    await assertNothingLeft(server);
  }, "redis-server");

suite("the password is wrong or missing", async (server) => {
  const host = `127.0.0.1:${server.port}`;
  await assertRefused({ url: `redis://:wrong@${host}` }, {
    message: /the user name or the password is wrong/,
    code: "WRONGPASS",
  });
  await assertRefused({ url: `redis://${host}` }, {
    message: /NOAUTH.*\(pass a password\)/,
    code: "NOAUTH",
  });
  await waitForNoConnections(server);
  assert.deepEqual(await listClients(server), []);
});

const EVERYTHING = "on >p ~* &* +@all";

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
  suite(`the user may not use ${without}`, async (server) => {
    const all = EVERYTHING.split(" ");
    // One of its own, lest an idle session of another be used.
    const user = rules.replaceAll(/\W/g, "");
    await server.command("SCRIPT", "FLUSH");
    await server.command(
      ...["ACL", "SETUSER", user, ...all, ...rules.split(" ")],
    );
    const url = `redis://${user}:p@127.0.0.1:${server.port}`;
    const lock = new RedisLock("weather", { url });
    if (without === "HELLO's client name") {
      // Which is said by HELLO, so nothing is missing.
      await lock.run(() => {});
    } else {
      for (const attempt of [() => lock.tryAcquire(), () => lock.acquire()]) {
        await assert.rejects(attempt, (error) => {
          assert.ok(error instanceof LockException, String(error));
          assert.match(error.message, /NOPERM|permission|can't run/i);
          return true;
        });
        assert.equal(lock.locked, false);
        await assertNothingLeft(server);
      }
    }
    await using _ = await new RedisLock("weather", unsharedOptions(server))
      .acquire();
  });
}

suite("a permission is taken away from who holds", async (server) => {
  const user = ["ACL", "SETUSER", "rich", "reset", ...EVERYTHING.split(" ")];
  await server.command(...user);
  const options: RedisLockOptions = {
    url: `redis://rich:p@127.0.0.1:${server.port}`,
    unavailableTimeout: 400,
  };
  const lock = new RedisLock("weather", options);
  await using _ = await new RedisLock("keeps the session", options).acquire();
  const lease = await lock.acquire();
  await server.command("ACL", "SETUSER", "rich", "-evalsha", "-eval");
  await lease.release();
  // Whatever became of the session, the lock is not held for ever.
  await new RedisLock("weather", unsharedOptions(server)).run(() => {});
  await new RedisLock("keeps the session", { url: server.url }).run(() => {});
});

suite("a waiter that is refused leaves no ghost", async (server) => {
  const user = ["ACL", "SETUSER", "rich", "reset", ...EVERYTHING.split(" ")];
  await server.command(...user);
  const options: RedisLockOptions = {
    url: `redis://rich:p@127.0.0.1:${server.port}`,
    checkInterval: 20,
  };
  const lease = await new RedisLock("weather", unsharedOptions(server))
    .acquire();
  await using _ = await new RedisLock("keeps the session", options).acquire();
  const wait = new RedisLock("weather", options).acquire();
  wait.catch(() => {});
  await waitForQueueLength(server, "weather", 1);
  await server.command("ACL", "SETUSER", "rich", "-evalsha", "-eval");
  await assert.rejects(wait, /NOPERM/);
  await lease.release();
  await new RedisLock("weather", unsharedOptions(server)).run(() => {});
  await new RedisLock("keeps the session", { url: server.url }).run(() => {});
});

suite("a server that cannot write keeps no lock", async (server) => {
  const options = unsharedOptions(server, { unavailableTimeout: 400 });
  await using _ = await new RedisLock("keeps the session", options).acquire();
  const lease = await new RedisLock("weather", options).acquire();
  await server.command("CONFIG", "SET", "min-replicas-to-write", "1");
  try {
    await lease.release();
    await assert.rejects(
      new RedisLock("fresh", unsharedOptions(server)).acquire(),
      /NOREPLICAS/,
    );
  } finally {
    await server.command("CONFIG", "SET", "min-replicas-to-write", "0");
  }
  await new RedisLock("weather", unsharedOptions(server)).run(() => {});
  await new RedisLock("keeps the session", { url: server.url }).run(() => {});
});

const KEYS = "resetkeys ~portalock:{kept}*";
const CHANNELS = "resetchannels &portalock:* &kept*";

/** What makes a server refuse one lock and not the other, and ends that. */
const REFUSALS: Record<
  string,
  { rules?: string; begin?: string; end: string }
> = {
  NOREPLICAS: {
    begin: "CONFIG SET min-replicas-to-write 1",
    end: "CONFIG SET min-replicas-to-write 0",
  },
  WRONGTYPE: {
    begin: "SET portalock:{weather} x",
    end: "DEL portalock:{weather}",
  },
  "NOPERM, its keys": { rules: KEYS, end: "ACL SETUSER picky ~*" },
  "NOPERM, its channel": { rules: CHANNELS, end: "ACL SETUSER picky &*" },
  "NOPERM, its keys and its channel": {
    rules: `${KEYS} ${CHANNELS}`,
    end: "ACL SETUSER picky ~* &*",
  },
};

for (const [why, { rules = "", begin, end }] of Object.entries(REFUSALS)) {
  suite(`who is refused costs nobody a lock: ${why}`, async (server) => {
    const user = `ACL SETUSER picky reset ${EVERYTHING} ${rules}`.trim();
    await server.command(...user.split(" "));
    const options: RedisLockOptions = {
      url: `redis://picky:p@127.0.0.1:${server.port}`,
      clientOptions: {},
    };
    await using kept = await new RedisLock("kept", options).acquire();
    const lock = new RedisLock("weather", options);
    if (begin) await server.command(...begin.split(" "));
    try {
      for (const attempt of [() => lock.tryAcquire(), () => lock.acquire()]) {
        await assert.rejects(attempt, new RegExp(why.split(",")[0]));
      }
      // Had the session been lost, its holders would know by now.
      await sleep(50);
      assert.equal(kept.signal.aborted, false);
    } finally {
      await server.command(...end.split(" "));
    }
    await lock.run(() => {});
    assert.equal(kept.held, true);
  });
}

suite("scripts are forgotten between any two steps", async (server) => {
  let flushing = true;
  const flush = (async () => {
    while (flushing) await server.command("SCRIPT", "FLUSH");
  })();
  let inside = 0;
  const work = Array.from({ length: 6 }, async (_, i) => {
    const options = unsharedOptions(server, { checkInterval: 1 + i });
    for (let n = 0; n < 60; n++) {
      const flags = n % 7 === 0 ? LOCK_SH : undefined;
      const lock = new RedisLock("weather", { ...options, flags });
      const timeout = n % 3 === 0 ? Math.random() * 5 : 60_000;
      try {
        await lock.run(() => {
          if (flags === undefined) assert.equal(++inside, 1);
          if (flags === undefined) inside--;
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

suite("an aborted waiter whose scripts are forgotten", async (server) => {
  const options = unsharedOptions(server, { checkInterval: 1 });
  await using keeps = await new RedisLock("keeps", options).acquire();
  for (let i = 0; i < 100; i++) {
    const lease = await new RedisLock("weather", unsharedOptions(server))
      .acquire();
    const controller = new AbortController();
    const { signal } = controller;
    const wait = new RedisLock("weather", options).acquire({ signal });
    await waitForQueueLength(server, "weather", 1);
    const flush = server.command("SCRIPT", "FLUSH");
    controller.abort();
    await assert.rejects(wait);
    await flush;
    await lease.release();
    // A ghost would be let in, and stay as long as the session.
    await waitUntil(
      async () => !await server.command("EXISTS", "portalock:{weather}"),
      () => "the end of a ghost",
    );
  }
  assert.equal(keeps.held, true);
});

test("bad weather in Redis: the server is a replica", async () => {
  await using group = await RedisSentinel.start();
  await assertRefused({ url: group.replica.url }, {
    message: /READONLY .* \(the server is a replica; connect to its master\)/,
    code: "READONLY",
    lasting: true,
  });
  await waitForNoConnections(group.replica);
  assert.deepEqual(
    await group.replica.command("PUBSUB", "CHANNELS", "*weather*"),
    [],
  );
  const [sentinel] = group.sentinels;
  await assertRefused({ url: sentinel.url }, {
    message: /the server is a sentinel; pass a client from createSentinel/,
  });
  await waitForNoConnections(sentinel);
}, "redis-server");

test("bad weather in Redis: a cluster, or none, is taken for one", async () => {
  await using cluster = await RedisCluster.start();
  const client = createClient({ url: cluster.urls[0] });
  await client.on("error", () => {}).connect();
  try {
    await assertRefused({ client }, {
      message:
        /the server is part of a cluster; pass a client from createCluster/,
    });
    await waitForNoConnections(cluster.nodes[0]);
  } finally {
    client.destroy();
  }
  await using server = await RedisServer.start();
  const rootNodes = [{ url: server.url }];
  const none = createCluster({ rootNodes }).on("error", () => {});
  await none.connect().catch(() => {});
  try {
    await assert.rejects(
      new RedisLock("weather", { client: none }).acquire({ timeout: 300 }),
      LockException,
    );
  } finally {
    none.destroy();
  }
  assert.deepEqual(await lockConnections(server), []);
}, "redis-server");
