/** The contenders of the scenarios with Redis; see `mod.ts`. */

import { join } from "node:path";
import { newerPortalocker } from "../../scripts/setup/debian.ts";
import { root } from "../../scripts/setup/mod.ts";
import { NO_SERVER, redisVersion } from "../runner/redis_server.ts";
import type { ContenderDefinition } from "../types.ts";
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

export function redisContenders(): ContenderDefinition[] {
  return [
    ...RUNTIME_NAMES.map(ours),
    npm("redlock", "redlock", 200),
    npm("redis-semaphore", "redis-semaphore Mutex", 10),
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

function ours(runtime: RuntimeName): ContenderDefinition {
  const label = runtime === "node" ? "Node" : RUNTIMES[runtime];
  const driver = { driver: "lockers/portalock_redis", kind: "async" };
  return {
    name: `redis-${runtime}`,
    label: `RedisLock, ${label}`,
    ours: true,
    scenarios: WITH_KILLED,
    kind: "redis",
    withoutFfi: false,
    find: () => single(ourModuleCommand(runtime, ["src", "redis"], driver)),
    missing: `${runtime} is not installed`,
  };
}

/** Packages that poll while they wait. */
function npm(
  name: string,
  label: string,
  pollInterval: number,
): ContenderDefinition {
  const peers = [name, "ioredis"];
  const versions = peers.map(npmPeer);
  const driver = `lockers/${name.replace("-", "_")}`;
  return {
    name,
    label: `${label} ${versions[0] ?? ""}`.trimEnd() + ", Node",
    scenarios: SCENARIOS,
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
    find() {
      const folder = newerPortalocker(join(root, "build", "python"));
      if (folder === null) return undefined;
      const command = pythonCommand("json", contender.name);
      return command && [["env", `PYTHONPATH=${folder}`, ...command]];
    },
    missing: "pip cannot install it",
  };
}

/** Without a server, contenders with Redis cannot be measured. */
function skipWithoutServer(
  contender: ContenderDefinition,
): ContenderDefinition {
  if (redisVersion() !== undefined) return contender;
  return { ...contender, find: () => undefined, missing: NO_SERVER };
}
