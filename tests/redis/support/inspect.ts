/** What tests see of sessions and locks by asking the server. */

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
export type ClientInfo = Record<string, string>;

/** All connections but the one that asks; the server turns its list around. */
export async function listClients(server: RedisServer): Promise<ClientInfo[]> {
  const list = String(await server.command("CLIENT", "LIST"));
  return list.trim().split("\n")
    .map((line) =>
      Object.fromEntries(
        [...line.matchAll(/(\S+?)=(\S*)/g)].map(([, k, v]) => [k, v]),
      )
    )
    .filter(({ cmd }) => cmd !== "client|list")
    .sort((a, b) => Number(a.id) - Number(b.id));
}

/** The connections of sessions. */
export async function lockConnections(
  server: RedisServer,
): Promise<ClientInfo[]> {
  return (await listClients(server)).filter(({ name }) =>
    /^portalock-[0-9a-f]{32}$/.test(name)
  );
}

/** The number of the connection through which a lease is held. */
export async function connectionIdOf(
  server: RedisServer,
  lease: RedisLease,
): Promise<string> {
  const [id] = lease.holderId.split("-");
  const all = await lockConnections(server);
  return all.find(({ name }) => name === `portalock-${id}`)!.id;
}

/** Ends the connections of all sessions. */
export async function killLockConnections(server: RedisServer): Promise<void> {
  for (const { id } of await lockConnections(server)) {
    await server.command("CLIENT", "KILL", "ID", id);
  }
}

/** How many hold a lock, as its record says. */
export async function holderCount(
  server: RedisServer,
  channel: string,
): Promise<number> {
  return Number(await server.command("HLEN", `portalock:{${channel}}`));
}

/** Waits until so many wait for a lock. */
export function waitForQueueLength(
  server: RedisServer,
  channel: string,
  count: number,
): Promise<void> {
  return waitUntil(
    async () =>
      await server.command("LLEN", `portalock:{${channel}}:queue`) === count,
    () => `${count} who wait for ${channel}`,
  );
}

/** Waits until a server has no session any more. */
export function waitForNoConnections(server: RedisServer): Promise<void> {
  return waitUntil(
    async () => (await lockConnections(server)).length === 0,
    () => "the end of all sessions",
  );
}

/** Keys, and channels somebody is subscribed to; sessions' own are fine. */
export async function remainingNames(server: RedisServer): Promise<unknown[]> {
  const keys = await server.command("KEYS", "*") as unknown[];
  const channels = await server.command("PUBSUB", "CHANNELS") as unknown[];
  return [...keys, ...channels].filter((name) =>
    !/^(portalock:session:[0-9a-f]{32}$|__sentinel__)/.test(String(name))
  );
}

/**
 * Nothing is left of any lock. Who gave up while an answer was under way tidies
 * up once it is there.
 */
export function assertNothingLeft(server: RedisServer): Promise<void> {
  return assertEventuallyEmpty(() => remainingNames(server));
}

/** Nothing is there, or soon will be. */
export async function assertEventuallyEmpty(
  look: () => Promise<unknown[]>,
): Promise<void> {
  const end = performance.now() + 10_000;
  let found = await look();
  while (found.length > 0 && performance.now() < end) {
    await sleep(10);
    found = await look();
  }
  assert.deepEqual(found, []);
}

/** What the dead had is removed by whoever meets it. */
export async function removeDeadHolders(server: RedisServer): Promise<void> {
  for (const key of await server.command("KEYS", "portalock:*") as string[]) {
    const [, semaphore, channel] =
      /^portalock:(semaphore:)?\{(.*)\}$/.exec(key) ?? [];
    if (channel === undefined) continue;
    // Or Wine's server, which may keep a connection, would take too long.
    const options = { url: server.url, unavailableTimeout: 500 };
    const lock = semaphore
      ? new RedisSemaphore(channel, 1, options)
      : new RedisLock(channel, options);
    await lock.run(() => {});
  }
}

/** Options that nobody shares a session with. */
export function unsharedOptions(
  server: RedisServer,
  options: RedisLockOptions = {},
): RedisLockOptions {
  return { url: server.url, clientOptions: {}, ...options };
}

/** A process that locks what it is told to. */
export function startRedisProcess(runtime: TestRuntime): LockProcess {
  return new LockProcess(fixtureCommand(runtime, "redis_lock_process"));
}

/** The reason of a signal, once it is aborted. */
export async function abortReason(signal: AbortSignal): Promise<unknown> {
  if (!signal.aborted) {
    await new Promise((resolve) =>
      signal.addEventListener("abort", resolve, { once: true })
    );
  }
  return signal.reason;
}

/**
 * Tests with a server that they may use, and must leave as it was, once
 * `tidied` has put away what they may leave.
 */
export function redisSuite(
  what: string,
  tidied: (server: RedisServer) => Promise<void> = () => Promise.resolve(),
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
        await tidied(server);
        await assertNothingLeft(server);
      },
      "redis-server",
      ...needs,
    );
}
