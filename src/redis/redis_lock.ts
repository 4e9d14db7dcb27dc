/** `RedisLock`: a lock that is held as long as a connection lives. */

import { atEdge } from "../core/stack.ts";
import { FifoMutex } from "../wait/fifo_mutex.ts";
import { checkChannel, resolveRedisLockOptions } from "./options.ts";
import type { RedisLockOptions } from "./options.ts";
import { lockKeys } from "./protocol/keys.ts";
import { RedisLockBase } from "./redis_lock_base.ts";

/**
 * A lock among all processes that use the same Redis or Valkey server,
 * sentinels or cluster. Python's portalocker can share it.
 *
 * The lock is held as long as the connection of its holder lives. It does not
 * have a time to live, which a slow holder could exceed, and which a dead
 * holder would leave to other processes. When the process dies, the server
 * releases the lock. When the connection is lost, the `signal` of the lease
 * aborts. `docs/redis.md` says what a lock in Redis cannot guarantee.
 *
 * Tasks can share one object, which is also a mutex among them.
 *
 * @example Run a function while the lock is held
 * ```ts
 * import { RedisLock } from "jsr:@x/portalock/redis";
 *
 * const lock = new RedisLock("nightly-report", { url: "redis://localhost" });
 * await lock.run(async ({ signal, fencingToken }) => {
 *   // No other holder exists, on any machine, until signal aborts.
 *   console.log(`writing as ${fencingToken}`, signal.aborted);
 * });
 * ```
 */
export class RedisLock extends RedisLockBase {
  /**
   * Creates a lock, without connecting to the server.
   *
   * @param channel The name of the lock.
   * @param options The server, the type of the lock, and how to wait.
   * @throws {TypeError} If an option is unknown or has a wrong type.
   * @throws {RangeError} If an option has a value that is not allowed.
   */
  constructor(channel: string, options?: RedisLockOptions) {
    const { keys, settings } = atEdge(RedisLock, () => {
      const settings = resolveRedisLockOptions(options);
      const { space } = settings;
      const keys = lockKeys(checkChannel(channel, space), space);
      return { keys, settings };
    });
    super(keys, settings.exclusive ? "x" : "s", settings, new FifoMutex());
  }
}
