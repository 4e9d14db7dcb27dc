/** The names of locks in Redis: keys, channels and members. */

/** How a member begins: exclusive, shared, or at most that many holders. */
export type LockType = "x" | "s" | `${number}`;

/** The keys and channels of one lock, on one kind of server. */
export interface LockKeys {
  /** The name of the lock, as the caller gave it. */
  readonly channel: string;
  /** How every key and channel of this package begins, on this connection. */
  readonly namespace: string;
  /**
   * The hash from holders to fencing tokens, and the channel to which every
   * connection subscribes that holds the lock or waits for it.
   */
  readonly key: string;
  /** The list of waiters, in order of arrival. */
  readonly queue: string;
  /** The hash from members to what they say about themselves, as JSON. */
  readonly info: string;
  /** The largest fencing token so far. */
  readonly clock: string;
  /** The channel of Python's portalocker, if the lock can be shared with it. */
  readonly shared: string | undefined;
  /** Whether subscriptions belong to slots, as in a cluster. */
  readonly sharded: boolean;
}

/** Where the names of a lock are. */
export interface KeySpace {
  /** What the caller puts before all names. */
  readonly prefix: string;
  /** Whether subscriptions belong to slots, as in a cluster. */
  readonly sharded: boolean;
}

/** How no name of a lock begins, so that it cannot be a key of this package. */
export const RESERVED = "portalock:";

/**
 * How every key and channel of this package begins, after the caller's prefix.
 * The number is the version of the protocol: it changes with every change that
 * a process with an older release would not understand.
 */
const VERSION = `${RESERVED}v1:`;

/** The hash tag that keeps all keys of a lock in one slot of a cluster. */
const hashTag = (channel: string) =>
  `{${channel.replace(/[%{}]/g, encodeURIComponent)}}`;

/** Returns the names of a lock, which Python's portalocker may share. */
export function lockKeys(channel: string, space: KeySpace): LockKeys {
  const shared = space.sharded ? undefined : space.prefix + channel;
  return { ...keysOf(channel, "", space), shared };
}

/** Returns the names of a semaphore. */
export function semaphoreKeys(channel: string, space: KeySpace): LockKeys {
  return { ...keysOf(channel, "semaphore:", space), shared: undefined };
}

function keysOf(
  channel: string,
  kind: string,
  { prefix, sharded }: KeySpace,
): Omit<LockKeys, "shared"> {
  const namespace = prefix + VERSION;
  const key = namespace + kind + hashTag(channel);
  return {
    channel,
    namespace,
    key,
    queue: `${key}:queue`,
    info: `${key}:info`,
    // A cluster does not have a key that the locks of all slots could share.
    clock: sharded ? `${key}:clock` : `${namespace}clock`,
    sharded,
  };
}

/**
 * Returns the prefix of the channels on which connections receive messages
 * about a lock. The identifier of the connection follows.
 */
export function replyChannelPrefix(
  { key, namespace, sharded }: Pick<LockKeys, "key" | "namespace" | "sharded">,
): string {
  return sharded ? `${key}:` : connectionChannel(namespace, "");
}

/** Returns the channel to which one connection subscribes, outside a cluster. */
export function connectionChannel(
  namespace: string,
  connectionId: string,
): string {
  return `${namespace}session:${connectionId}`;
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

/** Reads a member from its name in the records. */
export function parseMember(member: string): Member {
  const [lockType = "", connectionId = "", number = "", clientId = ""] = member
    .split(":");
  return {
    lockType: lockType as LockType,
    connectionId,
    number: Number(number),
    clientId,
  };
}

/** Returns the identifier of an acquisition, as its lease has it. */
export function holderIdOf(
  { connectionId, number }: Pick<Member, "connectionId" | "number">,
): string {
  return `${connectionId}-${number}`;
}
