import assert from "node:assert/strict";
import { createClient } from "redis";
import { lockKeys, replyChannelPrefix } from "../../src/redis/protocol/keys.ts";
import { semaphoreKeys } from "../../src/redis/protocol/keys.ts";
import { ADOPT_SCRIPT, LOCK_SCRIPT } from "../../src/redis/protocol/scripts.ts";
import type { Operation } from "../../src/redis/protocol/scripts.ts";
import { test } from "../support/test.ts";
import { waitUntil } from "./support/binaries.ts";
import { Connection } from "./support/resp.ts";
import { RedisServer } from "./support/server.ts";

const KEYS = lockKeys("jobs", { prefix: "", sharded: false });
const CLOCK = "portalock:v1:clock";
const FENCE = "jobs-fence";
const DAY = 86_400;

/** Runs one step as the only connection of its server. */
function runScript(
  server: Pick<RedisServer, "command">,
  operation: Operation,
  member: string,
  { peers = "", info = "", keys = KEYS, flags = "" } = {},
) {
  const names = [keys.key, keys.queue, keys.clock, keys.info];
  return server.command(
    ...["EVAL", LOCK_SCRIPT.text, names.length, ...names],
    ...[operation, member, keys.shared ?? "", flags, peers, info],
  );
}

/** Opens connections that are subscribed to the channels of these sessions. */
async function sessions(server: RedisServer, ...ids: string[]) {
  const open = await Promise.all(ids.map(async (id) => {
    const connection = await Connection.open(server.port);
    await connection.command("SUBSCRIBE", `portalock:v1:session:${id}`);
    return connection;
  }));
  return {
    end: (id: string) => open[ids.indexOf(id)]?.close(),
    [Symbol.dispose]: () => open.forEach((connection) => connection.close()),
  };
}

/** Counts the commands that scripts and clients call during `body`. */
async function callsDuring(server: RedisServer, body: () => Promise<unknown>) {
  await server.command("CONFIG", "RESETSTAT");
  await body();
  const stats = await server.info("INFO", "commandstats");
  const calls = Object.entries(stats).map(([name, text]) => [
    name.replace("cmdstat_", ""),
    Number(/calls=(\d+)/.exec(text)?.[1]),
  ]);
  return Object.fromEntries(calls) as Record<string, number>;
}

const it = (promise: string, body: (server: RedisServer) => Promise<void>) =>
  test(`Redis scripts: ${promise}`, async () => {
    await using server = await RedisServer.start();
    await body(server);
  }, "redis-server");

it("release of the last member leaves only the clock", async (server) => {
  for (const kind of ["x", "s", "2"]) {
    for (const operation of ["attempt", "wait", "check"] as const) {
      const member = `${kind}:a:1:1`;
      const info = { info: '"here"' };
      const token = await runScript(server, operation, member, info);
      assert.match(String(token), /^\d{16}$/);
      assert.equal(await server.command("HGET", KEYS.key, member), token);
      assert.equal(await server.command("HGET", KEYS.info, member), '"here"');
      assert.equal(await runScript(server, "release", member, info), 1);
      assert.equal(await runScript(server, "release", member, info), 0);
      assert.deepEqual(await server.command("KEYS", "*"), [CLOCK]);
    }
  }
});

it("a step that is refused leaves nothing", async (server) => {
  using _ = await sessions(server, "a", "b");
  await runScript(server, "attempt", "x:a:1:1");
  const reply = await runScript(server, "attempt", "x:b:1:2", { info: "1" });
  assert.deepEqual(reply, [0, 0, "x:a:1:1"]);
  assert.equal(await server.command("EXISTS", KEYS.queue, KEYS.info), 0);
});

it("a step of a session whose subscriptions have ended adds nothing", async (server) => {
  using open = await sessions(server, "a");
  const pair = { flags: "P" };
  await runScript(server, "attempt", "x:a:1:1", pair);
  await runScript(server, "release", "x:a:1:1", pair);
  open.end("a");
  await waitUntil(
    async () =>
      String(await server.command("PUBSUB", "CHANNELS", "*session:a")) === "",
    () => "the end of the connection",
  );
  for (const operation of ["attempt", "wait", "check", "ahead"] as const) {
    await assert.rejects(
      async () => await runScript(server, operation, "x:a:2:1", pair),
      /UNSUBSCRIBED /,
    );
  }
  assert.equal(await runScript(server, "release", "x:a:2:1", pair), 0);
  assert.deepEqual(await server.command("KEYS", "*"), [CLOCK]);
});

it("a session whose subscriptions have ended adopts nothing", async (server) => {
  using _ = await sessions(server, "a", "b");
  const token = String(await runScript(server, "attempt", "x:a:1:1"));
  const adopt = (member: string) =>
    server.command(
      ...["EVAL", ADOPT_SCRIPT.text, 2, KEYS.key, KEYS.info],
      ...["x:a:1:1", token, member, replyChannelPrefix(KEYS), "", ""],
    );
  await assert.rejects(async () => await adopt("x:c:1:3"), /UNSUBSCRIBED /);
  assert.equal(await adopt("x:b:1:2"), token);
  await runScript(server, "release", "x:b:1:2");
});

it("a waiter gets its position, and the holders or the member ahead", async (server) => {
  using _ = await sessions(server, "a", "b", "c", "d");
  await runScript(server, "wait", "s:a:1:1");
  await runScript(server, "wait", "s:b:1:2");
  const [, , ...holders] = await runScript(
    server,
    "wait",
    "x:c:1:3",
  ) as string[];
  assert.deepEqual(holders.sort(), ["s:a:1:1", "s:b:1:2"]);
  assert.deepEqual(await runScript(server, "wait", "x:d:1:4"), [
    ...[0, 1, "x:c:1:3"],
  ]);
  assert.deepEqual(await runScript(server, "check", "x:d:1:4"), [
    ...[0, 1, "x:c:1:3"],
  ]);
  const [, position, ...ahead] = await runScript(
    server,
    "ahead",
    "x:d:1:4",
  ) as string[];
  assert.equal(position, 1);
  assert.deepEqual(ahead.sort(), ["s:a:1:1", "s:b:1:2", "x:c:1:3"]);
  assert.deepEqual(await runScript(server, "attempt", "x:a:2:1"), [
    ...[0, 2, "x:d:1:4"],
  ]);
});

it("a look removes the dead members directly ahead", async (server) => {
  using _ = await sessions(server, "a", "b", "c", "d");
  for (const id of ["a", "b", "1", "c", "2", "3", "d"]) {
    await runScript(server, "wait", `x:${id}:1:1`, { info: "5" });
  }
  const queue = () => server.command("LRANGE", KEYS.queue, 0, -1);
  assert.deepEqual(await runScript(server, "check", "x:d:1:1"), [
    ...[0, 3, "x:c:1:1"],
  ]);
  assert.deepEqual(await queue(), ["x:b:1:1", "x:1:1:1", "x:c:1:1", "x:d:1:1"]);
  assert.deepEqual(await runScript(server, "check", "x:c:1:1"), [
    ...[0, 1, "x:b:1:1"],
  ]);
  assert.deepEqual(await queue(), ["x:b:1:1", "x:c:1:1", "x:d:1:1"]);
  assert.equal(await server.command("HLEN", KEYS.info), 4);
});

it("the server notifies a waiter that reaches the fourth place of the queue", async (server) => {
  using open = await sessions(server, "a", "c", "d");
  const listener = await createClient({ url: server.url })
    .on("error", () => {}).connect();
  const told: string[] = [];
  await listener.subscribe(
    "portalock:v1:session:b",
    (message) => told.push(message),
  );
  try {
    await runScript(server, "wait", "x:a:1:1");
    for (const member of ["x:c:1:1", "x:d:1:1"]) {
      await runScript(server, "wait", member);
    }
    for (let i = 1; i <= 6; i++) await runScript(server, "wait", `x:b:${i}:2`);
    // One leaves as it is granted the lock, one gives up, two are dead.
    await runScript(server, "release", "x:a:1:1");
    await runScript(server, "release", "x:b:1:2");
    open.end("c");
    open.end("d");
    await waitUntil(
      async () =>
        String(await server.command("PUBSUB", "CHANNELS", "*session:[cd]")) ===
          "",
      () => "the end of the connections",
    );
    await runScript(server, "check", "x:b:2:2");
    await waitUntil(() => Promise.resolve(told.length >= 4), () => `${told}`);
    assert.deepEqual(told, ["look 3", "look 4", "look 5", "look 6"]);
  } finally {
    listener.destroy();
  }
});

it("a step costs the same with 10 and with 1000 holders and waiters", async (server) => {
  using _ = await sessions(server, "a", "b");
  const calls: object[] = [];
  for (const size of [10, 1000]) {
    const keys = semaphoreKeys(`of ${size}`, { prefix: "", sharded: false });
    const run = (operation: Operation, member: string) =>
      runScript(server, operation, member, { keys });
    for (let i = 1; i <= size; i++) await run("wait", `${size}:a:${i}:1`);
    for (let i = 1; i <= size; i++) await run("wait", `${size}:b:${i}:1`);
    // A token that is a multiple of 64 checks the holders.
    const microseconds = (Date.now() + 3_600_000) * 1000;
    await server.command("SET", CLOCK, microseconds - microseconds % 64);
    calls.push(
      await callsDuring(server, async () => {
        await run("wait", `${size}:b:${size + 1}:1`);
        await run("check", `${size}:b:${size}:1`);
        await run("attempt", `${size}:b:${size + 2}:1`);
        await run("release", `${size}:a:1:1`);
        await run("release", `${size}:a:2:1`);
      }),
    );
  }
  assert.deepEqual(calls[0], calls[1]);
  assert.ok(!("hgetall" in calls[0]!) && !("hkeys" in calls[0]!));
});

it("the first waiter removes dead holders, others do not look for them", async (server) => {
  using open = await sessions(server, "a", "b", "c");
  await runScript(server, "wait", "s:a:1:1");
  await runScript(server, "wait", "s:b:1:2");
  await runScript(server, "wait", "x:c:1:3");
  await runScript(server, "wait", "x:c:2:3");
  open.end("a");
  open.end("b");
  await waitUntil(
    async () =>
      String(await server.command("PUBSUB", "CHANNELS", "*session:[ab]")) ===
        "",
    () => "the end of the connections",
  );
  assert.ok(Array.isArray(await runScript(server, "check", "x:c:2:3")));
  assert.match(String(await runScript(server, "check", "x:c:1:3")), /^\d{16}$/);
  assert.equal(await server.command("HLEN", KEYS.key), 1);
});

it("readers that never meet a waiter remove dead ones now and then", async (server) => {
  using _ = await sessions(server, "a");
  await runScript(server, "wait", "s:a:1:1");
  await waitUntil(async () => {
    await runScript(server, "wait", `s:dead:${Math.random()}:2`);
    return await server.command("HLEN", KEYS.key) === 2;
  }, () => "the end of dead readers");
});

it("tokens of all locks grow, even if the clock of the server is behind", async (server) => {
  const other = lockKeys("other", { prefix: "", sharded: false });
  let last = BigInt(String(await runScript(server, "wait", "x:a:1:1")));
  const ahead = last + 10n ** 12n;
  await server.command("SET", CLOCK, String(ahead));
  for (let i = 2; i <= 4; i++) {
    for (const keys of [KEYS, other]) {
      await runScript(server, "release", `x:a:${i - 1}:1`, { keys });
      const token = await runScript(server, "wait", `x:a:${i}:1`, { keys });
      assert.ok(BigInt(String(token)) > last);
      last = BigInt(String(token));
    }
  }
  assert.equal(last, ahead + 6n);
  assert.equal(await server.command("GET", CLOCK), String(last));
  for (const broken of ["", "x", "inf", "nan", "1e300"]) {
    await server.command("SET", CLOCK, broken);
    await runScript(server, "release", "x:a:4:1");
    assert.match(
      String(await runScript(server, "wait", "x:a:4:1")),
      /^\d{16}$/,
    );
  }
});

it("tokens are in one order with those of Python's clients", async (server) => {
  const next = async () => {
    await runScript(server, "release", "x:a:1:1");
    return BigInt(String(await runScript(server, "wait", "x:a:1:1")));
  };
  const first = await next();
  assert.equal(await server.command("EXISTS", FENCE), 0);
  // What Python's INCR creates is far smaller, and grows beyond the first.
  await server.command("INCR", FENCE);
  const second = await next();
  assert.equal(await server.command("GET", FENCE), String(second));
  const python = BigInt(String(await server.command("INCR", FENCE)));
  const third = await next();
  assert.ok(first < second && second < python && python < third);
  await server.command("SET", FENCE, String(third + 10n ** 12n), "EX", DAY);
  assert.equal(await next(), third + 10n ** 12n + 1n);
  assert.ok(Number(await server.command("TTL", FENCE)) > 0);
  for (const broken of [["SET", FENCE, "x"], ["LPUSH", FENCE, "1"]]) {
    await server.command("DEL", FENCE);
    await server.command(...broken);
    const kept = await server.command("DUMP", FENCE);
    await next();
    assert.equal(await server.command("DUMP", FENCE), kept);
  }
});

it("Python's tokens are ignored if the user may not read them", async (server) => {
  await server.command("SET", FENCE, 7);
  await server.command(
    ...["ACL", "SETUSER", "limited", "on", ">p", "~portalock:*", "&*", "+@all"],
  );
  const limited = await Connection.open(server.port);
  try {
    await limited.command("AUTH", "limited", "p");
    assert.match(
      String(await runScript(limited, "wait", "x:a:1:1")),
      /^\d{16}$/,
    );
    assert.equal(await server.command("GET", FENCE), "7");
    assert.equal(await runScript(limited, "release", "x:a:1:1"), 1);
  } finally {
    limited.close();
  }
});

it("what a killed process leaves expires", async (server) => {
  await runScript(server, "wait", "x:a:1:1", { info: "1" });
  const ttl = (key: string) => server.command("TTL", key).then(Number);
  const young = (seconds: number) => seconds > DAY - 60 && seconds <= DAY;
  for (const key of [KEYS.key, KEYS.info]) assert.ok(young(await ttl(key)));
  await server.command("EXPIRE", KEYS.key, 60);
  using _ = await sessions(server, "a", "b");
  await runScript(server, "wait", "x:b:1:2");
  for (const key of [KEYS.key, KEYS.queue]) assert.ok(young(await ttl(key)));
  for (const key of [KEYS.key, KEYS.queue]) {
    await server.command("EXPIRE", key, 60);
  }
  await runScript(server, "check", "x:b:1:2");
  for (const key of [KEYS.key, KEYS.queue]) assert.ok(young(await ttl(key)));
});

it("a look of any waiter renews what the others say about themselves", async (server) => {
  using _ = await sessions(server, "a", "b", "c");
  await runScript(server, "wait", "x:a:1:1");
  await runScript(server, "wait", "x:b:1:2", { info: "1" });
  await runScript(server, "wait", "x:c:1:3");
  for (const member of ["x:b:1:2", "x:c:1:3"]) {
    await server.command("EXPIRE", KEYS.info, 60);
    await runScript(server, "check", member);
    assert.ok(Number(await server.command("TTL", KEYS.info)) > DAY - 60);
  }
});
