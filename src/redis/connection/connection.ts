/** A session: one connection, and what lives as long as it does. */

import { setInterval } from "node:timers";
import { Alarm } from "../alarm.ts";
import type { Acquisition } from "../acquisition/acquisition.ts";
import { ChannelSubscription } from "../acquisition/subscription.ts";
import { replyChannelPrefix } from "../protocol/keys.ts";
import type { LockKeys } from "../protocol/keys.ts";
import { replyCode } from "../protocol/errors.ts";
import type { Script } from "../protocol/scripts.ts";
import type { RedisConnection } from "./client_adapter.ts";
import { LivenessProbe } from "../acquisition/liveness.ts";

/** How often the server is asked for a sign of life in `unavailableTimeout`. */
const HEARTBEATS_PER_TIMEOUT = 4;

/** What timers understand, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** One connection to one server. It never comes back once it is lost. */
export class LockConnection {
  readonly id: string;
  /** The number of the connection on the server. */
  readonly clientId: string;
  readonly client: RedisConnection;
  readonly liveness: LivenessProbe = new LivenessProbe(this);
  /** For those who keep the process alive by {@linkcode LockConnection.keepAliveWhile}. */
  readonly alarm: Alarm = new Alarm();
  /** By their numbers. */
  readonly acquisitions: Map<number, Acquisition> = new Map();
  readonly #subscriptions = new Map<string, ChannelSubscription>();
  readonly #closed: () => void;
  #lastId = 0;
  #keepAlive = 0;
  #timer: ReturnType<typeof setInterval> | undefined;
  #timeout = Infinity;
  #heartbeatPending = false;
  #missed = 0;
  #failure: { readonly error: unknown } | undefined;

  /** `closed` is called once, when it is of no use any more. */
  constructor(
    id: string,
    clientId: string,
    client: RedisConnection,
    closed: () => void,
  ) {
    this.id = id;
    this.clientId = clientId;
    this.client = client;
    this.#closed = closed;
    client.on("error", (error) => this.fail(error));
    client.on("end", () => this.fail(new Error("the connection ended")));
    client.on("sharded-channel-moved", (channel) => {
      const moved = new Error("the lock moved to another node of the cluster");
      for (const subscription of this.#subscriptions.values()) {
        if (subscription.listensTo(String(channel))) subscription.fail(moved);
      }
    });
  }

  /** Why it is of no use any more, once it is. */
  get failure(): { readonly error: unknown } | undefined {
    return this.#failure;
  }

  /** A number that nothing else has that it ever says. */
  nextId(): number {
    return ++this.#lastId;
  }

  /** What it has on one channel, from its first entry to its last. */
  subscription(keys: LockKeys): ChannelSubscription {
    const known = this.#subscriptions.get(keys.key);
    if (known) return known;
    const subscription = new ChannelSubscription(this, keys, () => {
      this.#subscriptions.delete(keys.key);
    });
    this.#subscriptions.set(keys.key, subscription);
    return subscription;
  }

  /**
   * Runs a script. Only if the server has forgotten it and `wanted` still says
   * so, it is sent once more: by then something else could have overtaken it.
   */
  async run(
    script: Script,
    keys: readonly string[],
    args: readonly string[],
    wanted: () => boolean = () => true,
  ): Promise<unknown> {
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await this.client.sendCommand([
        "EVALSHA",
        script.sha,
        ...rest,
      ]);
    } catch (error) {
      if (replyCode(error) !== "NOSCRIPT" || !wanted()) throw error;
      return await this.client.sendCommand(["EVAL", script.text, ...rest]);
    }
  }

  /** Says something on a channel, if that is possible. */
  publish(
    keys: Pick<LockKeys, "sharded">,
    channel: string,
    message: string,
  ): void {
    const command = keys.sharded ? "SPUBLISH" : "PUBLISH";
    this.client.sendCommand([command, channel, message]).catch(() => {});
  }

  /** The channel on which others reach this session about a lock. */
  replyChannel(keys: LockKeys): string {
    return replyChannelPrefix(keys) + this.id;
  }

  /** What others say to this session. */
  readonly onMessage = (
    keys: Pick<LockKeys, "sharded">,
    message: string,
  ): void => {
    const [verb, subject, token] = message.split(" ");
    if (verb === "granted") {
      this.acquisitions.get(Number(subject))?.granted(token);
    } else if (verb === "ask") {
      this.publish(keys, subject, `here ${this.id}`);
    } else if (verb === "here") {
      this.liveness.onAlive(subject);
    }
  };

  /**
   * Keeps the process alive until that is said to be over. An open connection
   * alone does not: a finished program should end.
   */
  async keepAliveWhile<T>(work: Promise<T>): Promise<T> {
    if (this.#keepAlive++ === 0) this.#timer?.ref();
    try {
      return await work;
    } finally {
      if (--this.#keepAlive === 0) this.#timer?.unref();
    }
  }

  /** Finds out within so many milliseconds that the server is silent. */
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

  /** Nothing counts any more that depends on this connection. */
  fail(error: unknown): void {
    if (this.#failure) return;
    this.#failure = { error };
    clearInterval(this.#timer);
    this.alarm.end();
    this.#closed();
    this.client.destroy();
    for (const subscription of this.#subscriptions.values()) {
      subscription.fail(error);
    }
  }

  /**
   * Asks for a sign of life. Beats are counted, not time: when this thread was
   * blocked, the answer may be there and unread.
   */
  #heartbeat(): void {
    if (!this.#heartbeatPending) {
      this.#missed = 0;
      this.#heartbeatPending = true;
      const beats: Promise<unknown>[] = [...this.acquisitions.values()]
        .filter(({ held }) => held)
        .map((acquisition) => acquisition.verify());
      beats.push(this.client.sendCommand(["PING"]));
      // Whoever asked deals with the error; silence is all that matters here.
      Promise.allSettled(beats).then(() => this.#heartbeatPending = false);
    } else if (++this.#missed >= HEARTBEATS_PER_TIMEOUT) {
      this.fail(new Error(`the server was silent for ${this.#timeout} ms`));
    }
  }
}
