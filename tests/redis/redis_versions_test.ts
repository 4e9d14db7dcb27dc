/** Versions of node-redis, and other clients of Redis. */

import assert from "node:assert/strict";
import { createServer } from "node:net";
import { once } from "node:events";
import { createClient, createCluster } from "redis";
import * as redis4 from "redis-4";
import * as redis5 from "redis-5";
import * as redis6 from "redis";
import { Unsupported } from "../../ffi/types.ts";
import { RedisLock } from "../../src/redis/mod.ts";
import type { RedisClientArgument } from "../../src/redis/mod.ts";
import { rejectOldPackage } from "../../src/redis/clients/node_redis.ts";
import {
  isRetryable,
  toLockException,
} from "../../src/redis/protocol/errors.ts";
import { test } from "../support/test.ts";

/** Nothing listens there, and none of these clients is connected. */
const URL = "redis://127.0.0.1:1";

type Address = { host: string; port: number };

const CLUSTER = { rootNodes: [{ url: URL }] };

test("Redis: clients of node-redis 5 and 6 are accepted", () => {
  const clients: RedisClientArgument[] = [
    redis5.createClient({ url: URL }),
    redis5.createCluster(CLUSTER),
    redis5.createClientPool({ url: URL }),
    createClient({ url: URL }),
    createCluster(CLUSTER),
    redis6.createClientPool({ url: URL }),
  ];
  for (const client of clients) {
    assert.equal(new RedisLock("a", { client }).channel, "a");
  }
});

test("Redis: a redis package older than node-redis 5 is refused with the remedy", () => {
  for (const module of [redis5, redis6]) rejectOldPackage(module);
  assert.throws(() => rejectOldPackage(redis4), (error: Error) => {
    assert.ok(error instanceof Unsupported);
    assert.equal(isRetryable(error), false);
    const thrown = toLockException("Cannot lock a", error, 1);
    assert.equal(thrown.name, "LockUnsupported");
    assert.equal(thrown.code, "ERR_LOCK_UNSUPPORTED");
    assert.equal(
      thrown.message,
      "Cannot lock a: the installed redis package is node-redis 4 or older, " +
        "which does not support RESP3; update it (npm install redis@6)",
    );
    return true;
  });
});

for (
  const [version, create] of [
    ["5", (socket: Address) => redis5.createClient({ socket })],
    ["6", (socket: Address) => createClient({ socket })],
  ] as const
) {
  test(`Redis: an aborted acquire() closes the connection that node-redis ${version} was opening`, async () => {
    const server = createServer((socket) => socket.resume());
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const client = create({ host: "127.0.0.1", port });
    const controller = new AbortController();
    const accepted = once(server, "connection");
    const acquiring = new RedisLock("a", { client: client as never })
      .acquire({ signal: controller.signal });
    controller.abort(new Error("enough"));
    await assert.rejects(acquiring, { message: "enough" });
    const [socket] = await accepted;
    if (!socket.destroyed) await once(socket, "close");
    server.close();
  });
}
