/** `RedisLock`: a lock that lives as long as a connection. */

import { FifoMutex } from "../wait/fifo_mutex.ts";
import { lockKeys } from "./protocol/keys.ts";
import { checkChannel, resolveRedisLockOptions } from "./options.ts";
import type { RedisLockOptions } from "./options.ts";
import { RedisLockBase } from "./redis_lock_base.ts";

/**
 * A lock among all who reach one Redis server, sentinels or a cluster, Valkey
 * likewise. Python's portalocker shares it.
 *
 * It is held as long as a connection lives: no time to live that a slow holder
 * could miss or a dead one leave to others. When the process dies, the server
 * frees the lock; when the connection is lost, the lease's `signal` aborts. What
 * no lock in Redis can promise, and what helps, is in `docs/redis.md`.
 *
 * One object may be shared by many tasks: it is a mutex among them too.
 *
 * @example
 * ```ts
 * import { RedisLock } from "jsr:@x/portalock/redis";
 *
 * const lock = new RedisLock("nightly-report", { url: "redis://localhost" });
 * await lock.run(async ({ signal, fencingToken }) => {
 *   // Nobody else is here, on no machine, until signal aborts.
 *   console.log(`writing as ${fencingToken}`, signal.aborted);
 * });
 * ```
 */
export class RedisLock extends RedisLockBase {
  /**
   * Makes a lock. Nothing is connected yet.
   *
   * @param channel What all who share the lock call it.
   * @param options Where the server is, what to lock and how to wait.
   * @throws {TypeError} If an option is of the wrong type or unknown.
   * @throws {RangeError} If an option has an impossible value.
   */
  constructor(channel: string, options?: RedisLockOptions) {
    const settings = resolveRedisLockOptions(options);
    const names = lockKeys(checkChannel(channel), settings.source.sharded);
    super(names, settings.exclusive ? "x" : "s", settings, new FifoMutex());
  }
}
