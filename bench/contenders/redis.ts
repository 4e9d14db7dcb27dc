/** Who takes part in the scenarios with Redis; see `contenders.mjs`. */

import { join } from "node:path";
import { newerPortalocker } from "../scripts/debian.mjs";
import { root } from "../scripts/setup.mjs";
import {
  nodeCommand,
  ourRedisCommand,
  prefixed,
  pythonCommand,
  RUNTIMES,
} from "./commands.mjs";
import { npmPeer } from "./peers.mjs";
import { NO_SERVER, redisVersion } from "./redis_server.mjs";

const SCENARIOS = ["redis-uncontended", "redis-handover"];

/** For those whose locks live as long as their connection. */
const WITH_KILLED = [...SCENARIOS, "redis-killed"];

export function inRedis() {
  return [
    ...Object.keys(RUNTIMES).map(ours),
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
  ].map((contender) => ({ scenarios: SCENARIOS, ...contender })).map(lacking);
}

function ours(runtime) {
  const label = runtime === "node" ? "Node" : RUNTIMES[runtime];
  return {
    name: `redis-${runtime}`,
    label: `RedisLock, ${label}`,
    ours: true,
    scenarios: WITH_KILLED,
    kind: "redis",
    withoutFfi: false,
    find: () => ourRedisCommand(runtime, "lockers/portalock_redis"),
    lacks: `${runtime} is not installed`,
  };
}

/** Those who wait for a lock ask again and again. */
function npm(name, label, period) {
  const peers = [name, "ioredis"];
  const versions = peers.map(npmPeer);
  const driver = `lockers/${name.replace("-", "_")}`;
  return {
    name,
    label: `${label} ${versions[0] ?? ""}`.trimEnd() + ", Node",
    period,
    find: () =>
      versions.includes(undefined) ? undefined : nodeCommand(driver, "async"),
    lacks: `${peers.join(" or ")} did not install`,
  };
}

function python(locker, label, period) {
  const name = locker.startsWith("redis-") ? locker : `redis-${locker}`;
  return {
    name,
    label: `${label}, Python`,
    period,
    find: () => pythonCommand("portalocker, redis", name),
    lacks: "no python3 here can import portalocker and redis",
  };
}

/** With the versions that the tests use, too. */
function newerPython(...args) {
  const contender = python(...args);
  return {
    ...contender,
    find() {
      const folder = newerPortalocker(join(root, "build", "python"));
      if (folder === null) return undefined;
      const command = pythonCommand("json", contender.name);
      return command && prefixed("env", `PYTHONPATH=${folder}`, ...command);
    },
    lacks: "pip cannot install it",
  };
}

/** Without a server nobody has anything to do. */
function lacking(contender) {
  if (redisVersion() !== undefined) return contender;
  return { ...contender, find: () => undefined, lacks: NO_SERVER };
}
