/** Inspects connections and locks by commands to the server. */

import assert from "node:assert/strict";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { RedisLock, RedisSemaphore } from "../../../src/redis/mod.ts";
import type { RedisLease, RedisLockOptions } from "../../../src/redis/mod.ts";
import type { Capability } from "../../support/capabilities.ts";
import { fixtureCommand, type TestRuntime } from "../../support/env.ts";
import { LockProcess } from "../../support/processes.ts";
import { test } from "../../support/test.ts";
import { waitUntil } from "./binaries.ts";
import { RedisServer } from "./server.ts";

/** A connection as `CLIENT LIST` shows it. */
export type ClientInfo = Record<
  "id" | "name" | "cmd" | "db" | "sub" | "psub" | "resp",
  string
>;

/** Lists all other connections in the order of their identifiers. */
export async function listClients(server: RedisServer): Promise<ClientInfo[]> {
  const list = String(await server.command("CLIENT", "LIST"));
  return list.trim().split("\n")
    .map((line) =>
      Object.fromEntries(
        [...line.matchAll(/(\S+?)=(\S*)/g)].map(([, k, v]) => [k, v]),
      ) as ClientInfo
    )
    // That which lists them. A lock lists connections, too.
    .filter(({ cmd, name }) => cmd !== "client|list" || name !== "")
    .sort((a, b) => Number(a.id) - Number(b.id));
}

/** Lists the connections of this package. */
export async function lockConnections(
  server: RedisServer,
): Promise<ClientInfo[]> {
  return (await listClients(server)).filter(({ name }) =>
    /^portalock-[0-9a-f]{32}$/.test(name)
  );
}

/** Returns the identifier of the connection of a lease. */
export async function connectionIdOf(
  server: RedisServer,
  lease: RedisLease,
): Promise<string> {
  const [id] = lease.holderId.split("-");
  const all = await lockConnections(server);
  return all.find(({ name }) => name === `portalock-${id}`)!.id;
}

/** Kills all connections of this package. */
export async function killLockConnections(server: RedisServer): Promise<void> {
  for (const { id } of await lockConnections(server)) {
    await server.command("CLIENT", "KILL", "ID", id);
  }
}

/** Returns the number of holders in the record of a lock. */
export async function holderCount(
  server: RedisServer,
  channel: string,
): Promise<number> {
  return Number(await server.command("HLEN", `portalock:v1:{${channel}}`));
}

/** Waits until the queue of a lock has that many waiters. */
export function waitForQueueLength(
  server: RedisServer,
  channel: string,
  count: number,
  prefix = "",
): Promise<void> {
  const queue = `${prefix}portalock:v1:{${channel}}:queue`;
  return waitUntil(
    async () => await server.command("LLEN", queue) === count,
    () => `${count} waiters for ${channel}`,
  );
}

/** Waits until all connections of this package are closed. */
export function waitForNoConnections(server: RedisServer): Promise<void> {
  return waitUntil(
    async () => (await lockConnections(server)).length === 0,
    () => "the end of all connections",
  );
}

/**
 * Lists keys, and channels with subscribers, except the clock and the channels
 * of connections.
 */
export async function remainingNames(server: RedisServer): Promise<unknown[]> {
  const keys = await server.command("KEYS", "*") as unknown[];
  const channels = await server.command("PUBSUB", "CHANNELS") as unknown[];
  return [...keys, ...channels].filter((name) =>
    !/^(.*portalock:v1:session:[0-9a-f]{32}$|.*portalock:v1:(.*:)?clock$|__sentinel__)/
      .test(String(name))
  );
}

/**
 * Asserts that no lock has left a key or a channel. An acquisition that was
 * canceled before a reply cleans up after the reply.
 */
export function assertNothingLeft(server: RedisServer): Promise<void> {
  return assertEventuallyEmpty(() => remainingNames(server));
}

/** Asserts that a list is empty within ten seconds. */
export async function assertEventuallyEmpty(
  list: () => Promise<unknown[]>,
): Promise<void> {
  const end = performance.now() + 10_000;
  let found = await list();
  while (found.length > 0 && performance.now() < end) {
    await sleep(10);
    found = await list();
  }
  assert.deepEqual(found, []);
}

/** Removes the records of dead connections, as the next acquisition does. */
export async function removeDeadHolders(server: RedisServer): Promise<void> {
  for (
    const key of await server.command("KEYS", "portalock:v1:*") as string[]
  ) {
    const [, semaphore, channel] =
      /^portalock:v1:(semaphore:)?\{(.*)\}$/.exec(key) ?? [];
    if (channel === undefined) continue;
    // A short timeout, because a connection may stay open under Wine.
    const options = { url: server.url, unavailableTimeout: 500 };
    const lock = semaphore
      ? new RedisSemaphore(channel, 1, options)
      : new RedisLock(channel, options);
    await lock.run(() => {});
  }
}

/** Returns options whose connection no other options share. */
export function unsharedOptions(
  server: RedisServer,
  options: RedisLockOptions = {},
): RedisLockOptions {
  return { url: server.url, clientOptions: {}, ...options };
}

/** Starts a process that locks in Redis on command. */
export function startRedisProcess(runtime: TestRuntime): LockProcess {
  return new LockProcess(fixtureCommand(runtime, "redis_lock_process"));
}

/** Waits until a signal is aborted, and returns the reason. */
export async function abortReason(signal: AbortSignal): Promise<unknown> {
  if (!signal.aborted) {
    await new Promise((resolve) =>
      signal.addEventListener("abort", resolve, { once: true })
    );
  }
  return signal.reason;
}

/**
 * Returns a function that defines tests with a shared server. After each test
 * and `cleanUp`, no lock may be left on the server.
 */
export function redisSuite(
  what: string,
  cleanUp: (server: RedisServer) => Promise<void> = () => Promise.resolve(),
): (
  promise: string,
  body: (server: RedisServer) => Promise<void>,
  ...needs: Capability[]
) => void {
  let server: RedisServer | undefined;
  after(() => server?.[Symbol.asyncDispose]());
  return (promise, body, ...needs) =>
    test(
      `${what}: ${promise}`,
      async () => {
        server ??= await RedisServer.start();
        await body(server);
        await cleanUp(server);
        await assertNothingLeft(server);
      },
      "redis-server",
      ...needs,
    );
}
