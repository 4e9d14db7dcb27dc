/** One session for all locks that a process takes through one client. */

import { randomUUID } from "node:crypto";
import { clearTimeout, setTimeout } from "node:timers";
import { now } from "../../wait/deadline.ts";
import type { Patience } from "../../wait/deadline.ts";
import { Unanswered } from "../errors.ts";
import { clientName, RESERVED } from "../keys.ts";
import { Session } from "./connection.ts";
import { greet } from "./client_adapter.ts";
import type { Connection, Server, Source } from "./client_adapter.ts";

/** For how long an idle session stays, in milliseconds. */
const LINGER = 1000;

/** The sessions of each client, by the address of the server. */
const all = new WeakMap<object, Map<string, Opening>>();

/** A session that is open, or is being opened for whoever wants it. */
class Opening {
  readonly session: Promise<Session>;
  #opened: Session | undefined;
  #connection: Connection | undefined;
  #users = 0;
  #given = false;
  #idle = 0;
  #linger: ReturnType<typeof setTimeout> | undefined;
  readonly #forget: () => void;

  constructor(server: Server, sharded: boolean, forget: () => void) {
    this.#forget = forget;
    this.session = this.#open(server, sharded);
    // Each user gets the error for itself.
    this.session.catch(forget);
  }

  /** The session once it is open. */
  get opened(): Session | undefined {
    return this.#opened;
  }

  /** Whether the session is of use, as far as anybody knows. */
  get good(): boolean {
    return !this.#given && !this.#opened?.lost;
  }

  /** Somebody wants it; to be followed by {@linkcode Opening.leave}. */
  join(): void {
    this.#users++;
  }

  /** Somebody is done with it. The last one leaves it open for a moment. */
  leave(): void {
    if (--this.#users > 0) return;
    if (this.#opened === undefined) return this.close();
    this.#idle = now();
    // One timer serves all who come and go before it is due.
    if (this.#linger === undefined) this.#closeIn(LINGER);
  }

  /** Closes it if nobody needs it. */
  close(): void {
    if (this.#users > 0) return;
    this.#given = true;
    clearTimeout(this.#linger);
    this.#forget();
    this.#opened?.lose(new Error("nobody needs the session"));
    this.#connection?.destroy();
  }

  #closeIn(milliseconds: number): void {
    this.#linger = setTimeout(() => {
      this.#linger = undefined;
      if (this.#users > 0) return;
      const left = this.#idle + LINGER - now();
      if (left > 0) this.#closeIn(left);
      else this.close();
    }, milliseconds);
    this.#linger.unref();
  }

  async #open(server: Server, sharded: boolean): Promise<Session> {
    const id = randomUUID().replaceAll("-", "");
    const connection = await server.connection({ name: clientName(id) });
    this.#connection = connection;
    // Without a listener an error would be thrown where nobody catches it.
    connection.on("error", () => {});
    // node-redis connects all the same if it is destroyed while it does so.
    connection.on("connect", () => {
      if (this.#given) connection.destroy();
    });
    try {
      if (this.#given) throw new Error("nobody needs the connection");
      await connection.connect();
      const { id: client } = await greet(connection, sharded);
      const session = new Session(id, client, connection, this.#forget);
      if (!sharded) {
        await connection.subscribe(
          [`${RESERVED}session:${id}`],
          (message) => session.told({ sharded }, message),
        );
      }
      connection.unref();
      return this.#opened = session;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }
}

/** What somebody has of a session until they are done with it. */
export interface Use {
  readonly session: Session;
  /** To be called once. */
  done(): void;
}

/** For how long the server may be silent from now on, in milliseconds. */
export function limitOf(
  patience: Patience,
  waits: boolean,
  unavailableTimeout: number,
): number {
  return waits
    ? Math.min(patience.left, unavailableTimeout)
    : unavailableTimeout;
}

/**
 * Gives the session for a key, opened if need be. What it returns may keep what
 * it was given, so that must not know the user's objects.
 *
 * @throws What the client or the server says, and the signal's reason.
 */
export async function useSession(
  source: Source,
  key: string,
  patience: Patience,
  waits: boolean,
  unavailableTimeout: number,
): Promise<Use> {
  const loading = source.load?.();
  if (loading) await loadedIn(patience, loading);
  // What loading took is gone.
  const end = now() + limitOf(patience, waits, unavailableTimeout);
  const located = source.locate(key);
  const server = located instanceof Promise
    ? await within(patience, end, located)
    : located;
  const opening = openingAt(source, server);
  opening.join();
  try {
    const session = opening.opened ??
      await within(patience, end, opening.session);
    return { session, done: () => opening.leave() };
  } catch (error) {
    opening.leave();
    throw error;
  }
}

/** Closes what nobody needs of a client's sessions. */
export function closeIdle({ identity }: Source): void {
  for (const opening of all.get(identity)?.values() ?? []) opening.close();
}

function openingAt(source: Source, server: Server): Opening {
  const { identity, sharded } = source;
  let openings = all.get(identity);
  if (openings === undefined) all.set(identity, openings = new Map());
  const { address } = server;
  const known = openings.get(address);
  if (known?.good) return known;
  const opening: Opening = new Opening(server, sharded, () => {
    if (openings.get(address) === opening) openings.delete(address);
  });
  openings.set(address, opening);
  return opening;
}

/** That a package takes long to load is no silence of the server. */
function loadedIn(patience: Patience, loading: Promise<unknown>) {
  const end = patience.left > 0 ? now() + patience.left : Infinity;
  return within(patience, end, loading, "the redis package is being loaded");
}

/**
 * Waits for something that cannot be called off, until a moment of `now`.
 *
 * @throws {Unanswered} If it has not settled by then, and the signal's reason.
 */
export async function within<T>(
  patience: Patience,
  end: number,
  work: Promise<T>,
  otherwise = "the server does not answer",
): Promise<T> {
  // It may fail when nobody waits for it any more.
  work.catch(() => {});
  const settled = await patience.untilWoken(end - now(), (wake) => {
    work.then(wake, wake);
    return () => {};
  });
  if (!settled) throw new Unanswered(otherwise);
  return await work;
}
