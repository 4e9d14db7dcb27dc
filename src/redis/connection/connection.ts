/** One connection to the server. Locks live as long as their connection. */

import { clearInterval, setInterval } from "node:timers";
import { MAX_TIMER_MS } from "../../wait/deadline.ts";
import { replyCode } from "../protocol/errors.ts";
import { replyChannelPrefix } from "../protocol/keys.ts";
import type { LockKeys } from "../protocol/keys.ts";
import type { Script } from "../protocol/scripts.ts";
import type { OpenedConnection, RedisConnection } from "../clients/types.ts";
import { SharedTimer } from "./shared_timer.ts";

/** How often a server is pinged within `unavailableTimeout`. */
const HEARTBEATS_PER_TIMEOUT = 4;

/** What the users of a connection want to know of it. */
export interface ConnectionListener {
  /**
   * Handles a message to this connection.
   *
   * @param keys Whether the message came on a sharded channel.
   * @param message The text of the message.
   */
  onMessage(keys: Pick<LockKeys, "sharded">, message: string): void;
  /**
   * Handles the end of the connection. Called once, after the client is
   * closed.
   */
  onLost(error: unknown): void;
  /** Handles that a channel moved to another node of a cluster. */
  onChannelMoved(channel: string): void;
  /**
   * Sends what has to be checked in regular intervals. `PING` follows.
   *
   * @returns The replies. The listener handles their errors.
   */
  onHeartbeat(): Promise<unknown>[];
}

/** Handles a message on a channel. */
export type Receiver = (message: string, channel: string) => void;

/**
 * A connection to one server. It does not know of locks; their state is with
 * its {@linkcode ConnectionListener}. Once it has failed, it is never used
 * again: a connection that reconnected would not have its locks any more.
 */
export class LockConnection {
  /** The identifier of the connection, 32 hexadecimal digits. */
  readonly id: string;
  /** The number of the connection on the server, `CLIENT ID`. */
  readonly clientId: string;
  readonly client: RedisConnection;
  /** Limits waits for replies. Used within {@linkcode LockConnection.keepAliveWhile} only. */
  readonly replyTimer: SharedTimer = new SharedTimer();
  /** Set by the first user of the connection, before it sends anything. */
  listener: ConnectionListener | undefined;
  /** What handles the messages on each channel. */
  readonly #receivers = new Map<string, Receiver>();
  readonly #onClosed: () => void;
  #lastId = 0;
  #keepAlive = 0;
  #timer: ReturnType<typeof setInterval> | undefined;
  #timeout = Infinity;
  #heartbeatPending = false;
  #missed = 0;
  #failure: { readonly error: unknown } | undefined;

  /** Creates a connection. `onClosed` is called once, when it fails. */
  constructor(
    id: string,
    { clientId }: OpenedConnection,
    client: RedisConnection,
    onClosed: () => void,
  ) {
    this.id = id;
    this.clientId = clientId;
    this.client = client;
    this.#onClosed = onClosed;
  }

  /** Why the connection failed, if it did. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  /** Returns a number that this connection has not returned before. */
  nextId(): number {
    return ++this.#lastId;
  }

  /**
   * Runs a script. It is sent again, as text, only if the server does not have
   * it in its cache and `isWanted` still returns `true`: other commands may
   * have overtaken the second one.
   *
   * @throws The error of the server or of the client.
   */
  async run(
    script: Script,
    keys: readonly string[],
    args: readonly string[],
    isWanted: () => boolean = () => true,
  ): Promise<unknown> {
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await this.client.send(["EVALSHA", script.sha, ...rest]);
    } catch (error) {
      if (replyCode(error) !== "NOSCRIPT" || !isWanted()) throw error;
      return await this.client.send(["EVAL", script.text, ...rest]);
    }
  }

  /**
   * Subscribes to channels.
   *
   * @param receiver What handles their messages until they are unsubscribed,
   * or subscribed again. It may be called before the promise settles.
   */
  subscribe(
    channels: readonly string[],
    sharded: boolean,
    receiver: Receiver,
  ): Promise<unknown> {
    for (const channel of channels) this.#receivers.set(channel, receiver);
    return this.client.subscribe(channels, sharded);
  }

  /** Unsubscribes from channels, whose subscription the server has confirmed. */
  async unsubscribe(
    channels: readonly string[],
    sharded: boolean,
    receiver: Receiver,
  ): Promise<void> {
    await this.client.unsubscribe(channels, sharded);
    for (const channel of channels) {
      // Another receiver may have subscribed meanwhile.
      if (this.#receivers.get(channel) === receiver) {
        this.#receivers.delete(channel);
      }
    }
  }

  /** Passes a message on to the receiver of its channel. */
  onMessage(channel: string, message: string): void {
    this.#receivers.get(channel)?.(message, channel);
  }

  /** Publishes a message on a channel. Errors are ignored. */
  publish(
    keys: Pick<LockKeys, "sharded">,
    channel: string,
    message: string,
  ): void {
    const command = keys.sharded ? "SPUBLISH" : "PUBLISH";
    this.client.send([command, channel, message]).catch(() => {});
  }

  /** Returns the channel on which this connection gets messages about a lock. */
  replyChannel(keys: LockKeys): string {
    return replyChannelPrefix(keys) + this.id;
  }

  /**
   * Keeps the process alive until a promise settles. An open connection alone
   * does not, because a finished program should end.
   */
  async keepAliveWhile<T>(work: Promise<T>): Promise<T> {
    if (this.#keepAlive++ === 0) this.#timer?.ref();
    try {
      return await work;
    } finally {
      if (--this.#keepAlive === 0) this.#timer?.unref();
    }
  }

  /**
   * Sends heartbeats, so that a silent server is detected within
   * `unavailableTimeout` milliseconds. The shortest of several timeouts
   * applies.
   */
  startHeartbeat(unavailableTimeout: number): void {
    if (unavailableTimeout >= this.#timeout || this.#failure) return;
    clearInterval(this.#timer);
    this.#timeout = unavailableTimeout;
    this.#timer = setInterval(
      () => this.#heartbeat(),
      Math.min(unavailableTimeout / HEARTBEATS_PER_TIMEOUT, MAX_TIMER_MS),
    );
    if (this.#keepAlive === 0) this.#timer.unref();
  }

  /** Closes the connection. Everything that depends on it is lost. */
  fail(error: unknown): void {
    if (this.#failure) return;
    this.#failure = { error };
    clearInterval(this.#timer);
    this.replyTimer.clear();
    this.#onClosed();
    this.client.close();
    this.listener?.onLost(error);
  }

  /**
   * Checks that the server replies. Heartbeats are counted instead of time:
   * when the thread was blocked, the reply may have arrived but not been read.
   */
  #heartbeat(): void {
    if (!this.#heartbeatPending) {
      this.#missed = 0;
      this.#heartbeatPending = true;
      const replies = this.listener?.onHeartbeat() ?? [];
      replies.push(this.client.send(["PING"]));
      // Errors are handled by the listener; only silence matters here.
      Promise.allSettled(replies).then(() => this.#heartbeatPending = false);
    } else if (++this.#missed >= HEARTBEATS_PER_TIMEOUT) {
      const silent = `the server was silent for ${this.#timeout} ms`;
      this.fail(Object.assign(new Error(silent), { code: "ETIMEDOUT" }));
    }
  }
}
