/** Finds servers through the client that is built into Bun. */

import {
  clearInterval,
  clearTimeout,
  setInterval,
  setTimeout,
} from "node:timers";
import { builtin } from "../../../ffi/mod.ts";
import { errorCode } from "../../../ffi/types.ts";
import { LockException } from "../../core/errors.ts";
import { ClientConnection } from "./client_connection.ts";
import { connectionError } from "./connection_error.ts";
import { withTwoConnections } from "./two_connections.ts";
import { hasMarks, singleServer } from "./types.ts";
import type { ConnectionEvents, RedisSource, Server } from "./types.ts";

/** The client that is built into Bun, from `new RedisClient()`. */
export interface BunRedisLike {
  /** Returns a new client with the same options. */
  duplicate(): Promise<object>;
  /** Sends a command. */
  send(command: string, args: string[]): Promise<unknown>;
  /** Whether the client is connected. */
  readonly connected: boolean;
  /** Closes the client. */
  close(): void;
}

/** The members of a client that a connection needs. */
interface Client extends BunRedisLike {
  onclose: ((error: Error) => void) | null | undefined;
  connect(): Promise<unknown>;
  subscribe(channels: readonly string[], listener: Listener): Promise<unknown>;
  unsubscribe(channels: readonly string[]): Promise<unknown>;
}

type Listener = (message: string, channel: string) => void;

/** What the module of the runtime exports. */
interface BunModule {
  readonly RedisClient: new (url: string, options: object) => Client;
}

/** How often a client that may reconnect is checked, in milliseconds. */
const CHECK_INTERVAL_MS = 50;

/** How long the reason for a failure is looked for, in milliseconds. */
const EXPLAIN_TIMEOUT_MS = 1000;

/** Whether a value is a client of Bun. */
export function isBunClient(client: object): client is BunRedisLike {
  return hasMarks(client, {
    methods: ["close", "duplicate", "getBuffer", "send", "subscribe"],
    properties: ["bufferedAmount", "connected", "onclose", "onconnect"],
  });
}

/** Returns the server of a client of Bun. */
export function fromBunClient(client: BunRedisLike): RedisSource {
  const duplicate = async () => await client.duplicate() as Client;
  return singleServer(client, serverOf("", duplicate));
}

const bunModule = () => builtin<BunModule>("bun");

/** Whether this runtime has a client of its own. */
export function hasBunClient(): boolean {
  return bunModule()?.RedisClient !== undefined;
}

/**
 * Returns the server of a URL.
 *
 * @throws {LockException} If Bun cannot parse the URL, or there are options,
 * which are those of a package.
 */
export function serverOfBun(
  url = "redis://localhost:6379",
  options: object = {},
): Server {
  const { RedisClient } = bunModule()!;
  const address = bunUrl(url);
  if (address === undefined || Object.keys(options).length > 0) {
    throw new LockException(
      "the client of Bun does not support clientOptions, or a password for a " +
        "unix: URL; install redis (npm install redis@6)",
      { code: "EINVAL" },
    );
  }
  const settings = { autoReconnect: false, enableOfflineQueue: false };
  return serverOf(url, () => new RedisClient(address, settings), url);
}

/** Converts a URL. Bun cannot parse one of a socket that has a password. */
function bunUrl(url: string): string | undefined {
  const [, path] = /^unix:\/\/(\/[^?#]*)/.exec(url) ?? [];
  if (path !== undefined) return `redis+unix://${path}`;
  return url.startsWith("unix:") ? undefined : url;
}

/**
 * Bun closes a connection that subscribes when the server replies to a command
 * with an error. So commands have a connection of their own.
 */
function serverOf(
  address: string,
  createClient: () => Client | Promise<Client>,
  url?: string,
): Server {
  return withTwoConnections({
    address,
    create: (name, events) =>
      new BunConnection(createClient, { name, url, events }),
  });
}

/** What a connection is created with, besides the client. */
interface Settings {
  readonly name: string;
  /** Known if the connection does not belong to a client of the caller. */
  readonly url: string | undefined;
  readonly events: ConnectionEvents;
}

/**
 * A connection of Bun's client.
 *
 * The options of a client of the caller cannot be read or changed, and its
 * duplicates reconnect by default. They neither subscribe again nor call
 * `onclose`. Bun waits for 50 ms or longer before it reconnects. Consider a
 * duplicate D and the server:
 *
 * - The server ends the connection, and D.1 sends a command: `connected` is
 *   false, so the connection counts as lost.
 * - The server ends the connection, and D does not send anything: `connected`
 *   is checked in intervals that are not longer than that wait. A timer that is
 *   late because the thread was busy fires before Bun has connected again.
 *
 * The server confirms each channel of a command, and Bun takes each of these
 * confirmations for the reply to another command. Consider two channels A and B:
 *
 * - D.1 sends `UNSUBSCRIBE A B` and D.2 `SUBSCRIBE A B`. The confirmation for A
 *   resolves the promise of D.1, and the one for B that of D.2, although the
 *   server has not executed D.2. A script that was sent on another connection
 *   then could grant the lock without the subscription. So D.3 publishes a
 *   message to itself, after D.2 on the same connection: D is subscribed when
 *   this message arrives.
 */
class BunConnection extends ClientConnection {
  readonly ordered = true;
  readonly #createClient: () => Client | Promise<Client>;
  readonly #name: string;
  readonly #url: string | undefined;
  #client: Client | undefined;
  #checking: ReturnType<typeof setInterval> | undefined;
  /** What waits for the server to execute `SUBSCRIBE`, by the message. */
  readonly #subscribing = new Map<string, Subscribing>();
  /** A channel to which only this connection is subscribed. */
  #ownChannel: string | undefined;
  #subscriptions = 0;

  constructor(
    createClient: () => Client | Promise<Client>,
    { name, url, events }: Settings,
  ) {
    super(events, { sharded: false, protocol: 3 });
    this.#createClient = createClient;
    this.#name = name;
    this.#url = url;
  }

  send(args: readonly string[]): Promise<unknown> {
    const client = this.#connected();
    if (!client) return Promise.reject(lost());
    return client.send(args[0] ?? "", args.slice(1));
  }

  async subscribe(channels: Channels): Promise<void> {
    const client = this.#connected();
    if (!client) throw lost();
    this.#ownChannel ??= channels[0] ?? "";
    const message = `subscribed ${++this.#subscriptions}`;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#subscribing.set(message, { channels, resolve, reject });
        // Bun does not settle the promise if it closes the connection.
        client.subscribe(channels, this.#listener).catch(reject);
        client.send("PUBLISH", [this.#ownChannel!, message]).catch(() => {});
      });
    } finally {
      this.#subscribing.delete(message);
    }
  }

  async unsubscribe(channels: Channels): Promise<unknown> {
    return await this.#connected()?.unsubscribe(channels);
  }

  /** Bun keeps the process alive as long as a client subscribes. */
  ref(): void {}
  unref(): void {}

  protected async connect(): Promise<void> {
    const client = this.#client = await this.#createClient();
    // It could not be closed before.
    if (this.closed) throw lost();
    try {
      await client.connect();
    } catch (error) {
      throw this.closed ? error : await this.#whyNotConnected(error);
    }
    // Without the permission, the connection does not have a name.
    client.send("CLIENT", ["SETNAME", this.#name]).catch(() => {});
    client.onclose = (error) => this.#onLost(error);
    if (this.#url !== undefined) return;
    this.#checking = setInterval(() => this.#connected(), CHECK_INTERVAL_MS);
    this.#checking.unref();
  }

  protected destroy(): void {
    clearInterval(this.#checking);
    this.#client?.close();
  }

  readonly #listener: Listener = (message, channel) => {
    const subscribing = channel === this.#ownChannel &&
      this.#subscribing.get(message);
    if (subscribing) subscribing.resolve();
    else this.onMessage(channel, message);
  };

  /** Returns the client, unless it has lost its connection. */
  #connected(): Client | undefined {
    const client = this.#client;
    if (client?.connected) return client;
    this.#onLost(lost());
    return undefined;
  }

  async #onLost(error: unknown = lost()): Promise<void> {
    clearInterval(this.#checking);
    const pending = [...this.#subscribing.values()];
    this.#subscribing.clear();
    const channels = pending.flatMap(({ channels }) => channels);
    const reason = channels.length === 0
      ? error
      : await this.#whyNotSubscribed(channels) ?? error;
    for (const { reject } of pending) reject(reason);
    this.onEnd(reason);
  }

  /**
   * Returns the error of the server for a subscription. Bun reports it only if
   * the connection does not have another subscription.
   */
  async #whyNotSubscribed(channels: Channels): Promise<unknown> {
    let client: Client | undefined;
    const subscribing = async () => {
      client = await this.#createClient();
      await client.connect();
      await client.subscribe(channels, () => {});
    };
    const error = await orTimeout(
      subscribing().then(() => undefined, (reason) => reason),
    );
    client?.close();
    return errorCode(error) === "ERR_REDIS_SERVER_ERROR" ? error : undefined;
  }

  /** Bun only says that the connection is closed, whatever the reason is. */
  async #whyNotConnected(cause: unknown): Promise<unknown> {
    if (this.#url !== undefined) {
      return await connectionError(this.#url, EXPLAIN_TIMEOUT_MS) ?? cause;
    }
    return new Error(
      "the client of Bun cannot connect and does not say why: the server " +
        "cannot be reached, or refuses the user name or the password",
      { cause },
    );
  }
}

type Channels = readonly string[];

/** A subscription that the server has not executed yet, as far as is known. */
interface Subscribing {
  readonly channels: Channels;
  resolve(): void;
  reject(error: unknown): void;
}

function lost(): Error {
  return new Error("the connection ended");
}

/** Waits for a reason, but not for long. */
async function orTimeout<T>(work: Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timedOut = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), EXPLAIN_TIMEOUT_MS);
  });
  try {
    return await Promise.race([work, timedOut]);
  } finally {
    clearTimeout(timer);
  }
}
