/** Observes when tasks and processes wait for locks. */

import { spawnSync } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { setTimeout as delay } from "node:timers/promises";
import { hasCapability } from "./capabilities.ts";
import type { LockProcess } from "./processes.ts";
import { deferred } from "./values.ts";

/** The time to wait for a blocked process without `/proc/locks`. */
const BLOCKED_AFTER_MS = 300;

/**
 * The timeout of a wait that must end with `AlreadyLocked`. A file may be
 * opened in another thread, which must be over before the timeout also on a
 * machine that is busy.
 */
export const SHORT_WAIT_MS = 400;

/** Counts the waits that begin in this process, until it is disposed. */
export interface WaitObserver extends Disposable {
  /** Resolves when `count` waits have begun since the observer exists. */
  begun(count?: number): Promise<void>;
}

/**
 * Listens to `portalock:wait`. When {@linkcode WaitObserver.begun} resolves,
 * an asynchronous waiter is already queued or asleep: between the event and
 * its sleep it does not return to the event loop.
 */
export function observeWaits(): WaitObserver {
  let waits = 0;
  let changed = deferred();
  const listen = () => {
    waits++;
    changed.resolve();
    changed = deferred();
  };
  subscribe("portalock:wait", listen);
  return {
    async begun(count = 1) {
      while (waits < count) await changed.promise;
    },
    [Symbol.dispose]() {
      unsubscribe("portalock:wait", listen);
    },
  };
}

/**
 * Waits until the kernel blocks a process that waits for flock(2) or for a
 * POSIX record lock, according to `/proc/locks` (proc(5)). On other systems it
 * waits for 300 ms.
 */
export async function waitUntilBlocked(
  { process: { pid } }: LockProcess,
): Promise<void> {
  if (!hasCapability("/proc")) return await delay(BLOCKED_AFTER_MS);
  const blocked = new RegExp(`^\\d+: -> +\\w+ +\\w+ +\\w+ ${pid} `, "m");
  // cat(1) reads /proc, because Deno requires all permissions for it.
  const locks = () =>
    spawnSync("cat", ["/proc/locks"], { encoding: "utf8" }).stdout;
  while (!blocked.test(locks())) await delay(5);
}
