/** One session for all locks that a process takes through one client. */

import { randomUUID } from "node:crypto";
import { clearTimeout, setTimeout } from "node:timers";
import { now } from "../../wait/deadline.ts";
import type { Deadline } from "../../wait/deadline.ts";
import { ReplyTimeout } from "../protocol/errors.ts";
import { clientName, RESERVED } from "../protocol/keys.ts";
import { LockConnection } from "./connection.ts";
import { hello } from "./client_adapter.ts";
import type { RedisConnection, RedisSource, Server } from "./client_adapter.ts";

/** For how long an idle session stays, in milliseconds. */
const IDLE_TIMEOUT_MS = 1000;

/** The sessions of each client, by the address of the server. */
const pools = new WeakMap<object, Map<string, PooledConnection>>();

/** A session that is open, or is being opened for whoever wants it. */
class PooledConnection {
  readonly ready: Promise<LockConnection>;
  #opened: LockConnection | undefined;
  #client: RedisConnection | undefined;
  #users = 0;
  #closed = false;
  #idleSince = 0;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #forget: () => void;

  constructor(server: Server, sharded: boolean, forget: () => void) {
    this.#forget = forget;
    this.ready = this.#open(server, sharded);
    // Each user gets the error for itself.
    this.ready.catch(forget);
  }

  /** The session once it is open. */
  get opened(): LockConnection | undefined {
    return this.#opened;
  }

  /** Whether the session is of use, as far as anybody knows. */
  get usable(): boolean {
    return !this.#closed && !this.#opened?.failure;
  }

  /** Somebody wants it; to be followed by {@linkcode PooledConnection.removeUser}. */
  addUser(): void {
    this.#users++;
  }

  /** Somebody is done with it. The last one leaves it open for a moment. */
  removeUser(): void {
    if (--this.#users > 0) return;
    if (this.#opened === undefined) return this.close();
    this.#idleSince = now();
    // One timer serves all who come and go before it is due.
    if (this.#idleTimer === undefined) this.#closeIn(IDLE_TIMEOUT_MS);
  }

  /** Closes it if nobody needs it. */
  close(): void {
    if (this.#users > 0) return;
    this.#closed = true;
    clearTimeout(this.#idleTimer);
    this.#forget();
    this.#opened?.fail(new Error("nobody needs the session"));
    this.#client?.destroy();
  }

  #closeIn(milliseconds: number): void {
    this.#idleTimer = setTimeout(() => {
      this.#idleTimer = undefined;
      if (this.#users > 0) return;
      const remaining = this.#idleSince + IDLE_TIMEOUT_MS - now();
      if (remaining > 0) this.#closeIn(remaining);
      else this.close();
    }, milliseconds);
    this.#idleTimer.unref();
  }

  async #open(server: Server, sharded: boolean): Promise<LockConnection> {
    const id = randomUUID().replaceAll("-", "");
    const connection = await server.connect({ name: clientName(id) });
    this.#client = connection;
    // Without a listener an error would be thrown where nobody catches it.
    connection.on("error", () => {});
    // node-redis connects all the same if it is destroyed while it does so.
    connection.on("connect", () => {
      if (this.#closed) connection.destroy();
    });
    try {
      if (this.#closed) throw new Error("nobody needs the connection");
      await connection.connect();
      const { id: clientId } = await hello(connection, sharded);
      const ready = new LockConnection(id, clientId, connection, this.#forget);
      if (!sharded) {
        await connection.subscribe(
          [`${RESERVED}session:${id}`],
          (message) => ready.onMessage({ sharded }, message),
        );
      }
      connection.unref();
      return this.#opened = ready;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }
}

/** What somebody has of a session until they are done with it. */
export interface PooledUse {
  readonly connection: LockConnection;
  /** To be called once. */
  release(): void;
}

/** For how long the server may be silent from now on, in milliseconds. */
export function replyTimeout(
  deadline: Deadline,
  willWait: boolean,
  unavailableTimeout: number,
): number {
  return willWait
    ? Math.min(deadline.remaining, unavailableTimeout)
    : unavailableTimeout;
}

/**
 * Gives the session for a key, opened if need be. What it returns may keep what
 * it was given, so that must not know the user's objects.
 *
 * @throws What the client or the server says, and the signal's reason.
 */
export async function acquireConnection(
  source: RedisSource,
  key: string,
  deadline: Deadline,
  willWait: boolean,
  unavailableTimeout: number,
): Promise<PooledUse> {
  const loading = source.load?.();
  if (loading) await waitForImport(deadline, loading);
  // What loading took is gone.
  const end = now() + replyTimeout(deadline, willWait, unavailableTimeout);
  const located = source.locate(key);
  const server = located instanceof Promise
    ? await withDeadline(deadline, end, located)
    : located;
  const pooled = findOrOpen(source, server);
  pooled.addUser();
  try {
    const connection = pooled.opened ??
      await withDeadline(deadline, end, pooled.ready);
    return { connection, release: () => pooled.removeUser() };
  } catch (error) {
    pooled.removeUser();
    throw error;
  }
}

/** Closes what nobody needs of a client's sessions. */
export function closeIdle({ poolKey }: RedisSource): void {
  for (const pooled of pools.get(poolKey)?.values() ?? []) pooled.close();
}

function findOrOpen(source: RedisSource, server: Server): PooledConnection {
  const { poolKey, sharded } = source;
  let connections = pools.get(poolKey);
  if (connections === undefined) pools.set(poolKey, connections = new Map());
  const { address } = server;
  const known = connections.get(address);
  if (known?.usable) return known;
  const pooled: PooledConnection = new PooledConnection(server, sharded, () => {
    if (connections.get(address) === pooled) connections.delete(address);
  });
  connections.set(address, pooled);
  return pooled;
}

/** That a package takes long to load is no silence of the server. */
function waitForImport(deadline: Deadline, loading: Promise<unknown>) {
  const end = deadline.remaining > 0 ? now() + deadline.remaining : Infinity;
  return withDeadline(
    deadline,
    end,
    loading,
    "the redis package is being loaded",
  );
}

/**
 * Waits for something that cannot be called off, until a moment of `now`.
 *
 * @throws {ReplyTimeout} If it has not settled by then, and the signal's reason.
 */
export async function withDeadline<T>(
  deadline: Deadline,
  end: number,
  work: Promise<T>,
  otherwise = "the server does not answer",
): Promise<T> {
  // It may fail when nobody waits for it any more.
  work.catch(() => {});
  const settled = await deadline.sleepUntilWoken(end - now(), (wake) => {
    work.then(wake, wake);
    return () => {};
  });
  if (!settled) throw new ReplyTimeout(otherwise);
  return await work;
}
