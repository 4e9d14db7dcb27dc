/**
 * Publishes events on channels of `node:diagnostics_channel`, for tools that
 * observe a program. The README lists the channels. If a channel does not have
 * subscribers, an event costs one property access.
 *
 * @module
 */

import { type Channel, channel } from "node:diagnostics_channel";
import type { ErrorSubject } from "./errors.ts";

/** The message of an event. */
export interface LockEvent extends ErrorSubject {
  /** The name of a lock in Redis, which does not have a path. */
  readonly channel?: string;
  /** Whether the lock is exclusive. */
  readonly exclusive?: boolean;
  /** Milliseconds from the call of `acquire()` to the lock. */
  readonly waited?: number;
  /** Milliseconds from the lock to its release. */
  readonly held?: number | undefined;
}

const channels: Record<"wait" | "acquire" | "release", Channel> = {
  wait: channel("portalock:wait"),
  acquire: channel("portalock:acquire"),
  release: channel("portalock:release"),
};

/** Returns whether a channel has subscribers. */
export function hasSubscribers(name: keyof typeof channels): boolean {
  return channels[name].hasSubscribers;
}

/** Publishes an event. Calls `event` only if the channel has subscribers. */
export function publish(
  name: keyof typeof channels,
  event: () => LockEvent,
): void {
  if (hasSubscribers(name)) channels[name].publish(event());
}
