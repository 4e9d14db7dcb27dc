/** What locks are called in Redis: keys, channels and entries. */

/** How entries begin: exclusive, shared, or at most so many. */
export type Kind = "x" | "s" | `${number}`;

/** The names that belong to one lock, on one kind of server. */
export interface Names {
  /** What the user calls it. */
  readonly channel: string;
  /** The hash of its holders, and the channel of the sessions that take part. */
  readonly key: string;
  /** The list of those who wait. */
  readonly queue: string;
  /** Where Python's participants are, if they can be. */
  readonly shared: string | undefined;
  /** Whether subscriptions belong to slots, as in a cluster. */
  readonly sharded: boolean;
}

/** What no channel of a user may begin with. */
export const RESERVED = "portalock:";

/** All of a lock has one slot in a cluster, and braces say which. */
const braced = (channel: string) =>
  `{${channel.replace(/[%{}]/g, encodeURIComponent)}}`;

/** The names of a lock, which Python's participants may share. */
export function lockNames(channel: string, sharded: boolean): Names {
  const key = RESERVED + braced(channel);
  const shared = sharded ? undefined : channel;
  return { channel, key, queue: `${key}:queue`, shared, sharded };
}

/** The names of a semaphore. */
export function semaphoreNames(channel: string, sharded: boolean): Names {
  const key = `${RESERVED}semaphore:${braced(channel)}`;
  return { channel, key, queue: `${key}:queue`, shared: undefined, sharded };
}

/** What the channels of sessions begin with; their identifiers follow. */
export function sessionPrefix({ key, sharded }: Names): string {
  return sharded ? `${key}:` : `${RESERVED}session:`;
}

/** What a session calls its connection, so that others can tell it. */
export function clientName(session: string): string {
  return `portalock-${session}`;
}

/** Whose entry it is, and the number of that session's connection. */
export function partsOf(entry: string): { session: string; client: string } {
  const [, session, , client] = entry.split(":");
  return { session, client };
}
