/** What locks are called in Redis: keys, channels and entries. */

/** How entries begin: exclusive, shared, or at most so many. */
export type LockType = "x" | "s" | `${number}`;

/** The names that belong to one lock, on one kind of server. */
export interface LockKeys {
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
const hashTag = (channel: string) =>
  `{${channel.replace(/[%{}]/g, encodeURIComponent)}}`;

/** The names of a lock, which Python's participants may share. */
export function lockKeys(channel: string, sharded: boolean): LockKeys {
  const key = RESERVED + hashTag(channel);
  const shared = sharded ? undefined : channel;
  return { channel, key, queue: `${key}:queue`, shared, sharded };
}

/** The names of a semaphore. */
export function semaphoreKeys(channel: string, sharded: boolean): LockKeys {
  const key = `${RESERVED}semaphore:${hashTag(channel)}`;
  return { channel, key, queue: `${key}:queue`, shared: undefined, sharded };
}

/** What the channels of sessions begin with; their identifiers follow. */
export function replyChannelPrefix({ key, sharded }: LockKeys): string {
  return sharded ? `${key}:` : `${RESERVED}session:`;
}

/** What a session calls its connection, so that others can tell it. */
export function clientName(connectionId: string): string {
  return `portalock-${connectionId}`;
}

/** Whose entry it is, and the number of that session's connection. */
export function parseMember(
  member: string,
): { connectionId: string; client: string } {
  const [, connectionId, , client] = member.split(":");
  return { connectionId, client };
}
