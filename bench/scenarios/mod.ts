/** All scenarios by name, in the order of the report. See `Scenario`. */

import type { Command, ContenderDefinition, Scenario } from "../types.ts";
import * as contention from "./contention.ts";
import * as crowd from "./crowd.ts";
import * as handover from "./handover.ts";
import * as idle from "./idle.ts";
import * as redisHandover from "./redis_handover.ts";
import * as redisHeld from "./redis_held.ts";
import * as redisIdle from "./redis_idle.ts";
import * as redisKilled from "./redis_killed.ts";
import * as redisThroughput from "./redis_throughput.ts";
import * as redisUncontended from "./redis_uncontended.ts";
import * as redisWaiters from "./redis_waiters.ts";
import * as uncontended from "./uncontended.ts";
import * as update from "./update.ts";

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  uncontended,
  handover,
  contention,
  update,
  crowd,
  idle,
  "redis-uncontended": redisUncontended,
  "redis-throughput": redisThroughput,
  "redis-handover": redisHandover,
  "redis-killed": redisKilled,
  "redis-waiters": redisWaiters,
  "redis-idle": redisIdle,
  "redis-held": redisHeld,
};

/** Tries a command of a contender as its first scenario does. */
export function probe(
  { scenarios: [first = ""] }: ContenderDefinition,
  command: Command,
  folder: string,
): Promise<string> {
  return SCENARIOS[first]?.probe?.(command, folder) ??
    uncontended.probe(command, folder);
}
