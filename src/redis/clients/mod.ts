/** Recognizes clients, and finds the servers that they are connected to. */

import { formatValue } from "../../options/validate.ts";
import { fromBunClient, isBunClient } from "./bun.ts";
import type { BunRedisLike } from "./bun.ts";
import { fromIoredis, isIoredis, isOldIoredis } from "./ioredis.ts";
import type { IoredisClusterLike, IoredisLike } from "./ioredis.ts";
import * as ioredis from "./ioredis.ts";
import * as nodeRedis from "./node_redis.ts";
import type {
  RedisClientLike,
  RedisCluster5Like,
  RedisClusterLike,
  RedisPoolLike,
  RedisSentinelLike,
} from "./node_redis.ts";
import { hasMarks } from "./types.ts";
import type { RedisSource } from "./types.ts";

export { fromUrl } from "./packages.ts";
export type { BunRedisLike } from "./bun.ts";
export type { IoredisClusterLike, IoredisLike } from "./ioredis.ts";
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
export type RedisClientArgument =
  | RedisClientLike
  | RedisPoolLike
  | RedisClusterLike
  | RedisCluster5Like
  | RedisSentinelLike
  | IoredisLike
  | IoredisClusterLike
  | BunRedisLike;

/** What messages say that can be passed. */
const SUPPORTED =
  "a client, a pool, a cluster or sentinels of node-redis 5 or 6, a client or " +
  "a cluster of ioredis 5 or 6, or a RedisClient of Bun";

/**
 * Returns the servers of a client. Each library is recognized by several marks
 * of its own, because a method such as `duplicate` means something different in
 * each of them.
 *
 * @param options The options of node-redis that sentinels need.
 * @throws {TypeError} If the value is not a client that is supported.
 */
export function fromClient(
  client: RedisClientArgument,
  options: object | undefined,
): RedisSource {
  const source = recognize(client, options);
  if (source) return source;
  throw new TypeError(
    `client must be ${SUPPORTED}, not ${describeUnsupported(client)}`,
  );
}

/** Whether a value is a client, of any version and library. */
export function isClient(value: unknown): boolean {
  return typeof value === "object" && value !== null &&
    (nodeRedis.isNodeRedis(value) || isIoredis(value) || isBunClient(value));
}

function recognize(
  client: unknown,
  options: object | undefined,
): RedisSource | undefined {
  if (typeof client !== "object" || client === null) return undefined;
  const found = nodeRedis.fromClient(client, options);
  if (found) return found;
  let source: RedisSource | undefined;
  if (isIoredis(client) && !isOldIoredis(client)) source = fromIoredis(client);
  else if (isBunClient(client)) source = fromBunClient(client);
  if (source && options !== undefined) nodeRedis.rejectOptions();
  return source;
}

/** The options that people pass in the place of a client. */
const CONNECTION_OPTIONS = [
  "host",
  "path",
  "port",
  "sentinels",
  "socket",
  "url",
];

/**
 * Says what the value is that {@linkcode fromClient} does not support, and what
 * to do.
 */
function describeUnsupported(client: unknown): string {
  // It may be a URL with a password.
  if (typeof client === "string") return "a string: pass a URL as url";
  if (typeof client === "function") {
    return "a function: pass the client that it creates";
  }
  if (typeof client !== "object" || client === null) return formatValue(client);
  if (client instanceof URL) return "a URL: pass its href as url";
  const has = (...methods: string[]) => hasMarks(client, { methods });
  if (has("then")) return "a promise: await it";
  if (isIoredis(client)) {
    return `one of ioredis 4 or older: update it (${ioredis.INSTALL})`;
  }
  if (has("sSubscribe")) {
    return `one of node-redis 4: update it (${nodeRedis.INSTALL})`;
  }
  if (has("send_command", "duplicate")) {
    return `one of node-redis 3 or older: update it (${nodeRedis.INSTALL})`;
  }
  if (has("customCommand", "updateConnectionPassword")) {
    return `one of valkey-glide: pass one of another package (${nodeRedis.INSTALL})`;
  }
  if (CONNECTION_OPTIONS.some((name) => Object.hasOwn(client, name))) {
    return "the options of one: pass them as clientOptions, or a URL as url";
  }
  return `${formatValue(client)}: pass one of these, or a URL as url`;
}
