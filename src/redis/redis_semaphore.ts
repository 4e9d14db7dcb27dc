/** `RedisSemaphore`: a lock that several holders can have at a time. */

import { atEdge } from "../core/stack.ts";
import { checkMaximum } from "../options/validate.ts";
import { checkChannel, resolveRedisOptions } from "./options.ts";
import type { RedisSemaphoreOptions } from "./options.ts";
import { semaphoreKeys } from "./protocol/keys.ts";
import { RedisLockBase } from "./redis_lock_base.ts";

/**
 * A lock that at most `maximum` holders can have at a time, among all processes
 * that use the same Redis server. All processes should pass the same
 * `maximum`, because each compares the number of holders with its own.
 *
 * A semaphore and a {@linkcode RedisLock} with the same name are independent.
 * Python's portalocker cannot share a semaphore.
 *
 * One object can hold several places: each `acquire` returns another lease, and
 * `release` releases the latest.
 *
 * @example Limit the number of downloads
 * ```ts
 * import { RedisSemaphore } from "jsr:@x/portalock/redis";
 *
 * const downloads = new RedisSemaphore("downloads", 4, {
 *   url: "redis://localhost",
 * });
 * await downloads.run(async ({ signal }) => {
 *   // At most four holders exist, on all machines together.
 * });
 * ```
 */
export class RedisSemaphore extends RedisLockBase {
  /** The largest number of holders. */
  readonly maximum: number;

  /**
   * Creates a semaphore, without connecting to the server.
   *
   * @param channel The name of the semaphore.
   * @param maximum The largest number of holders.
   * @param options The server, and how to wait.
   * @throws {TypeError} If an option is unknown or has a wrong type.
   * @throws {RangeError} If `maximum` or an option has a value that is not
   * allowed.
   */
  constructor(
    channel: string,
    maximum: number,
    options?: RedisSemaphoreOptions,
  ) {
    const { keys, settings } = atEdge(RedisSemaphore, () => {
      checkMaximum(maximum);
      const settings = resolveRedisOptions(options);
      const { space } = settings;
      const keys = semaphoreKeys(checkChannel(channel, space), space);
      return { keys, settings };
    });
    super(keys, `${maximum}`, settings);
    this.maximum = maximum;
  }
}
