/** Acquires a lock in Redis. */

import type { RemoteHolder } from "../../core/errors.ts";
import { RedisLock, RedisSemaphore } from "../../redis/mod.ts";
import { errorCode } from "../../../ffi/types.ts";
import type { HeldLock } from "../types.ts";
import type { Invocation, RedisSettings } from "../grammar/options.ts";
import { REPORT_AFTER_MS } from "./report_wait.ts";

/** The variable that contains the fencing token of an exclusive lock. */
const FENCING_TOKEN = "PORTALOCK_FENCING_TOKEN";

/**
 * Acquires a lock or a semaphore in Redis.
 *
 * @param onState If the wait is reported, gets the report says: what holds the
 * lock, or why the server cannot be reached.
 */
export async function acquireFromRedis(
  name: string,
  { kind, lockClass, redis }: Invocation & { readonly redis: RedisSettings },
  wait: { timeout: number; failWhenLocked: boolean; signal: AbortSignal },
  onState: ((text: string) => void) | undefined,
): Promise<HeldLock> {
  const { url, info } = redis;
  let isContended = false;
  const options = {
    ...wait,
    url,
    ...info === undefined ? {} : { info },
    onWait: ({ holders }: { holders: RemoteHolder[] }) => {
      isContended = true;
      onState?.(`locked${describeRemote(holders)}`);
    },
  };
  const isSemaphore = typeof lockClass === "object";
  const lock = isSemaphore
    ? new RedisSemaphore(name, lockClass.maximum, options)
    : new RedisLock(name, { ...options, shared: kind === "shared" });
  // While it retries, the library does not say why.
  const timer = onState && setInterval(async () => {
    const state = await lock.probe().then(() => "", describe);
    if (isContended) clearInterval(timer);
    else onState(state);
  }, REPORT_AFTER_MS / 2);
  const describe = (error: unknown) => describeTrouble(url, error);
  try {
    const lease = await lock.acquire();
    const isExclusive = !isSemaphore && kind === "exclusive";
    return {
      fd: null,
      signal: lease.signal,
      environment: {
        // Not that of another lock, around this one.
        [FENCING_TOKEN]: isExclusive ? String(lease.fencingToken) : undefined,
      },
      release: () => lease.release(),
    };
  } finally {
    clearInterval(timer);
  }
}

function describeRemote([first, ...others]: RemoteHolder[]): string {
  if (first === undefined) return "";
  const { holderId, info } = first;
  const known = info === undefined ? holderId : JSON.stringify(info);
  return ` by ${known}${others.length > 0 ? ` and ${others.length} more` : ""}`;
}

/** The URL may contain a password. */
function describeTrouble(url: string, error: unknown): string {
  const { protocol, host } = new URL(url);
  return `cannot reach ${protocol}//${host} (${errorCode(error)}), retrying`;
}
