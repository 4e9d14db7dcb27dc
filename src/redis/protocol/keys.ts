/** The names of locks in Redis: keys, channels and members. */

/** How a member begins: exclusive, shared, or at most that many holders. */
export type LockType = "x" | "s" | `${number}`;

/** The keys and channels of one lock, on one kind of server. */
export interface LockKeys {
  /** The name of the lock, as the caller gave it. */
  readonly channel: string;
  /**
   * The hash from holders to fencing tokens, and the channel to which every
   * connection subscribes that holds the lock or waits for it.
   */
  readonly key: string;
  /** The list of waiters, in order of arrival. */
  readonly queue: string;
  /**
   * The largest fencing token that the server has given: one for all locks of a
   * server, or one for each lock in a cluster, where a script has one slot.
   */
  readonly clock: string;
  /** The channel of Python's portalocker, if the lock can be shared with it. */
  readonly shared: string | undefined;
  /** Whether subscriptions belong to slots, as in a cluster. */
  readonly sharded: boolean;
}

/** The names of locks must not begin with this. */
export const RESERVED = "portalock:";

/** The prefix of every key and channel of this version of the protocol. */
export const VERSION = `${RESERVED}v1:`;

/** The hash tag that keeps all keys of a lock in one slot of a cluster. */
const hashTag = (channel: string) =>
  `{${channel.replace(/[%{}]/g, encodeURIComponent)}}`;

/** Returns the names of a lock, which Python's portalocker may share. */
export function lockKeys(channel: string, sharded: boolean): LockKeys {
  const shared = sharded ? undefined : channel;
  return { channel, ...names("", channel, sharded), shared, sharded };
}

/** Returns the names of a semaphore. */
export function semaphoreKeys(channel: string, sharded: boolean): LockKeys {
  const keys = names("semaphore:", channel, sharded);
  return { channel, ...keys, shared: undefined, sharded };
}

function names(
  kind: string,
  channel: string,
  sharded: boolean,
): Pick<LockKeys, "key" | "queue" | "clock"> {
  const key = VERSION + kind + hashTag(channel);
  const clock = `${sharded ? `${key}:` : VERSION}clock`;
  return { key, queue: `${key}:queue`, clock };
}

/**
 * Returns the prefix of the channels on which connections receive messages
 * about a lock. The identifier of the connection follows.
 */
export function replyChannelPrefix({ key, sharded }: LockKeys): string {
  return sharded ? `${key}:` : connectionChannel("");
}

/** Returns the channel to which one connection subscribes, outside a cluster. */
export function connectionChannel(connectionId: string): string {
  return `${VERSION}session:${connectionId}`;
}

/** Returns the name that a connection has in `CLIENT LIST`. */
export function clientName(connectionId: string): string {
  return `portalock-${connectionId}`;
}

/** One acquisition, as the records of the server name it. */
export interface Member {
  readonly lockType: LockType;
  readonly connectionId: string;
  /** The number of the acquisition on its connection. */
  readonly number: number;
  /** The number of the connection on the server, `CLIENT ID`. */
  readonly clientId: string;
}

/** Returns the name of a member in the records. */
export function formatMember(member: Member): string {
  const { lockType, connectionId, number, clientId } = member;
  return `${lockType}:${connectionId}:${number}:${clientId}`;
}

/** Reads the connection of a member from its name in the records. */
export function parseMember(
  member: string,
): Pick<Member, "connectionId" | "clientId"> {
  const [, connectionId = "", , clientId = ""] = member.split(":");
  return { connectionId, clientId };
}
