import assert from "node:assert/strict";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Lock, lock, LOCK_EX, LOCK_NB, LOCK_SH } from "../../mod.ts";
import { RLock, unlock } from "../../mod.ts";
import { publish } from "../../src/core/diagnostics.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { firstItems } from "../support/values.ts";
import { SHORT_WAIT_MS } from "../support/waits.ts";

interface Event {
  name: string;
  path?: string;
  fd?: number;
  exclusive?: boolean;
  waited?: number;
  held?: number;
}

/** Collects the published events until it is disposed. */
function recordEvents(): { events: Event[] } & Disposable {
  const events: Event[] = [];
  const listeners = ["wait", "acquire", "release"].map((name) => {
    const listen = (event: unknown) =>
      void events.push({ name, ...event as object });
    subscribe(`portalock:${name}`, listen);
    return () => unsubscribe(`portalock:${name}`, listen);
  });
  return {
    events,
    [Symbol.dispose]: () => listeners.forEach((stop) => stop()),
  };
}

test("diagnostics report waits, acquisitions and releases", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  using all = recordEvents();
  const holder = await new Lock(path).acquire();
  const waiting = new Lock(path, { flags: LOCK_SH | LOCK_NB }).acquire();
  await delay(40);
  await holder.close();
  (await waiting).closeSync();
  const events = firstItems(all.events, 5);
  const [first, wait, release, second, last] = events;
  assert.equal(all.events.length, 5);
  for (const { path: where } of all.events) assert.equal(where, path);
  assert.equal(first.name, "acquire");
  assert.equal(first.exclusive, true);
  assert.ok(first.waited! >= 0);
  assert.deepEqual(wait, { name: "wait", path, exclusive: false });
  assert.equal(release.name, "release");
  assert.ok(release.held! >= 39);
  assert.equal(second.name, "acquire");
  assert.equal(second.exclusive, false);
  assert.ok(second.waited! >= 39);
  assert.deepEqual([last.name, last.exclusive], ["release", false]);
  assert.equal(new Lock(path).tryAcquireSync()?.closeSync(), undefined);
});

test("diagnostics report a wait for another task of the same RLock", async () => {
  using dir = tempDir();
  const lock = new RLock(join(dir.path, "a.lock"));
  using all = recordEvents();
  await Promise.all([lock.run(() => delay(10)), lock.run(() => {})]);
  assert.deepEqual(
    all.events.map(({ name }) => name).sort(),
    ["acquire", "acquire", "release", "release", "wait"],
  );
});

test("diagnostics report a wait once, and no failed attempt", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new Lock(path, { timeout: SHORT_WAIT_MS });
  const held = await lock.acquire();
  using all = recordEvents();
  await assert.rejects(lock.acquire());
  await assert.rejects(new Lock(path, { timeout: SHORT_WAIT_MS }).acquire());
  assert.equal(await lock.tryAcquire(), null);
  assert.equal(new Lock(path).tryAcquireSync(), null);
  assert.deepEqual(all.events.map(({ name }) => name), ["wait", "wait"]);
  // The first waits behind tasks of its own instance, then behind another
  // instance.
  const waiting = lock.acquire({ timeout: 60_000 });
  const other = new Lock(path, { timeout: 60_000 }).acquire();
  const waits = () => all.events.filter(({ name }) => name === "wait").length;
  while (waits() < 4) await delay(5);
  await held.close();
  await (await other).close();
  await (await waiting).close();
  assert.equal(waits(), 4);
});

test("diagnostics report the descriptors of lock() and unlock()", async () => {
  using dir = tempDir();
  const fd = fs.openSync(join(dir.path, "a.lock"), "a");
  using all = recordEvents();
  await lock(fd, LOCK_EX);
  unlock(fd);
  assert.deepEqual(all.events.map(({ name }) => name), ["acquire", "release"]);
  for (const event of all.events) assert.equal(event.fd, fd);
  fs.closeSync(fd);
}, "file descriptors");

test("publish() creates no event without subscribers", () => {
  publish("acquire", () => assert.fail("made"));
});
