/**
 * An ESM and a CommonJS copy of the package in one process: each knows what
 * the other holds, and their waiters form one queue.
 */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import process from "node:process";
import * as esm from "@x/portalock";

const cjs = createRequire(import.meta.url)("@x/portalock");
assert.notEqual(esm.Lock, cjs.Lock, "there is only one copy");

const path = join(process.env.CONSUME_FOLDER, "copies.lock");
const [first, second] = [esm, cjs].map((copy) => new copy.Lock(path));
await first.acquire();

assert.equal(await second.tryAcquire(), null);
await assert.rejects(second.acquire({ timeout: 0 }), (error) => {
  assert.ok(error instanceof esm.AlreadyLocked);
  assert.ok(error instanceof cjs.AlreadyLocked);
  return true;
});
// The thread would wait for itself.
assert.throws(() => second.acquireSync(), { code: "EDEADLK" });

const order = [];
const waiters = [cjs, esm, cjs, esm].map((copy, index) =>
  new copy.Lock(path, { checkInterval: 120_000, timeout: Infinity })
    .run(() => order.push(index))
);
await first.release();
await Promise.all(waiters);
assert.deepEqual(order, [0, 1, 2, 3]);

const temporary = join(process.env.CONSUME_FOLDER, "copies.temporary");
const held = new cjs.TemporaryFileLock(temporary);
await held.acquire();
assert.throws(
  () => new esm.TemporaryFileLock(temporary).acquireSync(),
  esm.AlreadyLocked,
);
await held.release();
assert.ok(!existsSync(temporary));
