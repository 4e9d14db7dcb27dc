import assert from "node:assert/strict";
import { LOCK_SCRIPT } from "../../src/redis/protocol/scripts.ts";
import type { Operation } from "../../src/redis/protocol/scripts.ts";
import { test } from "../support/test.ts";
import { RedisServer } from "./support/server.ts";

const KEYS = ["portalock:v1:{jobs}", "portalock:v1:{jobs}:queue"] as const;

const runScript = (server: RedisServer, operation: Operation, member: string) =>
  server.command(
    ...["EVAL", LOCK_SCRIPT.text, KEYS.length, ...KEYS],
    ...[operation, member, "portalock:v1:session:", "", "jobs", ""],
  );

test(
  "Redis scripts: verify does not add a member",
  async () => {
    await using server = await RedisServer.start();
    assert.deepEqual(await runScript(server, "verify", "x:a:1:1"), [0]);
    assert.equal(await server.command("EXISTS", ...KEYS), 0);
    const token = await runScript(server, "wait", "x:a:1:1");
    assert.equal(await runScript(server, "verify", "x:a:1:1"), token);
  },
  "redis-server",
);

test(
  "Redis scripts: release of the last member leaves no key",
  async () => {
    await using server = await RedisServer.start();
    for (const kind of ["x", "s", "2"]) {
      for (const operation of ["attempt", "wait", "check"] as const) {
        const member = `${kind}:a:1:1`;
        const token = await runScript(server, operation, member);
        assert.match(String(token), /^\d{16}$/);
        assert.equal(await server.command("HGET", KEYS[0], member), token);
        assert.equal(await runScript(server, "release", member), null);
        assert.equal(await server.command("EXISTS", ...KEYS), 0);
      }
    }
  },
  "redis-server",
);
