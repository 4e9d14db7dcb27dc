import assert from "node:assert/strict";
import { LOCK_SCRIPT } from "../../src/redis/protocol/scripts.ts";
import type { Operation } from "../../src/redis/protocol/scripts.ts";
import { test } from "../support/test.ts";
import { RedisServer } from "./support/server.ts";

const KEYS = ["portalock:{jobs}", "portalock:{jobs}:queue"];

const step = (server: RedisServer, operation: Operation, entry: string) =>
  server.command(
    ...["EVAL", LOCK_SCRIPT.text, KEYS.length, ...KEYS],
    ...[operation, entry, "portalock:session:", "", "jobs", ""],
  );

test(
  "a step in Redis: what verifies puts an entry nowhere",
  async () => {
    await using server = await RedisServer.start();
    assert.deepEqual(await step(server, "verify", "x:a:1:1"), [0]);
    assert.equal(await server.command("EXISTS", ...KEYS), 0);
    const token = await step(server, "wait", "x:a:1:1");
    assert.equal(await step(server, "verify", "x:a:1:1"), token);
  },
  "redis-server",
);

test(
  "a step in Redis: nothing is left once nobody holds or waits",
  async () => {
    await using server = await RedisServer.start();
    for (const kind of ["x", "s", "2"]) {
      for (const operation of ["attempt", "wait", "check"] as const) {
        const entry = `${kind}:a:1:1`;
        const token = await step(server, operation, entry);
        assert.match(String(token), /^\d{16}$/);
        assert.equal(await server.command("HGET", KEYS[0], entry), token);
        assert.equal(await step(server, "release", entry), null);
        assert.equal(await server.command("EXISTS", ...KEYS), 0);
      }
    }
  },
  "redis-server",
);
