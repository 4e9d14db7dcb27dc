/** One connection for all locks that a process acquires through one client. */

import { clearTimeout, setTimeout } from "node:timers";
import { nodeCrypto } from "../../core/crypto.ts";
import { now } from "../../wait/deadline.ts";
import type { Deadline } from "../../wait/deadline.ts";
import type { RedisConnection, RedisSource, Server } from "../clients/types.ts";
import { clientName, connectionChannel } from "../protocol/keys.ts";
import type { LockKeys } from "../protocol/keys.ts";
import { withDeadline } from "./attempt_limits.ts";
import type { AttemptLimits } from "./attempt_limits.ts";
import { LockConnection } from "./connection.ts";

/** How long an idle connection stays open, in milliseconds. */
const IDLE_TIMEOUT_MS = 1000;

/** How long an import may take, even if the timeout is shorter. */
const MAX_IMPORT_MS = 1000;

/** The connections of each client, by the address of the server. */
const pools = new WeakMap<object, Map<string, PooledConnection>>();

/**
 * A connection that is open, or is being opened.
 *
 * Several acquisitions share it from the moment in which the first of them
 * opens it. Consider two of them, A and B:
 *
 * - A.1 begins to open it, B.1 waits for it too, and A.2 is aborted: it stays,
 *   because B uses it.
 * - A.1 begins to open it and A.2 is aborted: it is closed.
 * - A.1 releases it, and its timer is set. B.1 uses and releases it before the
 *   timer fires: the timer finds that it was idle for less than
 *   {@linkcode IDLE_TIMEOUT_MS}, and is set again for the rest.
 */
export class PooledConnection {
  /** Rejects if the connection cannot be opened. */
  readonly ready: Promise<PooledUse>;
  #opened: PooledUse | undefined;
  #client: RedisConnection | undefined;
  #users = 0;
  #closed = false;
  #idleSince = 0;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #onClosed: () => void;

  /** Begins to open a connection. `onClosed` may be called several times. */
  constructor(server: Server, keys: PoolKeys, onClosed: () => void) {
    this.#onClosed = onClosed;
    this.ready = this.#open(server, keys);
    // Each user gets the error from its own promise.
    this.ready.catch(onClosed);
  }

  /** Whether the connection can be used, as far as is known. */
  get usable(): boolean {
    const connection = this.#opened?.connection;
    return !this.#closed && !connection?.failure && !connection?.retired;
  }

  /** Whether it is open and can be used. */
  get isOpen(): boolean {
    return this.#opened !== undefined && this.usable;
  }

  /** Keeps it open until {@linkcode PooledConnection.release} is called. */
  use(): PooledUse | undefined {
    this.#users++;
    return this.#opened;
  }

  /** Closes it after a moment, if this was the last user. */
  release(): void {
    if (--this.#users > 0) return;
    if (this.#opened === undefined) return this.close();
    this.#idleSince = now();
    if (this.#idleTimer === undefined) this.#closeIn(IDLE_TIMEOUT_MS);
  }

  /** Closes it, unless it is used. */
  close(): void {
    if (this.#users > 0) return;
    this.#closed = true;
    clearTimeout(this.#idleTimer);
    this.#onClosed();
    this.#opened?.connection.fail(new Error("the connection was idle"));
    this.#client?.close();
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

  async #open(
    server: Server,
    { namespace, sharded }: PoolKeys,
  ): Promise<PooledUse> {
    const id = nodeCrypto().randomUUID().replaceAll("-", "");
    let opened: LockConnection | undefined;
    const client = this.#client = await server.create(clientName(id), {
      onMessage: (channel, message) => opened?.onMessage(channel, message),
      onEnd: (error) => opened?.fail(error),
      onMoved: (channel) => opened?.listener?.onChannelMoved(channel),
    });
    try {
      if (this.#closed) throw new Error("the connection is not needed");
      const connection = opened = new LockConnection(
        id,
        await client.open(),
        client,
        this.#onClosed,
      );
      if (!sharded) {
        await connection.subscribe(
          [connectionChannel(namespace, id)],
          false,
          (message) => connection.listener?.onMessage({ sharded }, message),
        );
      }
      client.unref();
      return this.#opened = { connection, release: () => this.release() };
    } catch (error) {
      client.close();
      throw error;
    }
  }
}

/** What of a lock's names its connection depends on. */
type PoolKeys = Pick<LockKeys, "key" | "namespace" | "sharded">;

/** A connection while it is used. */
export interface PooledUse {
  readonly connection: LockConnection;
  /** Ends one use. To be called once for each. */
  release(): void;
}

/**
 * Returns the connection to the server that has a key, and opens it if
 * necessary. The result and what it keeps must not refer to the lock object,
 * so that this can be garbage-collected.
 *
 * @param source Where the server is.
 * @param keys The names of the lock.
 * @param limits How long to wait.
 * @returns The connection, to be released. Not a promise if it is open.
 * @throws {ReplyTimeout} If the server does not reply in time.
 * @throws The error of the client or of the server, and the reason of the
 * signal if it is aborted.
 */
export function acquireConnection(
  source: RedisSource,
  keys: PoolKeys,
  limits: AttemptLimits,
): PooledUse | Promise<PooledUse> {
  const loading = source.load?.();
  if (loading === undefined) return locate(source, keys, limits);
  return waitForImport(limits.deadline, loading).then(() => {
    limits.allowStart();
    return locate(source, keys, limits);
  });
}

function locate(
  source: RedisSource,
  keys: PoolKeys,
  limits: AttemptLimits,
): PooledUse | Promise<PooledUse> {
  const { deadline } = limits;
  // The time for the import does not count as silence of the server.
  const end = now() + limits.replyTimeout;
  const use = (server: Server) => {
    const pooled = findOrOpen(source, server, keys);
    return pooled.use() ?? useOnceOpen(pooled, deadline, end);
  };
  const located = source.locate(keys.key);
  return located instanceof Promise
    ? withDeadline(deadline, end, located).then(use)
    : use(located);
}

async function useOnceOpen(
  pooled: PooledConnection,
  deadline: Deadline,
  end: number,
): Promise<PooledUse> {
  try {
    return await withDeadline(deadline, end, pooled.ready);
  } catch (error) {
    pooled.release();
    throw error;
  }
}

/** Returns the connection with an address of `addressOf`, if it is open. */
export function findOpen(
  poolKey: object,
  address: string,
): PooledConnection | undefined {
  const pooled = pools.get(poolKey)?.get(address);
  return pooled?.isOpen ? pooled : undefined;
}

/** Locks of another prefix have another connection, with its own channel. */
export function addressOf(server: Server, { namespace }: PoolKeys): string {
  return `${namespace}\n${server.address}`;
}

/** Closes the connections of a client that are not used. */
export function closeIdle({ poolKey }: RedisSource): void {
  for (const pooled of pools.get(poolKey)?.values() ?? []) pooled.close();
}

function findOrOpen(
  { poolKey }: RedisSource,
  server: Server,
  keys: PoolKeys,
): PooledConnection {
  let connections = pools.get(poolKey);
  if (connections === undefined) pools.set(poolKey, connections = new Map());
  const address = addressOf(server, keys);
  const existing = connections.get(address);
  if (existing?.usable) return existing;
  const pooled: PooledConnection = new PooledConnection(server, keys, () => {
    if (connections.get(address) === pooled) connections.delete(address);
  });
  connections.set(address, pooled);
  return pooled;
}

/** Waits for the import without the limit for the silence of the server. */
function waitForImport(
  deadline: Deadline,
  loading: Promise<unknown>,
): Promise<unknown> {
  const { remaining } = deadline;
  // A program that waits for less wants to know what is wrong with the server.
  const end = remaining > 0
    ? now() + Math.max(remaining, MAX_IMPORT_MS)
    : Infinity;
  return withDeadline(
    deadline,
    end,
    loading,
    "the redis package is being loaded",
  );
}
