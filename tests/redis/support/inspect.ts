/** What tests see of sessions and locks by asking the server. */

import assert from "node:assert/strict";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { RedisLock, RedisSemaphore } from "../../../src/redis/mod.ts";
import type { RedisLease, RedisLockOptions } from "../../../src/redis/mod.ts";
import { scriptOn, test, Worker } from "../../support/harness.ts";
import type { Capability, TestRuntime } from "../../support/harness.ts";
import { until } from "./binaries.ts";
import { RedisServer } from "./server.ts";

/** A connection as `CLIENT LIST` shows it. */
export type Client = Record<string, string>;

/** All connections but the one that asks; the server turns its list around. */
export async function clients(server: RedisServer): Promise<Client[]> {
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
export async function sessions(server: RedisServer): Promise<Client[]> {
  return (await clients(server)).filter(({ name }) =>
    /^portalock-[0-9a-f]{32}$/.test(name)
  );
}

/** The number of the connection through which a lease is held. */
export async function sessionOf(
  server: RedisServer,
  lease: RedisLease,
): Promise<string> {
  const [id] = lease.holderId.split("-");
  const all = await sessions(server);
  return all.find(({ name }) => name === `portalock-${id}`)!.id;
}

/** Ends the connections of all sessions. */
export async function killSessions(server: RedisServer): Promise<void> {
  for (const { id } of await sessions(server)) {
    await server.command("CLIENT", "KILL", "ID", id);
  }
}

/** How many hold a lock, as its record says. */
export async function holders(
  server: RedisServer,
  channel: string,
): Promise<number> {
  return Number(await server.command("HLEN", `portalock:{${channel}}`));
}

/** Waits until so many wait for a lock. */
export function waiting(
  server: RedisServer,
  channel: string,
  count: number,
): Promise<void> {
  return until(
    async () =>
      await server.command("LLEN", `portalock:{${channel}}:queue`) === count,
    () => `${count} who wait for ${channel}`,
  );
}

/** Waits until a server has no session any more. */
export function noSessions(server: RedisServer): Promise<void> {
  return until(
    async () => (await sessions(server)).length === 0,
    () => "the end of all sessions",
  );
}

/** Keys, and channels somebody is subscribed to; sessions' own are fine. */
export async function left(server: RedisServer): Promise<unknown[]> {
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
  return assertNone(() => left(server));
}

/** Nothing is there, or soon will be. */
export async function assertNone(
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
export async function meetTheDead(server: RedisServer): Promise<void> {
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
export function alone(
  server: RedisServer,
  options: RedisLockOptions = {},
): RedisLockOptions {
  return { url: server.url, clientOptions: {}, ...options };
}

/** A process that locks what it is told to. */
export function workerOn(runtime: TestRuntime): Worker {
  return new Worker(scriptOn(runtime, "redis_worker"));
}

/** The reason of a signal, once it is aborted. */
export async function aborted(signal: AbortSignal): Promise<unknown> {
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
export function suiteOf(
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
