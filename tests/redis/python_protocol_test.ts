import assert from "node:assert/strict";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LOCK_SH } from "../../mod.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import { PollSchedule } from "../../src/redis/python/poll_schedule.ts";
import type { RedisLockOptions } from "../../src/redis/mod.ts";
import { abortReasons } from "../support/abort_reasons.ts";
import { test } from "../support/test.ts";
import { FakePython, holderRecord, slowProxy } from "./support/fake_python.ts";
import { waitUntil } from "./support/binaries.ts";
import { RedisServer } from "./support/server.ts";

let starting: Promise<RedisServer> | undefined;
const sharedServer = () => starting ??= RedisServer.start();
after(async () => await (await starting)?.[Symbol.asyncDispose]());

const ONE = "0".repeat(32);
const OTHER = "f".repeat(32);

let channels = 0;

/** Creates a lock with a connection of its own, which is open. */
async function lockOf(
  channel: string,
  url: string,
  options: RedisLockOptions = {},
) {
  const clientOptions = {};
  await new RedisLock("other", { url, clientOptions }).run(() => {});
  const deadline = { unavailableTimeout: 400, checkInterval: 100 };
  return new RedisLock(channel, {
    url,
    clientOptions,
    ...deadline,
    ...options,
  });
}

/** The replies of each Python client, and whether a reader may join them. */
const REPLIES: [title: string, replies: string[][], joins: boolean][] = [
  ["shared", [[holderRecord(ONE, "shared")]], true],
  ["shared, twice", [[
    holderRecord(ONE, "shared"),
    holderRecord(ONE, "shared"),
  ]], true],
  [
    "shared, two clients",
    [[holderRecord(ONE, "shared")], [holderRecord(OTHER, "shared")]],
    true,
  ],
  [
    "shared, twice, beside a silent client",
    [[holderRecord(ONE, "shared"), holderRecord(ONE, "shared")], []],
    false,
  ],
  [
    "shared, two clients with one name",
    [[holderRecord(ONE, "shared")], [holderRecord(ONE, "shared")]],
    false,
  ],
  ["exclusive", [[holderRecord(ONE, "exclusive")]], false],
  ["pending", [[holderRecord(ONE, "pending")]], false],
  [
    "shared and exclusive",
    [[holderRecord(ONE, "shared")], [holderRecord(OTHER, "exclusive")]],
    false,
  ],
  [
    "shared and pending",
    [[holderRecord(ONE, "shared")], [holderRecord(OTHER, "pending")]],
    false,
  ],
  ["a number, as 2.x and 3.x do", [["1700000000.123"]], false],
  ["invalid JSON", [["{"]], false],
  ["null", [["null"]], false],
  ["another protocol version", [[holderRecord(ONE, "shared", 2)]], false],
  ["another mode", [[holderRecord(ONE, "elected")]], false],
  ["the name of a connection", [[holderRecord(`!${ONE}`, "shared")]], false],
  ["no reply", [[]], false],
];

for (const [title, replies, joins] of REPLIES) {
  test(`Redis and Python, the replies are: ${title}`, async () => {
    const { url } = await sharedServer();
    const channel = `replies ${++channels}`;
    const peers: FakePython[] = [];
    for (const own of replies) {
      peers.push(await FakePython.start(url, channel, own));
    }
    await using reader = await lockOf(channel, url, { flags: LOCK_SH });
    await using writer = await lockOf(channel, url);
    const lease = await reader.tryAcquire();
    assert.equal(lease !== null, joins);
    await lease?.release();
    assert.equal(await writer.tryAcquire(), null);
    const waiting = reader.acquire();
    // A silent client delays the decision by unavailableTimeout, 400 ms.
    const decided = replies.some((own) => own.length === 0) ? 600 : 250;
    const notYet = sleep(decided, null);
    if (joins) await waiting;
    else assert.equal(await Promise.race([waiting, notYet]), null);
    for (const peer of peers) peer.disconnect();
    await (await waiting).release();
    const writing = await writer.acquire();
    assert.equal(writing.signal.aborted, false);
  }, "redis-server");
}

test("Redis and Python: a connection replies to a ping", async () => {
  const { url } = await sharedServer();
  const channel = "ping";
  const pongs = async (expected = 0) =>
    (await FakePython.ping(url, channel, expected)).map((text) =>
      JSON.parse(text)
    );
  await using writer = await lockOf(channel, url);
  await using reader = await lockOf(channel, url, { flags: LOCK_SH });
  const pong = (holderId: string, mode: string) => ({
    holder_id: `!${holderId.split("-")[0]}`,
    mode,
    protocol: 1,
  });
  const writing = await writer.acquire();
  assert.deepEqual(await pongs(1), [pong(writing.holderId, "exclusive")]);
  const waiting = reader.acquire();
  let both = await pongs();
  await waitUntil(
    async () => (both = await pongs()).length === 2,
    () => "the reader to wait",
  );
  assert.deepEqual(both.map(({ mode }) => mode).sort(), [
    "exclusive",
    "pending",
  ]);
  assert.ok(both.every(({ holder_id }) => /^![0-9a-f]{32}$/.test(holder_id)));
  await writing.release();
  const reading = await waiting;
  assert.deepEqual(await pongs(1), [pong(reading.holderId, "shared")]);
  await reading.release();
  assert.deepEqual(await pongs(), []);
}, "redis-server");

test("Redis and Python: one reply covers every acquisition", async () => {
  const { url } = await sharedServer();
  const channel = "several";
  const options = { url, clientOptions: {}, flags: LOCK_SH };
  const modes = async () =>
    (await FakePython.ping(url, channel, 1)).map((text) =>
      JSON.parse(text).mode
    );
  const one = await new RedisLock(channel, options).acquire();
  const two = await new RedisLock(channel, options).acquire();
  assert.deepEqual(await modes(), ["shared"]);
  await using writer = new RedisLock(channel, {
    url,
    clientOptions: options.clientOptions,
  });
  const writing = writer.acquire();
  await waitUntil(
    async () => (await modes())[0] === "pending",
    () => "the writer to wait",
  );
  await one.release();
  await two.release();
  await writing;
  assert.deepEqual(await modes(), ["exclusive"]);
}, "redis-server");

test("Redis and Python: a connection ignores other messages", async () => {
  const server = await sharedServer();
  await using lock = await lockOf("noise", server.url);
  const lease = await lock.acquire();
  for (
    const noise of [
      "",
      "x",
      "7",
      "null",
      "[]",
      "{}",
      '{"response_channel":7}',
      '{"response_channel":""}',
      `granted ${lease.holderId.split("-")[1]} 1`,
    ]
  ) {
    await server.command("PUBLISH", "noise", noise);
  }
  assert.equal((await FakePython.ping(server.url, "noise", 1)).length, 1);
  assert.equal(lease.signal.aborted, false);
}, "redis-server");

test("Redis and Python: PollSchedule does not delay a poll, however many pings arrive", () => {
  // Timers are late, so a poll is scheduled somewhat earlier.
  const prompt = new PollSchedule(250).remaining;
  assert.ok(prompt > 0 && prompt <= 245, `${prompt}`);
  const schedule = new PollSchedule(60_000);
  const start = performance.now();
  assert.equal(schedule.onPing(), true);
  while (performance.now() < start + 10) assert.equal(schedule.onPing(), false);
  assert.equal(schedule.remaining, 0);
  // Polls stay frequent while the client that sent the ping may be connected.
  for (let i = 0; i < 20; i++) {
    schedule.onPoll();
    assert.ok(schedule.remaining <= 60, `${schedule.remaining}`);
  }
  const { now } = performance;
  performance.now = () => now.call(performance) + 2100;
  try {
    for (let i = 0; i < 20; i++) schedule.onPoll();
    assert.ok(schedule.remaining > 59_000, `${schedule.remaining}`);
  } finally {
    performance.now = now;
  }
});

test("Redis and Python: a reader joins after a peer disconnects", async () => {
  const { url } = await sharedServer();
  const deadline = { unavailableTimeout: 10_000, flags: LOCK_SH };
  await using reader = await lockOf("left", url, deadline);
  const peer = await FakePython.start(url, "left", []);
  const start = performance.now();
  const trying = reader.tryAcquire();
  await sleep(200);
  peer.disconnect();
  const lease = await trying;
  const took = performance.now() - start;
  assert.ok(took < 9000, `${took} ms`);
  assert.ok(lease);
  await lease.release();
}, "redis-server");

test("Redis and Python: a reader joins over a slow connection", async () => {
  const { port, url } = await sharedServer();
  await using _ = await FakePython.start(url, "far", [
    holderRecord(ONE, "shared"),
  ]);
  // Each reply arrives while a poll is pending.
  await using proxy = await slowProxy(port, 150);
  await using reader = await lockOf("far", `redis://127.0.0.1:${proxy.port}`, {
    flags: LOCK_SH,
    checkInterval: 200,
    unavailableTimeout: 5000,
  });
  const lease = await reader.acquire({ timeout: 10_000 });
  await lease.release();
}, "redis-server");

test(
  "Redis and Python: a reader joins even if unavailableTimeout exceeds the range of timers",
  async () => {
    const { port, url } = await sharedServer();
    await using proxy = await slowProxy(port, 50);
    const far = `redis://127.0.0.1:${proxy.port}`;
    await using _ = await FakePython.start(far, "long", [
      holderRecord(ONE, "shared"),
    ]);
    await using reader = await lockOf("long", url, {
      flags: LOCK_SH,
      unavailableTimeout: 2 ** 40,
    });
    const lease = await reader.acquire({ timeout: 10_000 });
    await lease.release();
  },
  "redis-server",
);

test("Redis and Python: an aborted reader stops its ping", async () => {
  const server = await sharedServer();
  const { url } = server;
  const options = {
    url,
    clientOptions: {},
    unavailableTimeout: 120_000,
    flags: LOCK_SH,
  };
  // Keeps the connection open, which would otherwise end with its channels.
  await using kept = await new RedisLock("kept", options).acquire();
  await using _ = await FakePython.start(url, "enough", []);
  const reader = new RedisLock("enough", options);
  // A connection receives the replies on a channel of its own.
  const isPinging = async () => {
    const found = await server.command(
      ...["PUBSUB", "CHANNELS", "portalock:v1:session:*:*"],
    );
    return (found as unknown[]).length > 0;
  };
  for (const how of [{}, { failWhenLocked: true }]) {
    for (const aborting of abortReasons()) {
      const { signal } = aborting;
      const wait = reader.acquire({ timeout: 60_000, ...how, signal });
      await waitUntil(isPinging, () => "a ping");
      aborting.abort();
      await aborting.rejects(wait);
      await waitUntil(
        async () => !await isPinging(),
        () => "the end of the ping",
      );
    }
  }
  assert.equal(kept.held, true);
}, "redis-server");
