/** What a crowd of locks in Redis costs the server, and whether it stays. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "../types.ts";
import { start } from "./child_process.ts";
import { serverInfo } from "./redis_server.ts";

const TIMEOUT_MS = 300_000;

/** Keeps the opening of the crowd out of the figures. */
const SETTLE_MS = 2000;

/** A crowd, as `children/redis_crowd.mjs` has it. */
export type Role = "waiters" | "readers" | "semaphore" | "held";

/** What the server did, per second. */
export interface ServerRates {
  readonly scripts: number;
  readonly messages: number;
  /** Percent of a processor, user and system. */
  readonly processor: number;
}

/** What a crowd did meanwhile. */
export interface Crowd extends ServerRates {
  /** The longest time without a turn of the event loop, in milliseconds. */
  readonly stall: number;
  /** The number of leases that were lost. */
  readonly lost: number;
}

/**
 * Opens a crowd, and measures the server for some seconds.
 *
 * @param path The URL of the server, and the name of the lock.
 * @param whenReady Runs when the crowd holds and waits, before the measurement.
 */
export async function measureCrowd(
  command: Command,
  path: string,
  [role, count]: readonly [Role, number],
  seconds: number,
  whenReady: () => unknown = () => {},
): Promise<Crowd> {
  const child = start(command, ["redis_crowd", path, role, count], TIMEOUT_MS);
  try {
    await child.receive();
    await whenReady();
    const rates = await measureServer(path, seconds);
    child.send("end");
    const { stall, lost } = await child.receive() as Crowd;
    return { ...rates, stall, lost };
  } finally {
    child.kill();
  }
}

async function measureServer(
  path: string,
  seconds: number,
): Promise<ServerRates> {
  await sleep(SETTLE_MS);
  const before = await counters(path);
  await sleep(seconds * 1000);
  const after = await counters(path);
  const perSecond = (name: keyof typeof before) =>
    (after[name] - before[name]) / (after.time - before.time) * 1000;
  return {
    scripts: perSecond("scripts"),
    messages: perSecond("messages"),
    processor: 100 * perSecond("processor"),
  };
}

async function counters(path: string) {
  const info = await serverInfo(path);
  const calls = (...names: string[]) =>
    names.reduce((sum, name) => {
      const text = info[`cmdstat_${name}`] ?? "";
      return sum + Number(/calls=(\d+)/.exec(text)?.[1] ?? 0);
    }, 0);
  return {
    time: performance.now(),
    scripts: calls("evalsha", "eval"),
    messages: calls("publish", "spublish"),
    processor: Number(info["used_cpu_user"]) + Number(info["used_cpu_sys"]),
  };
}
