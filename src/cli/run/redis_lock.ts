/** Acquires a lock in Redis. */

import type { RemoteHolder } from "../../core/errors.ts";
import { RedisLock, RedisSemaphore } from "../../redis/mod.ts";
import type { HeldLock } from "../types.ts";
import type { Invocation } from "../grammar/options.ts";

/**
 * Acquires a lock or a semaphore in Redis.
 *
 * @param onHolders Gets `" by …"` when the wait is long.
 */
export async function acquireFromRedis(
  name: string,
  { kind, lockClass, redis }: Invocation,
  wait: { timeout: number; failWhenLocked: boolean },
  onHolders: (text: string) => void,
): Promise<HeldLock> {
  const { url, info } = redis!;
  const options = {
    ...wait,
    url,
    ...info === undefined ? {} : { info },
    onWait: ({ holders }: { holders: RemoteHolder[] }) =>
      onHolders(describeRemote(holders)),
  };
  const lock = typeof lockClass === "object"
    ? new RedisSemaphore(name, lockClass.maximum, options)
    : new RedisLock(name, { ...options, shared: kind === "shared" });
  const lease = await lock.acquire();
  return {
    fd: null,
    signal: lease.signal,
    release: () => lease.release(),
  };
}

function describeRemote([first, ...others]: RemoteHolder[]): string {
  if (first === undefined) return "";
  const { holderId, info } = first;
  const known = info === undefined ? holderId : JSON.stringify(info);
  return ` by ${known}${others.length > 0 ? ` and ${others.length} more` : ""}`;
}
