/** The programs that serve as Redis, and what starting them takes. */

import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Capability } from "../../support/capabilities.ts";

/** A program that serves as Redis does. */
export interface ServerProgram {
  name: string;
  command: string;
  needs: Capability;
}

export const REDIS: ServerProgram = {
  name: "Redis",
  command: "redis-server",
  needs: "redis-server",
};
const VALKEY: ServerProgram = {
  name: "Valkey",
  command: "valkey-server",
  needs: "valkey-server",
};

/** What locks are tried with, where it is installed. */
export const SERVERS: ServerProgram[] = [REDIS, VALKEY];

/** Milliseconds in which anything that a server does has to happen. */
const MAX_WAIT_MS = 60_000;

/** Looks again and again until something has come true. */
export async function waitUntil(
  condition: () => Promise<boolean>,
  what: () => string,
): Promise<void> {
  const end = Date.now() + MAX_WAIT_MS;
  while (!await condition()) {
    if (Date.now() > end) throw new Error(`in vain waited for ${what()}`);
    await sleep(10);
  }
}

/**
 * A free port below those that the system gives to clients: one that connects
 * again and again to such a port while nobody listens can meet itself.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}
