/**
 * Events for those who observe a program, by `node:diagnostics_channel`; free
 * while nobody does. The README documents the names of the channels.
 */

import { channel } from "node:diagnostics_channel";
import type { ErrorSubject } from "./errors.ts";

/** What the events tell. */
export interface LockEvent extends ErrorSubject {
  /** The channel of a lock in Redis, which has no path. */
  readonly channel?: string;
  /** Whether the lock excludes every other. */
  readonly exclusive?: boolean;
  /** Milliseconds from the call to the lock. */
  readonly waited?: number;
  /** Milliseconds from the lock to its release. */
  readonly held?: number;
}

const channels = {
  wait: channel("portalock:wait"),
  acquire: channel("portalock:acquire"),
  release: channel("portalock:release"),
};

/** Whether anybody wants to know. */
export function hasSubscribers(name: keyof typeof channels): boolean {
  return channels[name].hasSubscribers;
}

/** Publishes an event, which is only made if somebody listens. */
export function publish(
  name: keyof typeof channels,
  event: () => LockEvent,
): void {
  if (hasSubscribers(name)) channels[name].publish(event());
}
