import assert from "node:assert/strict";
import * as api from "../../src/redis/mod.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import {
  ErrorTable,
  Fixture,
  publicFunctions,
} from "../support/caller_line.ts";
import { test } from "../support/test.ts";
import {
  killLockConnections,
  redisSuite,
  removeDeadHolders,
  unsharedOptions,
} from "./support/inspect.ts";
import type { RedisServer } from "./support/server.ts";

let server: RedisServer;

const table = new ErrorTable(() => new Fixture());

const UNKNOWN = { patience: 1 } as object;
const WRONG = { timeout: -1 };
const SOON = { timeout: 1000 };
const wrong = () => 1 as never;

table.row("RedisLock", "TypeError", wrong, (name) => new RedisLock(name));
table.row("RedisLock", "TypeError", () => "a", (name) => {
  return new RedisLock(name, UNKNOWN);
});
table.row("RedisLock", "RangeError", () => "", (name) => new RedisLock(name));
table.row("RedisSemaphore", "TypeError", wrong, (name) => {
  return new RedisSemaphore(name, 1);
});
table.row("RedisSemaphore", "RangeError", () => 0, (maximum) => {
  return new RedisSemaphore("a", maximum);
});

const free = () => new RedisLock("free", unsharedOptions(server));
const held = async (fixture: Fixture) => {
  fixture.keep(await new RedisLock("held", unsharedOptions(server)).acquire());
  return new RedisLock("held", unsharedOptions(server));
};
const full = async (fixture: Fixture) => {
  fixture.keep(
    await new RedisSemaphore("full", 1, unsharedOptions(server)).acquire(),
  );
  return new RedisSemaphore("full", 1, unsharedOptions(server));
};
/** A port on which no server listens. */
const unreachable = () =>
  new RedisLock("a", { url: "redis://127.0.0.1:1", timeout: 50 });

for (const prepare of [held, full]) {
  table.row("Acquirable.acquire", "AlreadyLocked", prepare, async (lock) => {
    await lock.acquire(SOON);
  });
  table.row("Acquirable.acquire", "AlreadyLocked", prepare, async (lock) => {
    await lock.acquire({ timeout: 0 });
  });
  table.row("Acquirable.run", "AlreadyLocked", prepare, async (lock) => {
    await lock.run(() => {}, SOON);
  });
}
table.row("Acquirable.acquire", "LockException", unreachable, async (lock) => {
  await lock.acquire();
});
table.row(
  "Acquirable.tryAcquire",
  "LockException",
  unreachable,
  async (lock) => {
    await lock.tryAcquire();
  },
);
table.row("Acquirable.run", "LockException", unreachable, async (lock) => {
  await lock.run(() => {});
});
table.row("Acquirable.acquire", "TypeError", free, async (lock) => {
  await lock.acquire(UNKNOWN);
});
table.row("Acquirable.acquire", "RangeError", free, async (lock) => {
  await lock.acquire(WRONG);
});
table.row("Acquirable.run", "TypeError", free, async (lock) => {
  await lock.run(1 as never);
});
table.row("Acquirable.run", "LockLostError", free, async (lock) => {
  // The connection ends, and with it the lock.
  await lock.run(async ({ signal }) => {
    await killLockConnections(server);
    while (!signal.aborted) await new Promise(setImmediate);
  });
});

table.row("RedisLockBase.probe", "LockException", unreachable, async (lock) => {
  await lock.probe();
});
table.row("RedisLockBase.adopt", "RangeError", free, async (lock) => {
  await lock.adopt("text");
});
table.row("RedisLockBase.adopt", "TypeError", free, async (lock) => {
  await lock.adopt(1 as never);
});
table.row("RedisLockBase.adopt", "LockLostError", async () => {
  const lock = free();
  const text = (await lock.acquire()).transfer();
  await (await lock.adopt(text)).release();
  return { lock, text };
}, async ({ lock, text }) => {
  await lock.adopt(text);
});
table.row("RedisLease.transfer", "LockLostError", async () => {
  const lease = await free().acquire();
  await lease.release();
  return lease;
}, (lease) => {
  const text = lease.transfer();
  return Promise.resolve(text);
});
table.row("RedisLease.transfer", "TypeError", async (fixture) => {
  return fixture.keep(await free().acquire());
}, (lease) => {
  const text = lease.transfer(UNKNOWN);
  return Promise.resolve(text);
});
table.row("lockAll", "AlreadyLocked", held, async (lock) => {
  await api.lockAll([lock], SOON);
});
table.row("lockAll", "TypeError", free, async (lock) => {
  await api.lockAll(lock as never);
});
table.row("lockAll", "RangeError", free, async (lock) => {
  await api.lockAll([lock, lock]);
});

/** Public functions that throw nothing, or nothing of their own. */
const THROW_NOTHING = [
  // Each is a part of a public function of its class.
  "Acquirable.busyHere",
  "Acquirable.releaseLatest",
  "Acquirable.startAcquire",
  "Acquirable.throwBusy",
  "Acquirable.throwIfLost",
  "Acquirable.turnBefore",
  "RedisLockBase.acquireSince",
  "RedisLockBase.attemptAsync",
  "RedisLockBase.end",
  "RedisLockBase.latest",
  "RedisLockBase.startDeadline",
  "RedisLockBase.subject",
  "RedisLockBase.throwIfLost",
  "RedisLockBase.turnBefore",
  // Only the library constructs them.
  "RedisLease",
  "RedisLeases",
  "RedisLockBase",
  // Errors.
  "LockException.toJSON",
  "LockLostError",
  // If the server cannot be reached, the lock ends with the connection.
  "Acquirable.[Symbol.asyncDispose]",
  "Acquirable.release",
  "RedisLease.[Symbol.asyncDispose]",
  "RedisLease.release",
  "RedisLeases.[Symbol.asyncDispose]",
  "RedisLeases.[Symbol.iterator]",
  "RedisLeases.at",
  "RedisLeases.release",
  "RedisLockBase.[Symbol.asyncDispose]",
  "RedisLockBase.release",
];

const suite = redisSuite("error stacks in Redis", removeDeadHolders);

for (const name of table.functions) {
  suite(`what ${name} throws begins with its caller`, async (started) => {
    server = started;
    await table.check(name);
  });
}

test("each public function of Redis locks is in the table of error stacks", () => {
  const known = [...table.functions, ...THROW_NOTHING].sort();
  assert.deepEqual(known, publicFunctions(api));
});
