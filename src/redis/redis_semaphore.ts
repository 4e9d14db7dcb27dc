/** `RedisSemaphore`: a lock that so many may hold at a time. */

import { checkMaximum } from "../options/validate.ts";
import { semaphoreKeys } from "./protocol/keys.ts";
import { checkChannel, resolveRedisOptions } from "./options.ts";
import type { RedisSemaphoreOptions } from "./options.ts";
import { RedisLockBase } from "./redis_lock_base.ts";

/**
 * A lock that up to `maximum` may hold at a time, among all who reach one Redis
 * server. Everybody should name the same `maximum`: each comes in while fewer
 * hold than it says. It has nothing to do with a {@linkcode RedisLock} of the
 * same channel, and Python's portalocker has none like it.
 *
 * One object may hold several places: each `acquire` gives a lease of its own,
 * and `release` ends the latest.
 *
 * @example
 * ```ts
 * import { RedisSemaphore } from "jsr:@x/portalock/redis";
 *
 * const downloads = new RedisSemaphore("downloads", 4, {
 *   url: "redis://localhost",
 * });
 * await downloads.run(async ({ signal }) => {
 *   // At most four of us anywhere.
 * });
 * ```
 */
export class RedisSemaphore extends RedisLockBase {
  /** How many may hold it at a time. */
  readonly maximum: number;

  /**
   * Makes a semaphore. Nothing is connected yet.
   *
   * @param channel What all who share the semaphore call it.
   * @param maximum How many may hold it at a time.
   * @param options Where the server is, and how to wait.
   * @throws {TypeError} If an option is of the wrong type or unknown.
   * @throws {RangeError} If an option or `maximum` has an impossible value.
   */
  constructor(
    channel: string,
    maximum: number,
    options?: RedisSemaphoreOptions,
  ) {
    const settings = resolveRedisOptions(options);
    const names = semaphoreKeys(
      checkChannel(channel),
      settings.source.sharded,
    );
    super(names, `${checkMaximum(maximum)}`, settings);
    this.maximum = maximum;
  }
}
