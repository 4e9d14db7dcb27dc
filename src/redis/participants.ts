/** Lists what holds a lock in Redis, and what waits for it. */

import type { RemoteHolder } from "../core/errors.ts";
import type { LockConnection } from "./connection/connection.ts";
import {
  clientName,
  holderIdOf,
  parseMember,
  replyChannelPrefix,
} from "./protocol/keys.ts";
import type { LockKeys, Member } from "./protocol/keys.ts";
import { commandOf, PARTICIPANTS_SCRIPT } from "./protocol/scripts.ts";

/** A connection, as `CLIENT LIST` of the server shows it. */
export interface RedisPeer {
  /**
   * The address of the client, such as `"10.0.0.7:51034"`. `null` if the user
   * must not run `CLIENT LIST`.
   */
  readonly address: string | null;
  /**
   * How long the connection has existed, in milliseconds. The server counts
   * whole seconds. `null` if the user must not run `CLIENT LIST`.
   */
  readonly age: number | null;
}

/** A holder of a lock in Redis, as {@linkcode RedisLockBase.probe} finds it. */
export interface RedisHolder extends RemoteHolder, RedisPeer {
  /** The fencing token of the lease. */
  readonly fencingToken: bigint;
}

/** A waiter for a lock in Redis, as {@linkcode RedisLockBase.probe} finds it. */
export interface RedisWaiter extends RemoteHolder, RedisPeer {
  /** The number of waiters before it. */
  readonly position: number;
}

/** A client of Python's portalocker, which holds a lock or waits for it. */
export interface RedisPythonClient extends RedisPeer {
  /**
   * The identifier that Python's portalocker 4 puts into the name of its
   * connection. `null` for older versions, and if the server does not report it.
   */
  readonly holderId: string | null;
}

/** What holds a lock in Redis, and what waits for it. */
export interface RedisProbe {
  /** The holders, in the order of their fencing tokens: at most 1,000. */
  readonly holders: RedisHolder[];
  /** The waiters, the next one first: at most 1,000. */
  readonly waiters: RedisWaiter[];
  /**
   * Clients of Python's portalocker. The server does not know which of them
   * holds the lock and which waits.
   */
  readonly python: RedisPythonClient[];
}

/** How many members to list. */
interface Limits {
  readonly maxHolders: number;
  readonly maxWaiters: number;
}

/** How many holders, and how many waiters, are listed. */
const MAX_LISTED = 1000;

/** How many holders an error, or `onWait`, may name. */
const MAX_HOLDERS = 100;

/** The reply of {@linkcode PARTICIPANTS_SCRIPT}. */
type Reply = [
  pythonClients: number,
  holders: [member: string, info: string, token: string][],
  waiters: [member: string, info: string, token: string][],
];

async function readParticipants(
  connection: LockConnection,
  keys: LockKeys,
  { maxHolders, maxWaiters }: Limits,
): Promise<Reply> {
  const { key, queue, info, shared = "", sharded } = keys;
  const command = commandOf(PARTICIPANTS_SCRIPT, [key, queue, info], [
    replyChannelPrefix(keys),
    sharded ? "S" : "",
    shared,
    String(maxHolders),
    String(maxWaiters),
  ]);
  return await connection.run(PARTICIPANTS_SCRIPT, command) as Reply;
}

/**
 * Lists the holders of a lock, in one round trip.
 *
 * @returns A hundred at most.
 * @throws The error of the server or of the client.
 */
export async function listHolders(
  connection: LockConnection,
  keys: LockKeys,
): Promise<RemoteHolder[]> {
  const [, holders] = await readParticipants(connection, keys, {
    maxHolders: MAX_HOLDERS,
    maxWaiters: 0,
  });
  return holders.map(([member, info]) => remoteHolder(member, info));
}

/**
 * Lists what holds a lock and what waits for it, in two round trips.
 *
 * The script blocks the server for some 10 ms if it lists 1,000 of each.
 * `CLIENT LIST` gets the numbers of these connections. Only if clients of Python
 * are subscribed, it lists all connections that are subscribed to anything.
 *
 * The first one lists the members, and the second one their connections, which
 * may have ended meanwhile: `address` and `age` are `null` then, too.
 *
 * @throws The error of the server or of the client.
 */
export async function probeLock(
  connection: LockConnection,
  keys: LockKeys,
): Promise<RedisProbe> {
  const [pythonClients, held, waiting] = await readParticipants(
    connection,
    keys,
    { maxHolders: MAX_LISTED, maxWaiters: MAX_LISTED },
  );
  const members = [...held, ...waiting].map(([member]) => parseMember(member));
  const [peers, python] = await Promise.all([
    findPeers(connection, members),
    findPython(connection, keys, pythonClients),
  ]);
  const describe = (member: string, info: string) => ({
    ...remoteHolder(member, info),
    ...peers.get(parseMember(member).connectionId) ?? UNKNOWN,
  });
  const holders = held.map(([member, info, token]) => ({
    ...describe(member, info),
    fencingToken: BigInt(token),
  }));
  return {
    holders: holders.sort((a, b) => a.fencingToken < b.fencingToken ? -1 : 1),
    waiters: waiting.map(([member, info], position) => ({
      ...describe(member, info),
      position,
    })),
    python,
  };
}

const UNKNOWN: RedisPeer = { address: null, age: null };

function remoteHolder(member: string, info: string): RemoteHolder {
  const parsed = parseMember(member);
  return {
    holderId: holderIdOf(parsed),
    exclusive: parsed.lockType === "x",
    info: parseInfo(info),
  };
}

/** Returns `undefined` if there is no info, or another program wrote it. */
function parseInfo(text: string): unknown {
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Returns the connections of members, by their identifiers. */
async function findPeers(
  connection: LockConnection,
  members: readonly Member[],
): Promise<Map<string, RedisPeer>> {
  const ids = new Map(
    members.map(({ clientId, connectionId }) => [clientId, connectionId]),
  );
  const peers = new Map<string, RedisPeer>();
  if (ids.size === 0) return peers;
  const found = await listClients(connection, ["ID", ...ids.keys()]);
  for (const { id, name, peer } of found) {
    // A server that restarted gives the same numbers to other connections.
    const connectionId = ids.get(id);
    if (connectionId !== undefined && name === clientName(connectionId)) {
      peers.set(connectionId, peer);
    }
  }
  return peers;
}

/**
 * Returns the clients of Python's portalocker. All versions name their
 * connection after the lock, unless its name contains a space.
 */
async function findPython(
  connection: LockConnection,
  { shared = "" }: LockKeys,
  count: number,
): Promise<RedisPythonClient[]> {
  if (count <= 0) return [];
  const clients = await listClients(connection, ["TYPE", "pubsub"]);
  const prefix = `${shared}-lock`;
  const found: RedisPythonClient[] = [];
  for (const { name, peer } of clients) {
    if (!name.startsWith(prefix)) continue;
    const rest = name.slice(prefix.length);
    if (/^(-[0-9a-f]{32})?$/.test(rest)) {
      found.push({ holderId: rest.slice(1) || null, ...peer });
    }
  }
  // The server has counted the subscribers. Others may have come since.
  found.length = Math.min(found.length, count);
  while (found.length < count) found.push({ holderId: null, ...UNKNOWN });
  return found;
}

/** Runs `CLIENT LIST`. Returns nothing if the user must not run it. */
async function listClients(
  connection: LockConnection,
  filter: string[],
): Promise<{ id: string; name: string; peer: RedisPeer }[]> {
  const command = ["CLIENT", "LIST", ...filter];
  const list = await connection.send(command).catch(() => "");
  return String(list).split("\n").flatMap((line) => {
    const fields = new Map(
      [...line.matchAll(/(\S+?)=(\S*)/g)].map(([, k = "", v = ""]) => [k, v]),
    );
    const id = fields.get("id");
    if (id === undefined) return [];
    const address = fields.get("addr") ?? null;
    const age = Number(fields.get("age")) * 1000;
    const peer = { address, age: Number.isNaN(age) ? null : age };
    return [{ id, name: fields.get("name") ?? "", peer }];
  });
}
