import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import {
  holderCount,
  killLockConnections,
  redisSuite,
  removeDeadHolders,
  startRedisProcess,
} from "../redis/support/inspect.ts";
import { runtimes } from "../support/env.ts";

const it = redisSuite("Redis connection loss", removeDeadHolders);

for (const runtime of runtimes) {
  const { name } = runtime;

  it(`a blocked event loop does not lose the lock, on ${name}`, async (server) => {
    await using worker = startRedisProcess(runtime);
    const options = { url: server.url, unavailableTimeout: 200 };
    await worker.call("acquire", "block", options);
    for (let i = 0; i < 2; i++) {
      await worker.call("block", 650);
      await worker.call("pause", 240);
    }
    assert.equal(await worker.call("held", "block"), true);
    assert.equal(await holderCount(server, "block"), 1);
    await worker.call("release", "block");
  });

  it(`a loss during a blocked event loop aborts the signal, on ${name}`, async (server) => {
    await using worker = startRedisProcess(runtime);
    const options = { url: server.url, unavailableTimeout: 100 };
    await worker.call("acquire", "killed", options);
    const blocked = worker.call("block", 500);
    await sleep(200);
    await killLockConnections(server);
    await blocked;
    const { name, message } = await worker.call("lost", "killed") as Error;
    assert.equal(name, "LockLostError");
    assert.match(message, /Lost the lock on killed/);
    await worker.call("acquire", "killed", options);
    await worker.call("release", "killed");
  });
}
