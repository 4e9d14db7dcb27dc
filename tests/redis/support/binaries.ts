/** The server programs, free ports, and waiting until a condition holds. */

import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Capability } from "../../support/capabilities.ts";

/** A program that speaks the protocol of Redis. */
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

/** The programs to test with, if they are installed. */
export const SERVERS: ServerProgram[] = [REDIS, VALKEY];

/** The time limit of any action of a server. */
const MAX_WAIT_MS = 60_000;

/** Polls until a condition holds. */
export async function waitUntil(
  condition: () => Promise<boolean>,
  what: () => string,
): Promise<void> {
  const end = Date.now() + MAX_WAIT_MS;
  while (!await condition()) {
    if (Date.now() > end) throw new Error(`timed out waiting for ${what()}`);
    await sleep(10);
  }
}

/**
 * Returns a free port below the range of ephemeral ports. A client that retries
 * to connect to an unused ephemeral port can connect to itself.
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
