/** Recognizes clients, and finds the servers that they are connected to. */

import { formatValue } from "../../options/validate.ts";
import { fromClient as fromNodeRedis } from "./node_redis.ts";
import type { NodeRedisArgument } from "./node_redis.ts";
import { hasMethod } from "./types.ts";
import type { RedisSource } from "./types.ts";

export { fromUrl } from "./node_redis.ts";
export type {
  RedisClientLike,
  RedisCluster5Like,
  RedisClusterLike,
  RedisPoolLike,
  RedisSentinelLike,
} from "./node_redis.ts";
export type {
  ConnectionEvents,
  RedisConnection,
  RedisSource,
  Server,
} from "./types.ts";

/** What a Redis lock can be given to find its server. */
export type RedisClientArgument = NodeRedisArgument;

/** Returns the servers of a client, or `undefined` if it is not supported. */
export function fromClient(
  client: RedisClientArgument,
  options: object | undefined,
): RedisSource | undefined {
  return fromNodeRedis(client, options);
}

/** Says what the value is that {@linkcode fromClient} does not support. */
export function describeUnsupported(client: unknown): string {
  // It may be a URL with a password.
  if (typeof client === "string") return "a string: pass a URL as url";
  if (typeof client !== "object" || client === null) return formatValue(client);
  const update = "npm install redis@6";
  const isOld = hasMethod<{ sSubscribe(): unknown }>(client, "sSubscribe");
  if (isOld) return `one of node-redis 4: update it (${update})`;
  return hasMethod<{ duplicate(): unknown }>(client, "duplicate")
    ? `one of node-redis 3 or of another package: use node-redis (${update})`
    : formatValue(client);
}
