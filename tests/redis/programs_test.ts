/** What programs on each runtime leave behind: processes, leases, memory. */

import assert from "node:assert/strict";
import { RedisLock, RedisSemaphore } from "../../src/redis/mod.ts";
import { fixtureCommand, runtimes } from "../support/env.ts";
import type { TestRuntime } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { at } from "../support/values.ts";
import {
  redisSuite,
  removeDeadHolders,
  unsharedOptions,
  waitForQueueLength,
} from "./support/inspect.ts";

const it = redisSuite("Redis programs", removeDeadHolders);

/** Starts `tests/fixtures/redis_end_with_lock` with access to the collector. */
function startEnding(runtime: TestRuntime, ...args: string[]): LockProcess {
  return startWithCollector(runtime, "redis_end_with_lock", ...args);
}

/** Starts a fixture with access to the garbage collector. */
function startWithCollector(
  runtime: TestRuntime,
  fixture: string,
  ...args: string[]
): LockProcess {
  const script = fixtureCommand(runtime, fixture);
  const flag = runtime.name === "deno"
    ? "--v8-flags=--expose-gc"
    : runtime.name === "bun"
    ? "--smol"
    : "--expose-gc";
  return new LockProcess([
    ...script.slice(0, -1),
    flag,
    at(script, -1),
    ...args,
  ]);
}

/** Asserts that a process exits by itself, with code 0 and without errors. */
async function assertEnds(worker: LockProcess, what: string): Promise<void> {
  const start = performance.now();
  const { code, stderr } = await worker.ended;
  assert.deepEqual({ code, stderr }, { code: 0, stderr: "" }, what);
  assert.ok(performance.now() - start < 30_000, `${what}: exited too late`);
}

/** Commands of the fixture, and the line that it prints last. */
const ENDS: [how: string, said: string][] = [
  ["while it holds", "held"],
  ["with an idle connection", "held"],
  ["after it was refused", "refused"],
  ["after its wait timed out", "AlreadyLocked"],
  ["after it was aborted", "TimeoutError"],
  ["after the connection was refused", "LockException"],
  ["after a stall", "done"],
];

for (const runtime of runtimes) {
  const { name } = runtime;

  it(`a finished program exits by itself, on ${name}`, async (server) => {
    await using _ = await new RedisLock("taken", unsharedOptions(server))
      .acquire();
    await Promise.all(ENDS.map(async ([how, said]) => {
      await using worker = startEnding(runtime, how, server.url);
      assert.equal(await worker.readLine(), said, how);
      await assertEnds(worker, `${name}: ${how}`);
    }));
  });

  it(`a waiting program does not exit before it acquires, on ${name}`, async (server) => {
    const lease = await new RedisLock("taken", unsharedOptions(server))
      .acquire();
    await using worker = startEnding(
      runtime,
      "once it has the lock",
      server.url,
    );
    assert.equal(await worker.readLine(), "waits");
    await waitForQueueLength(server, "taken", 1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await lease.release();
    assert.equal(await worker.readLine(), "held");
    await assertEnds(worker, name);
  });

  for (const how of ["gc", "allocation"]) {
    it(`a garbage-collected lease stays held (${how}), on ${name}`, async (server) => {
      await using worker = startWithCollector(
        runtime,
        "redis_garbage_collection",
        how,
        server.url,
      );
      const read = async () => JSON.parse(await worker.readLine());
      for (let i = 0; i < 4; i++) assert.deepEqual(await read(), ["held"]);
      worker.writeLine("collect");
      const [said, ...warnings] = await read();
      assert.equal(said, "collected");
      assert.equal(warnings.length, 1, `${warnings}`);
      assert.match(
        warnings[0],
        /^PortalockWarning The lock on .* was garbage-collected while held/,
      );
      const options = unsharedOptions(server);
      for (
        const contender of [
          new RedisLock("signal", options),
          new RedisLock("run", options),
          new RedisLock("variable", options),
          new RedisSemaphore("semaphore", 1, options),
        ]
      ) assert.equal(await contender.tryAcquire(), null, contender.channel);
      // Heartbeats go on, and abort the signal for its listener.
      await server.command("DEL", "portalock:v1:{signal}");
      assert.deepEqual(await read(), [
        "lost",
        "LockLostError",
        "ERR_LOCK_LOST",
      ]);
      worker.writeLine("end");
      assert.equal((await worker.ended).code, 0);
    });
  }

  it(`ten thousand acquisitions do not grow memory, on ${name}`, async (server) => {
    await using _ = await new RedisLock("taken", unsharedOptions(server))
      .acquire();
    await using worker = startEnding(
      runtime,
      "after many locks",
      server.url,
    );
    const grown = Number(await worker.readLine());
    // If each acquisition were remembered, the growth would be larger.
    assert.ok(grown < 10_000 * 100, `${grown} bytes`);
    await worker.ended;
  });
}
