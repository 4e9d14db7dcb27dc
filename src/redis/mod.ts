/**
 * Locks and semaphores in Redis, which are held as long as a connection lives.
 * Python's portalocker can share the locks. Requires node-redis, the package
 * `redis`.
 *
 * @example Acquire a lock
 * ```ts
 * import { RedisLock } from "jsr:@x/portalock/redis";
 *
 * await using lease = await new RedisLock("jobs").acquire();
 * ```
 *
 * @module
 */

export { LockLostError } from "../core/errors.ts";
export type { RemoteHolder } from "../core/errors.ts";
export type { RedisAcquireOptions, RedisLockOptions } from "./options.ts";
export type {
  RedisHolder,
  RedisPeer,
  RedisProbe,
  RedisPythonClient,
  RedisWaiter,
} from "./participants.ts";
export type {
  LastingRedisWait,
  RedisConnectionOptions,
  RedisSemaphoreOptions,
  TransferOptions,
} from "./options.ts";
export { lockAll, RedisLeases } from "./lock_all.ts";
export { RedisLease } from "./redis_lease.ts";
export { RedisLock } from "./redis_lock.ts";
export { RedisLockBase } from "./redis_lock_base.ts";
export { RedisSemaphore } from "./redis_semaphore.ts";
export type {
  BunRedisLike,
  IoredisClusterLike,
  IoredisLike,
  RedisClientArgument,
  RedisClientLike,
  RedisCluster5Like,
  RedisClusterLike,
  RedisPoolLike,
  RedisSentinelLike,
} from "./clients/mod.ts";
