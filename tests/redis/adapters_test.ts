/** What a lock does with the clients of each library, besides locking. */

import assert from "node:assert/strict";
import { after } from "node:test";
import { RedisLock } from "../../src/redis/mod.ts";
import type { RedisLockOptions } from "../../src/redis/mod.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import { waitUntil } from "./support/binaries.ts";
import {
  abortReason,
  assertEventuallyEmpty,
  holderCount,
  listClients,
  waitForQueueLength,
} from "./support/inspect.ts";
import type { ClientInfo } from "./support/inspect.ts";
import { TOPOLOGIES } from "./support/topologies.ts";
import type { Topology } from "./support/topologies.ts";

/** A connection of this package for commands or for subscriptions. */
const isOurs = ({ name }: ClientInfo) =>
  /^portalock-[0-9a-f]{32}(:commands)?$/.test(name);

/** Lists the connections of this package on all servers, with their server. */
async function ourConnections({ servers }: Topology) {
  const lists = await Promise.all(servers.map(async (server) => {
    const clients = (await listClients(server)).filter(isOurs);
    return clients.map(({ id, name }) => ({ id, name, server }));
  }));
  return lists.flat();
}

for (const { name, kind, needs, start } of TOPOLOGIES) {
  let topology: Topology | undefined;
  after(() => topology?.[Symbol.asyncDispose]());

  const it = (promise: string, body: (topology: Topology) => Promise<void>) =>
    test(`Redis adapters, ${name}: ${promise}`, async () => {
      topology ??= await start();
      await body(topology);
      await assertEventuallyEmpty(() => topology!.remaining());
      await assertEventuallyEmpty(() => ourConnections(topology!));
    }, ...needs);

  it("the end of any connection is announced, and the lock can be acquired again", async (topology) => {
    const lock = new RedisLock("lost", topology.options);
    await lock.run(() => {});
    const { length } = await ourConnections(topology);
    assert.ok(length > 0);
    for (let i = 0; i < length; i++) {
      const lease = await lock.acquire();
      const { id, server } = at(await ourConnections(topology), i);
      await server.command("CLIENT", "KILL", "ID", id);
      const reason = await abortReason(lease.signal);
      assert.equal((reason as Error).name, "LockLostError");
      assert.equal(lease.held, false);
      await lease.release();
      await (await lock.acquire()).release();
    }
  });

  it("a connection never reconnects or subscribes again by itself", async (topology) => {
    const lock = new RedisLock("once", topology.options);
    const lease = await lock.acquire();
    const before = await ourConnections(topology);
    for (const { id, server } of before) {
      await server.command("CLIENT", "KILL", "ID", id);
    }
    await abortReason(lease.signal);
    await lease.release();
    await assertEventuallyEmpty(() => ourConnections(topology));
    // Removes the record of the dead holder.
    await lock.run(() => {});
  });

  it("a waiter whose connection ended waits on another one", async (topology) => {
    const options = { ...topology.options, timeout: 60_000 };
    const holder = new RedisLock("queue", options);
    const lease = await holder.acquire();
    const waiting = new RedisLock("queue", options).acquire();
    await waitUntil(
      async () => await queueLength(topology, "queue") === 1,
      () => "a waiter",
    );
    for (const { id, server } of await ourConnections(topology)) {
      await server.command("CLIENT", "KILL", "ID", id);
    }
    await abortReason(lease.signal);
    await lease.release();
    await (await waiting).release();
  });

  if (kind === "cluster") {
    it("a slot that moves ends its leases, and waiters follow it", async (topology) => {
      const cluster = topology.cluster!;
      const options: RedisLockOptions = { ...topology.options };
      const lock = new RedisLock("slot", options);
      const other = new RedisLock(await channelBeside(topology), options);
      await using staying = await other.acquire();
      const lease = await lock.acquire();
      const waiting = new RedisLock("slot", { ...options, timeout: 60_000 })
        .acquire();
      const slot = await cluster.slotOf("{slot}");
      const from = await cluster.nodeOf(slot);
      await waitForQueueLength(from, "slot", 1);
      const to = cluster.nodes.find((node) => node !== from)!;
      await cluster.migrate(slot, to);
      await abortReason(lease.signal);
      await lease.release();
      const next = await waiting;
      assert.equal(await holderCount(to, "slot"), 1);
      assert.equal(await lock.tryAcquire(), null);
      await next.release();
      // The locks of other slots on the same node are not affected.
      assert.equal(staying.held, true);
    });
  }

  if (kind === "sentinels") {
    it("a failover ends the leases, and a waiter survives it", async (topology) => {
      const { options, sentinel } = topology;
      const lock = new RedisLock("fails over", options);
      const lease = await lock.acquire();
      const waiting = new RedisLock("fails over", options)
        .acquire({ timeout: 60_000 });
      await waitForQueueLength(sentinel!.master, "fails over", 1);
      await sentinel!.failover();
      topology.servers = [sentinel!.master];
      await abortReason(lease.signal);
      await lease.release();
      const next = await waiting;
      assert.equal(await holderCount(sentinel!.master, "fails over"), 1);
      assert.equal(await lock.tryAcquire(), null);
      await next.release();
    });
  }
}

/** Returns the number of waiters, on the server that has the queue. */
async function queueLength(
  { servers }: Topology,
  channel: string,
): Promise<number> {
  const lengths = await Promise.all(
    servers.map((server) =>
      server.command("LLEN", `portalock:v1:{${channel}}:queue`).catch(() => 0)
    ),
  );
  return lengths.reduce<number>((sum, length) => sum + Number(length), 0);
}

/** Returns the name of a lock on the same node as `"slot"`, in another slot. */
async function channelBeside({ cluster }: Topology): Promise<string> {
  const nodeOf = async (channel: string) =>
    cluster!.nodeOf(await cluster!.slotOf(`{${channel}}`));
  const node = await nodeOf("slot");
  for (let i = 0;; i++) {
    const channel = `beside ${i}`;
    if (await nodeOf(channel) === node) return channel;
  }
}
