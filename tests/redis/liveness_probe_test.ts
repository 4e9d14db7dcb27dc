/** What a connection remembers of the members that its waiters probe. */

import assert from "node:assert/strict";
import { LivenessProbe } from "../../src/redis/acquisition/liveness.ts";
import type { Question } from "../../src/redis/acquisition/liveness.ts";
import type { LockConnection } from "../../src/redis/connection/connection.ts";
import { lockKeys } from "../../src/redis/protocol/keys.ts";
import { test } from "../support/test.ts";

const keys = lockKeys("jobs", { prefix: "", sharded: false });

/** The session of a number. */
const session = (number: number) => number.toString(16).padStart(32, "0");

/** A probe, and the channels on which it has asked. */
function createProbe() {
  const asked: string[] = [];
  const connection = {
    id: session(0),
    replyChannel: () => "replies",
    // The server replies that no connection got the question.
    send: ([, channel = ""]: string[]) => {
      asked.push(channel);
      return Promise.resolve(0);
    },
  } as unknown as LockConnection;
  const probe = new LivenessProbe(connection);
  /** Returns whether this asks the session. */
  const asks = async (number: number, timeout: number) => {
    const before = asked.length;
    await new Promise<void>((resolve) => {
      const question: Question = {
        ...{ keys, timeout, isWanted: () => true, onGone: resolve },
      };
      probe.ask(`x:${session(number)}:1:${number}`, question);
      if (asked.length === before) resolve();
    });
    return asked.length > before;
  };
  return { probe, asks };
}

/** Runs `body` with a clock that it can put forward. */
async function withClock(
  body: (forward: (milliseconds: number) => void) => Promise<void>,
): Promise<void> {
  const { now } = performance;
  let time = now.call(performance);
  performance.now = () => time;
  try {
    await body((milliseconds) => time += milliseconds);
  } finally {
    performance.now = now;
  }
}

const MINUTE = 60_000;

for (const timeout of [MINUTE / 2, 10 * MINUTE]) {
  test(`Redis liveness: one of 2,000 sessions that replied within ${timeout} ms is not asked again`, async () => {
    const { probe, asks } = createProbe();
    await withClock(async (forward) => {
      assert.equal(await asks(1, timeout), true);
      for (let i = 1; i <= 2000; i++) probe.onAlive(session(i));
      // Others reply meanwhile.
      for (let i = 0; i < 9; i++) {
        forward(timeout / 10);
        probe.onAlive(session(3000 + i));
      }
      assert.equal(await asks(1, timeout), false);
      assert.equal(await asks(2000, timeout), false);
      assert.equal(await asks(2001, timeout), true);
      forward(timeout / 10 + 1);
      assert.equal(await asks(1, timeout), true);
    });
  });
}

test("Redis liveness: a reply takes as many steps with 5,000 sessions as with 10", async () => {
  const { probe } = createProbe();
  const { prototype } = Map;
  const iterate = prototype[Symbol.iterator];
  let steps = 0;
  const counting: typeof iterate = function* (this: Map<unknown, unknown>) {
    for (const entry of { [Symbol.iterator]: () => iterate.call(this) }) {
      steps++;
      yield entry;
    }
    return undefined;
  };
  prototype[Symbol.iterator] = counting;
  try {
    await withClock((forward) => {
      for (let round = 0; round < 3; round++) {
        for (let i = 1; i <= 5000; i++) probe.onAlive(session(i));
        forward(MINUTE);
      }
      return Promise.resolve();
    });
  } finally {
    prototype[Symbol.iterator] = iterate;
  }
  assert.ok(steps <= 15_000, `${steps} steps`);
});
