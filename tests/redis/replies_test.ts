import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import process from "node:process";
import { WAIT_FOREVER } from "../../src/options/acquire_options.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import { lockKeys } from "../../src/redis/protocol/keys.ts";
import { ChannelSubscription } from "../../src/redis/acquisition/subscription.ts";
import type { Subscriber } from "../../src/redis/acquisition/subscription.ts";
import type { LockConnection } from "../../src/redis/connection/connection.ts";
import { Deadline } from "../../src/wait/deadline.ts";
import { test } from "../support/test.ts";
import { DelayProxy } from "./support/delay_proxy.ts";
import { waitUntil } from "./support/binaries.ts";
import type { RedisServer } from "./support/server.ts";
import {
  holderCount,
  redisSuite,
  waitForNoConnections,
} from "./support/inspect.ts";

const suite = redisSuite("late answers in Redis");

/** How many are subscribed to both channels of a lock. */
async function subscribed(server: RedisServer, channel: string) {
  const found = await server.command(
    ...["PUBSUB", "NUMSUB", channel, `portalock:{${channel}}`],
  ) as [string, number, string, number];
  return [found[1], found[3]];
}

/** Waits until so many hold a lock, whoever knows by then. */
const held = (server: RedisServer, channel: string, count: number) =>
  waitUntil(
    async () => await holderCount(server, channel) === count,
    () => `${count} who hold ${channel}`,
  );

/** Waits until all that was sent has been answered, if not read. */
const executed = (gate: DelayProxy) =>
  waitUntil(async () => {
    const { heldReplies } = gate;
    await sleep(30);
    return gate.heldReplies === heldReplies;
  }, () => "the last answer");

/** Locks through a session that stays, and whose answers a gate may keep. */
async function through(
  server: RedisServer,
  body: (gate: DelayProxy, lock: () => RedisLock) => Promise<void>,
): Promise<void> {
  await using gate = await DelayProxy.start(server.port);
  const options = { url: gate.url, clientOptions: {} };
  const lock = () => new RedisLock("late", options);
  await using other = new RedisLock("other", options);
  // To load node-redis takes a while.
  await other.acquire({ timeout: 60_000 });
  await body(gate, lock);
  assert.equal(other.locked, true);
}

for (const when of ["before", "after"]) {
  suite(`who comes ${when} the answer to who gave up`, async (server) => {
    await through(server, async (gate, lock) => {
      const controller = new AbortController();
      const { signal } = controller;
      gate.holdReplies();
      const first = lock().acquire({ signal });
      first.catch(() => {});
      await held(server, "late", 1);
      const { heldReplies } = gate;
      controller.abort();
      await held(server, "late", 0);
      await executed(gate);
      if (when === "after") {
        // What answers the first, but not what it sent last.
        gate.deliver(heldReplies);
        await sleep(50);
      }
      const second = lock().acquire();
      await held(server, "late", 1);
      gate.deliverAll();
      await assert.rejects(first, { name: "AbortError" });
      const lease = await second;
      assert.deepEqual(await subscribed(server, "late"), [1, 1]);
      await lease.release();
    });
    await waitForNoConnections(server);
  });
}

suite("who gives up after a release", async (server) => {
  await through(server, async (gate, lock) => {
    const lease = await lock().acquire();
    gate.holdReplies();
    const released = lease.release();
    await held(server, "late", 0);
    await executed(gate);
    const controller = new AbortController();
    const { signal } = controller;
    const second = lock().acquire({ signal });
    second.catch(() => {});
    await held(server, "late", 1);
    controller.abort();
    await held(server, "late", 0);
    gate.deliverAll();
    await released;
    await assert.rejects(second, { name: "AbortError" });
    await waitUntil(
      async () => String(await subscribed(server, "late")) === "0,0",
      () => "the end of the subscription",
    );
  });
  await waitForNoConnections(server);
});

suite("many who come and give up together", async (server) => {
  await through(server, async (gate, lock) => {
    gate.holdReplies();
    const controllers = [1, 2, 3].map(() => new AbortController());
    const tries = controllers.map(({ signal }) => lock().acquire({ signal }));
    for (const one of tries) one.catch(() => {});
    await held(server, "late", 1);
    for (const controller of controllers) controller.abort();
    await held(server, "late", 0);
    gate.deliverAll();
    for (const one of tries) await assert.rejects(one, { name: "AbortError" });
    await waitUntil(
      async () => String(await subscribed(server, "late")) === "0,0",
      () => "the end of the subscription",
    );
    const lease = await lock().acquire();
    assert.deepEqual(await subscribed(server, "late"), [1, 1]);
    await lease.release();
    assert.deepEqual(await subscribed(server, "late"), [0, 0]);
  });
  await waitForNoConnections(server);
});

test("late answers in Redis: those who leave together unsubscribe once", async () => {
  let answer = () => {};
  let unsubscribed = 0;
  const connection = {
    client: {
      subscribe: () => new Promise<void>((resolve) => answer = resolve),
      unsubscribe: () => Promise.resolve(void unsubscribed++),
    },
    failure: undefined,
  } as unknown as LockConnection;
  let ended = 0;
  const subscription = new ChannelSubscription(
    connection,
    lockKeys("together", false),
    { subscribers: new Map(), onEmpty: () => void ended++ },
  );
  const subscribers = [1, 2, 3].map((id) => ({ id }) as Subscriber);
  for (const subscriber of subscribers) subscription.add(subscriber);
  const left = subscribers.map((subscriber) => subscription.remove(subscriber));
  answer();
  await Promise.all(left);
  assert.deepEqual([ended, unsubscribed], [1, 1]);
});

test("late answers in Redis: a wait that is over ends at once, without a warning", async () => {
  const warnings: string[] = [];
  const warned = ({ name }: Error) => warnings.push(name);
  process.on("warning", warned);
  try {
    const deadline = new Deadline(WAIT_FOREVER);
    const woken = await deadline.sleepUntilWoken(-1, () => () => {});
    assert.equal(woken, false);
    await sleep(1);
  } finally {
    process.off("warning", warned);
  }
  assert.deepEqual(warnings, []);
});
