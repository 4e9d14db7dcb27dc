/** The contenders of the scenarios with Redis; see `mod.ts`. */

import { join } from "node:path";
import { newerPortalocker } from "../../scripts/setup/debian.ts";
import { root } from "../../scripts/setup/mod.ts";
import { NO_SERVER, redisVersion } from "../runner/redis_server.ts";
import type { Command, ContenderDefinition } from "../types.ts";
import {
  nodeCommand,
  ourModuleCommand,
  pythonCommand,
  RUNTIME_NAMES,
  RUNTIMES,
  single,
} from "./commands.ts";
import type { RuntimeName } from "./commands.ts";
import { npmPeer } from "./peers.ts";

const SCENARIOS = ["redis-uncontended", "redis-handover"];

/** For locks that live as long as their connection. */
const WITH_KILLED = [...SCENARIOS, "redis-killed"];

const MANY = ["redis-throughput", "redis-waiters"] as const;

/** For each client that this package supports, on one of its runtimes. */
const EACH_CLIENT = [...MANY, "redis-idle", "redis-held"];

export function redisContenders(): ContenderDefinition[] {
  return [
    ...RUNTIME_NAMES.map((runtime) => ours(runtime)),
    ours("node26", "ioredis"),
    ours("node26", "ioredis-5"),
    ours("bun", "bun-redis"),
    scripts("node26"),
    scripts("node26", "ioredis"),
    scripts("bun", "bun-redis"),
    npm("redlock", "redlock", 200, MANY),
    npm("redis-semaphore", "redis-semaphore", 10, [...MANY, "redis-idle"]),
    newerPython("redis-py", "redis-py Lock", 100),
    {
      ...newerPython("portalocker", "portalocker 4.4 RedisLock", 250),
      scenarios: WITH_KILLED,
    },
    newerPython("portalocker-quick", "portalocker 4.4 RedisLock, quick", 20),
    {
      ...python("portalocker-2", "portalocker 2.2 RedisLock", 250),
      scenarios: WITH_KILLED,
    },
  ].map(skipWithoutServer);
}

/** The labels of clients other than node-redis. */
const CLIENTS = {
  "ioredis": "ioredis 6",
  "ioredis-5": "ioredis 5",
  "bun-redis": "Bun's client",
} as const;

/** This package over node-redis, which every runtime has, or another client. */
function ours(
  runtime: RuntimeName,
  client?: keyof typeof CLIENTS,
): ContenderDefinition {
  const label = runtime === "node" ? "Node" : RUNTIMES[runtime];
  const locker = `portalock_${(client ?? "redis").replace("-", "_")}`;
  const driver = { driver: `lockers/${locker}`, kind: "async" };
  // What the server and one client do does not depend on the runtime.
  const each = client !== undefined || runtime === "node26";
  const scenarios = client === undefined ? WITH_KILLED : SCENARIOS;
  return {
    name: `redis-${client ?? runtime}`,
    label: `RedisLock, ${label}` + (client ? `, ${CLIENTS[client]}` : ""),
    ours: true,
    scenarios: each ? [...scenarios, ...EACH_CLIENT] : [...scenarios, MANY[0]],
    kind: "redis",
    withoutFfi: false,
    find: () => single(ourModuleCommand(runtime, ["src", "redis"], driver)),
    missing: `${runtime} is not installed`,
  };
}

/** What the locks of this package over a client cannot be faster than. */
function scripts(
  runtime: RuntimeName,
  client?: keyof typeof CLIENTS,
): ContenderDefinition {
  const name = ["redis-scripts", client].filter(Boolean).join("-");
  const locker = `lockers/${name.replaceAll("-", "_")}`;
  const driver = { driver: locker, kind: "async" };
  const folders = ["src", "redis", "protocol"];
  return {
    name,
    label: `Two bare EVALSHAs, ${RUNTIMES[runtime]}` +
      (client ? `, ${CLIENTS[client]}` : ""),
    scenarios: ["redis-uncontended", "redis-throughput"],
    find: () => single(ourModuleCommand(runtime, folders, driver, "scripts")),
    missing: `${runtime} is not installed`,
  };
}

/** Packages that poll while they wait. */
function npm(
  name: string,
  label: string,
  pollInterval: number,
  more: readonly string[],
): ContenderDefinition {
  const peers = [name, "ioredis"];
  const versions = peers.map(npmPeer);
  const driver = `lockers/${name.replace("-", "_")}`;
  return {
    name,
    label: `${label} ${versions[0] ?? ""}`.trimEnd() + ", Node",
    scenarios: [...SCENARIOS, ...more],
    pollInterval,
    find: () =>
      versions.includes(undefined)
        ? undefined
        : [nodeCommand({ driver, kind: "async" })],
    missing: `npm did not install ${peers.join(" or ")}`,
  };
}

function python(
  locker: string,
  label: string,
  pollInterval: number,
): ContenderDefinition {
  const name = locker.startsWith("redis-") ? locker : `redis-${locker}`;
  return {
    name,
    label: `${label}, Python`,
    scenarios: SCENARIOS,
    pollInterval,
    find: () => single(pythonCommand("portalocker, redis", name)),
    missing: "python3 cannot import portalocker and redis",
  };
}

/** With the versions that the tests use, too. */
function newerPython(
  locker: string,
  label: string,
  pollInterval: number,
): ContenderDefinition {
  const contender = python(locker, label, pollInterval);
  return {
    ...contender,
    find: () => single(newerPythonCommand(contender.name)),
    missing: "pip cannot install it",
  };
}

/** Returns the command of a waiter of Python's portalocker. */
export function pythonWaiter(): Command | undefined {
  return newerPythonCommand("redis-portalocker");
}

function newerPythonCommand(name: string): Command | undefined {
  const folder = newerPortalocker(join(root, "build", "python"));
  const command = folder === null ? undefined : pythonCommand("json", name);
  return command && ["env", `PYTHONPATH=${folder}`, ...command];
}

/** Without a server, contenders with Redis cannot be measured. */
function skipWithoutServer(
  contender: ContenderDefinition,
): ContenderDefinition {
  if (redisVersion() !== undefined) return contender;
  return { ...contender, find: () => undefined, missing: NO_SERVER };
}
