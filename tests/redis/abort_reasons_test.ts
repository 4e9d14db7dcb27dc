import assert from "node:assert/strict";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { WAIT_FOREVER } from "../../src/options/acquire_options.ts";
import { fromUrl } from "../../src/redis/clients/mod.ts";
import type { RedisSource } from "../../src/redis/clients/mod.ts";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import type { RedisAcquireOptions } from "../../src/redis/mod.ts";
import { lockKeys } from "../../src/redis/protocol/keys.ts";
import { RedisLockBase } from "../../src/redis/redis_lock_base.ts";
import { abortReasons, assertRejectsWith } from "../support/abort_reasons.ts";
import type { Aborting } from "../support/abort_reasons.ts";
import { test } from "../support/test.ts";
import { observeWaits } from "../support/waits.ts";
import {
  redisSuite,
  unsharedOptions,
  waitForNoConnections,
} from "./support/inspect.ts";
import type { RedisServer } from "./support/server.ts";

const it = redisSuite("Redis abort reasons");

/** The classes, and how to acquire: both methods of each take a signal. */
const LOCKS = {
  RedisLock: (server: RedisServer) =>
    new RedisLock("aborted", unsharedOptions(server)),
  RedisSemaphore: (server: RedisServer) =>
    new RedisSemaphore("aborted", 1, unsharedOptions(server)),
};
const METHODS: Record<
  string,
  (lock: RedisLockBase, options: RedisAcquireOptions) => Promise<unknown>
> = {
  acquire: (lock, options) => lock.acquire(options),
  run: (lock, options) => lock.run(() => {}, options),
};

for (const [kind, create] of Object.entries(LOCKS)) {
  for (const [method, acquire] of Object.entries(METHODS)) {
    const name = `${kind}.${method}`;

    it(`${name} rejects with any reason of a signal that is aborted before`, async (server) => {
      for (const aborting of abortReasons()) {
        aborting.abort();
        const { signal } = aborting;
        await aborting.rejects(acquire(create(server), { signal }));
      }
    });

    for (const same of [true, false]) {
      const through = same ? "this object" : "other objects";
      it(`${name} rejects with any abort reason in the queue of ${through}`, async (server) => {
        const holder = create(server);
        const lease = await holder.acquire();
        for (const aborting of abortReasons()) {
          const { signal } = aborting;
          using waits = observeWaits();
          const lock = same ? holder : create(server);
          const waiting = acquire(lock, { signal, timeout: Infinity });
          await waits.begun();
          aborting.abort();
          await aborting.rejects(waiting);
        }
        await lease.release();
        const free = await create(server).tryAcquire();
        await free!.release();
      });
    }

    it(`${name} rejects with any abort reason while the server does not answer`, async (server) => {
      for (const aborting of abortReasons()) {
        const lock = create(server);
        await lock.run(() => {});
        await server.signal("SIGSTOP");
        try {
          await aborts(aborting, lock, acquire);
        } finally {
          await server.signal("SIGCONT");
        }
      }
      await waitForNoConnections(server);
    });
  }
}

/** Aborts a moment after the acquisition has begun. */
async function aborts(
  aborting: Aborting,
  lock: RedisLockBase,
  acquire: (typeof METHODS)[string] = (lock, options) => lock.acquire(options),
): Promise<void> {
  const { signal } = aborting;
  setTimeout(aborting.abort, 20);
  await aborting.rejects(acquire(lock, { signal, timeout: 60_000 }));
}

test("Redis abort reasons: acquire() rejects with any of them while it connects", async () => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => {
    socket.on("error", () => {});
    sockets.add(socket);
  });
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as AddressInfo;
  const url = `redis://127.0.0.1:${port}`;
  for (const failWhenLocked of [false, true]) {
    const options = { url, clientOptions: {}, failWhenLocked };
    for (const aborting of abortReasons()) {
      await aborts(aborting, new RedisLock("aborted", options));
    }
  }
  for (const socket of sockets) socket.destroy();
  silent.close();
});

test("Redis abort reasons: acquire() rejects with any of them while it retries", async () => {
  for (const aborting of abortReasons()) {
    const lock = new RedisLock("aborted", { url: "redis://127.0.0.1:1" });
    await aborts(aborting, lock);
  }
});

/** A lock with a source of the test. */
class LockWithSource extends RedisLockBase {
  constructor(source: Partial<RedisSource>) {
    const settings = {
      wait: WAIT_FOREVER,
      unavailableTimeout: 60_000,
      info: "",
    };
    const all = { ...fromUrl({}, undefined), ...source };
    super(lockKeys("aborted", { prefix: "", sharded: false }), "x", {
      ...settings,
      source: all,
    });
  }
}

const never = () => new Promise<never>(() => {});

const SOURCES: Record<string, Partial<RedisSource>> = {
  "node-redis is being loaded": { load: never },
  "the server is being located": { locate: never },
  "the slots of a cluster are read again": {
    locate: () => Promise.reject(new Error("MOVED 1 127.0.0.1:1")),
    refreshSlots: never,
  },
};

for (const [phase, source] of Object.entries(SOURCES)) {
  test(`Redis abort reasons: acquire() rejects with any of them while ${phase}`, async () => {
    for (const aborting of abortReasons()) {
      await aborts(aborting, new LockWithSource(source));
    }
  });
}

it("the function of run() may throw any value", async (server) => {
  for (const aborting of abortReasons()) {
    const lock = new RedisLock("aborted", unsharedOptions(server));
    aborting.abort();
    const { reason } = aborting.signal;
    const failing = lock.run(() => {
      throw reason;
    });
    await assertRejectsWith(failing, () => reason);
    assert.equal(lock.locked, false);
  }
});
