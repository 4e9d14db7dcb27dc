/** A session: one connection, and what lives as long as it does. */

import { setInterval } from "node:timers";
import { Alarm } from "../alarm.ts";
import type { Entry } from "../acquisition/acquisition.ts";
import { Presence } from "../acquisition/subscription.ts";
import { sessionPrefix } from "../keys.ts";
import type { Names } from "../keys.ts";
import { replyCode } from "../errors.ts";
import type { Script } from "../acquisition/scripts.ts";
import type { Connection } from "./client_adapter.ts";
import { Suspicions } from "../acquisition/liveness.ts";

/** How often the server is asked for a sign of life in `unavailableTimeout`. */
const BEATS = 4;

/** What timers understand, in milliseconds. */
const LONGEST_BEAT = 2 ** 31 - 1;

/** One connection to one server. It never comes back once it is lost. */
export class Session {
  readonly id: string;
  /** The number of the connection on the server. */
  readonly client: string;
  readonly connection: Connection;
  readonly suspicions: Suspicions = new Suspicions(this);
  /** For those who keep the process alive by {@linkcode Session.awaiting}. */
  readonly alarm: Alarm = new Alarm();
  /** By their numbers. */
  readonly entries: Map<number, Entry> = new Map();
  readonly #presences = new Map<string, Presence>();
  readonly #closed: () => void;
  #numbers = 0;
  #awaited = 0;
  #heart: ReturnType<typeof setInterval> | undefined;
  #limit = Infinity;
  #beating = false;
  #silent = 0;
  #lost: { readonly error: unknown } | undefined;

  /** `closed` is called once, when it is of no use any more. */
  constructor(
    id: string,
    client: string,
    connection: Connection,
    closed: () => void,
  ) {
    this.id = id;
    this.client = client;
    this.connection = connection;
    this.#closed = closed;
    connection.on("error", (error) => this.lose(error));
    connection.on("end", () => this.lose(new Error("the connection ended")));
    connection.on("sharded-channel-moved", (channel) => {
      const moved = new Error("the lock moved to another node of the cluster");
      for (const presence of this.#presences.values()) {
        if (presence.listensTo(String(channel))) presence.lose(moved);
      }
    });
  }

  /** Why it is of no use any more, once it is. */
  get lost(): { readonly error: unknown } | undefined {
    return this.#lost;
  }

  /** A number that nothing else has that it ever says. */
  number(): number {
    return ++this.#numbers;
  }

  /** What it has on one channel, from its first entry to its last. */
  presence(names: Names): Presence {
    const known = this.#presences.get(names.key);
    if (known) return known;
    const presence = new Presence(this, names, () => {
      this.#presences.delete(names.key);
    });
    this.#presences.set(names.key, presence);
    return presence;
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
      return await this.connection.sendCommand([
        "EVALSHA",
        script.sha,
        ...rest,
      ]);
    } catch (error) {
      if (replyCode(error) !== "NOSCRIPT" || !wanted()) throw error;
      return await this.connection.sendCommand(["EVAL", script.text, ...rest]);
    }
  }

  /** Says something on a channel, if that is possible. */
  say(names: Pick<Names, "sharded">, channel: string, message: string): void {
    const command = names.sharded ? "SPUBLISH" : "PUBLISH";
    this.connection.sendCommand([command, channel, message]).catch(() => {});
  }

  /** The channel on which others reach this session about a lock. */
  channel(names: Names): string {
    return sessionPrefix(names) + this.id;
  }

  /** What others say to this session. */
  readonly told = (names: Pick<Names, "sharded">, message: string): void => {
    const [verb, subject, token] = message.split(" ");
    if (verb === "granted") {
      this.entries.get(Number(subject))?.hold(token);
    } else if (verb === "ask") {
      this.say(names, subject, `here ${this.id}`);
    } else if (verb === "here") {
      this.suspicions.answered(subject);
    }
  };

  /**
   * Keeps the process alive until that is said to be over. An open connection
   * alone does not: a finished program should end.
   */
  async awaiting<T>(work: Promise<T>): Promise<T> {
    if (this.#awaited++ === 0) this.#heart?.ref();
    try {
      return await work;
    } finally {
      if (--this.#awaited === 0) this.#heart?.unref();
    }
  }

  /** Finds out within so many milliseconds that the server is silent. */
  listenFor(unavailableTimeout: number): void {
    if (unavailableTimeout >= this.#limit || this.#lost) return;
    clearInterval(this.#heart);
    this.#limit = unavailableTimeout;
    this.#heart = setInterval(
      () => this.#beat(),
      Math.min(unavailableTimeout / BEATS, LONGEST_BEAT),
    );
    if (this.#awaited === 0) this.#heart.unref();
  }

  /** Nothing counts any more that depends on this connection. */
  lose(error: unknown): void {
    if (this.#lost) return;
    this.#lost = { error };
    clearInterval(this.#heart);
    this.alarm.end();
    this.#closed();
    this.connection.destroy();
    for (const presence of this.#presences.values()) presence.lose(error);
  }

  /**
   * Asks for a sign of life. Beats are counted, not time: when this thread was
   * blocked, the answer may be there and unread.
   */
  #beat(): void {
    if (!this.#beating) {
      this.#silent = 0;
      this.#beating = true;
      const beats: Promise<unknown>[] = [...this.entries.values()]
        .filter(({ held }) => held)
        .map((entry) => entry.verify());
      beats.push(this.connection.sendCommand(["PING"]));
      // Whoever asked deals with the error; silence is all that matters here.
      Promise.allSettled(beats).then(() => this.#beating = false);
    } else if (++this.#silent >= BEATS) {
      this.lose(new Error(`the server was silent for ${this.#limit} ms`));
    }
  }
}
