/**
 * An ESM and a CommonJS copy of the package in one process: each knows what
 * the other holds, and their waiters form one queue.
 */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import process from "node:process";

// By their paths: Bun and Deno require the ES module.
const dist = "./node_modules/@x/portalock/dist";
const esm = await import(`${dist}/mod.js`);
const cjs = createRequire(import.meta.url)(`${dist}/mod.cjs`);
assert.notEqual(esm.Lock, cjs.Lock, "there is only one copy");

for (const [one, other] of [[esm, cjs], [cjs, esm]]) {
  const folder = process.env.CONSUME_FOLDER;
  await exclude(one, other, join(folder, "lock"));
  await waitInTurn(one, other, join(folder, "queue"));
  await excludeTemporary(one, other, join(folder, "temporary"));
}

async function exclude(one, other, path) {
  const held = await new one.Lock(path).acquire();
  assert.equal(await new other.Lock(path).tryAcquire(), null);
  await assert.rejects(
    new other.Lock(path).acquire({ timeout: 0 }),
    (error) =>
      error instanceof one.AlreadyLocked &&
      error instanceof other.AlreadyLocked,
  );
  // The thread would wait for itself.
  assert.throws(() => new other.Lock(path).acquireSync(), { code: "EDEADLK" });
  await held.close();
}

async function waitInTurn(one, other, path) {
  const held = await new one.Lock(path).acquire();
  const order = [];
  const waiters = [];
  for (const copy of [other, one, other, one]) {
    const index = waiters.length;
    await new Promise((onWait) => {
      const options = { checkInterval: 120_000, timeout: Infinity, onWait };
      const lock = new copy.Lock(path, options);
      waiters.push(lock.run(() => order.push(index)));
    });
  }
  await held.close();
  await Promise.all(waiters);
  assert.deepEqual(order, [0, 1, 2, 3]);
}

async function excludeTemporary(one, other, path) {
  const held = new one.TemporaryFileLock(path);
  await held.acquire();
  assert.throws(
    () => new other.TemporaryFileLock(path).acquireSync(),
    other.AlreadyLocked,
  );
  await held.release();
  assert.ok(!existsSync(path), "the lock file remained");
}
