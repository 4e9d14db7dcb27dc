/** One connection to the server. Locks live as long as their connection. */

import { clearTimeout, setTimeout } from "node:timers";
import { now } from "../../wait/deadline.ts";
import { toRecord } from "../clients/hello.ts";
import type { OpenedConnection, RedisConnection } from "../clients/types.ts";
import { replyCode } from "../protocol/errors.ts";
import { replyChannelPrefix } from "../protocol/keys.ts";
import type { LockKeys } from "../protocol/keys.ts";
import type { Script } from "../protocol/scripts.ts";
import { SharedTimer } from "./shared_timer.ts";
import { Timeouts } from "./timeouts.ts";
import { moment, StallClock } from "./stall_clock.ts";
import type { Moment } from "./stall_clock.ts";
import { turnOfInput } from "./turn_of_input.ts";

/** How often a server is asked within the shortest `unavailableTimeout`. */
const HEARTBEATS_PER_TIMEOUT = 4;

/** The longest time between two heartbeats, in milliseconds. */
const MAX_INTERVAL_MS = 60_000;

/**
 * How much of `unavailableTimeout` a question must have been open before
 * silence counts. The server is asked after a quarter of it, so silence is
 * judged exactly when `unavailableTimeout` is over. After the thread was
 * blocked, the server gets this time to reply.
 */
const MIN_OPEN = 0.75;

function heartbeatInterval(timeout: number): number {
  return Math.min(timeout / HEARTBEATS_PER_TIMEOUT, MAX_INTERVAL_MS);
}

/**
 * A timer is late if it fires after this part of `unavailableTimeout`. The
 * server gets the same time to reply once the thread runs.
 */
const LATE_FRACTION = 8;

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
  /**
   * Handles that the server has been silent, for users with this timeout or a
   * shorter one.
   */
  onSilent(timeout: number): void;
  /** Handles that a channel moved to another node of a cluster. */
  onChannelMoved(channel: string): void;
  /** Sends what has to be checked in regular intervals, and handles replies. */
  onHeartbeat(): void;
  /** Returns a channel of which this connection gets the messages, if any. */
  ownChannel(): OwnChannel | undefined;
}

/** A channel to which only one connection is subscribed. */
export interface OwnChannel {
  readonly channel: string;
  readonly sharded: boolean;
}

/** Handles a message on a channel. */
export type Receiver = (message: string, channel: string) => void;

/** Returns the error of a connection whose server has been silent. */
export function silence(timeout: number): Error {
  const message = `the server was silent for ${timeout} ms`;
  return Object.assign(new Error(message), { code: "ETIMEDOUT" });
}

/**
 * A connection to one server. It does not know of locks; their state is with
 * its {@linkcode ConnectionListener}. Once it has failed, it is never used
 * again: a connection that reconnected would not have its locks any more.
 *
 * A heartbeat asks the server whether it is still the master. Silence is judged
 * by the time since the last reply or message, never by one reply that is late:
 *
 * - A.1 sends 50,000 commands and H.1 a heartbeat. The replies to A.1 arrive
 *   for longer than `unavailableTimeout`, and the one to H.1 after them: the
 *   server is not silent.
 * - H.1 sends a heartbeat and the thread is blocked. H.2, the next heartbeat,
 *   finds that nothing was read. The reply to H.1 may wait in the socket, so
 *   H.2 lets the event loop read it first.
 * - The thread is blocked after H.1 and before the library writes it. H.2 is
 *   late, so it waits for a moment longer. It does not wait for a full timeout:
 *   a thread that is blocked again and again would then never learn that it is
 *   cut off.
 * - A uses 10 s and B 200 ms, and the server is silent for 1 s: B is lost and
 *   the connection is not used for new locks, but A does not change.
 *
 * If replies and messages have connections of their own, the silence is that of
 * the one that was silent for longer. A heartbeat then includes a message to
 * this connection:
 *
 * - The thread is blocked, and a waiter kills the connection for messages. The
 *   thread runs again, and reads a reply before that end. The reply says nothing
 *   of the locks. But no connection has received the message, so all are lost.
 */
export class LockConnection {
  /** The identifier of the connection, 32 hexadecimal digits. */
  readonly id: string;
  /** The number of the connection on the server, `CLIENT ID`. */
  readonly clientId: string;
  readonly client: RedisConnection;
  /** Limits waits for replies. Used while the process is kept alive only. */
  readonly replyTimer: SharedTimer = new SharedTimer();
  /** How {@linkcode Deadline.sleepUntilWoken} does that. */
  readonly replyLimit: { readonly setTimer: SharedTimer["set"] } = {
    setTimer: this.replyTimer.set,
  };
  /** Set by the first user of the connection, before it sends anything. */
  listener: ConnectionListener | undefined;
  /** What handles the messages on each channel. */
  readonly #receivers = new Map<string, Receiver>();
  readonly #onClosed: () => void;
  #lastId = 0;
  #keepAlive = 0;
  readonly #timeouts = new Timeouts();
  readonly #stall = new StallClock();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the next heartbeat is due, by `now`. */
  #due = Infinity;
  #lastReply = 0;
  #lastMessage = 0;
  /** When the heartbeat was sent whose replies are missing, by `now`. */
  #asked: number | undefined;
  #judging = false;
  /** What waits for messages to this connection, by their number. */
  readonly #echoes = new Map<number, () => void>();
  #retired = false;
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

  /** Whether new locks should not use it, because it was silent. */
  get retired(): boolean {
    return this.#retired;
  }

  /**
   * How long this thread has not run since a moment, in milliseconds: until
   * now, or earlier if the server has not replied since. Defined while the
   * connection has users.
   */
  stalledSince(since: Moment): number {
    return this.#stall.elapsedSince(since);
  }

  /** Waits for a reply, which proves that the connection lives. */
  async confirm(question: () => Promise<void>): Promise<void> {
    this.#stall.onRun(2 * this.#timeouts.shortest);
    const asked = moment();
    const echo = this.client.ordered ? undefined : this.#echo();
    await Promise.all([question(), echo]);
    if (!this.#failure) this.#stall.onReply(asked);
  }

  /** Returns a number that this connection has not returned before. */
  nextId(): number {
    return ++this.#lastId;
  }

  /**
   * Sends a command.
   *
   * @throws The error of the server or of the client.
   */
  send(args: readonly string[]): Promise<unknown> {
    const reply = this.client.send(args);
    reply.then(this.#onReply, this.#onReply);
    return reply;
  }

  readonly #onReply = <T>(reply: T): T => {
    this.#lastReply = now();
    return reply;
  };

  /**
   * Runs a script. It is sent again, as text, only if the server does not have
   * it in its cache and `isWanted` still returns `true`: other commands may
   * have overtaken the second one.
   *
   * @param script The script that the command runs.
   * @param command What `commandOf` returns.
   * @throws The error of the server or of the client.
   */
  run(
    script: Script,
    command: readonly string[],
    isWanted: () => boolean = () => true,
  ): Promise<unknown> {
    // An `async` function would take longer.
    return this.client.send(command).then(this.#onReply, (error) => {
      this.#onReply(error);
      if (replyCode(error) !== "NOSCRIPT" || !isWanted()) throw error;
      return this.send(["EVAL", script.text, ...command.slice(2)]);
    });
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
  ): Promise<void> {
    const before = channels.map((channel) => this.#receivers.get(channel));
    await this.client.unsubscribe(channels, sharded);
    for (const [i, channel] of channels.entries()) {
      // Another receiver may have subscribed meanwhile.
      if (this.#receivers.get(channel) === before[i]) {
        this.#receivers.delete(channel);
      }
    }
  }

  /** Passes a message on to the receiver of its channel. */
  onMessage(channel: string, message: string): void {
    this.#lastMessage = now();
    this.#receivers.get(channel)?.(message, channel);
  }

  /** Publishes a message on a channel. Errors are ignored. */
  publish(
    keys: Pick<LockKeys, "sharded">,
    channel: string,
    message: string,
  ): void {
    this.send([keys.sharded ? "SPUBLISH" : "PUBLISH", channel, message])
      .catch(() => {});
  }

  /** Returns the channel on which this connection gets messages about a lock. */
  replyChannel(keys: LockKeys): string {
    return replyChannelPrefix(keys) + this.id;
  }

  /**
   * Waits until every message is read that the server sent before now.
   *
   * @throws The error of the server or of the client.
   */
  async roundTrip(): Promise<void> {
    await (this.client.ordered ? this.send(["PING"]) : this.#echo());
  }

  /** Handles a message that this connection sent to itself. */
  onEcho(number: number): void {
    this.#echoes.get(number)?.();
    this.#echoes.delete(number);
  }

  /**
   * Keeps the process alive until a promise settles. An open connection alone
   * does not, because a finished program should end. To be called while the
   * connection has a user.
   */
  keepAliveWhile<T>(work: Promise<T>): Promise<T> {
    this.keepAlive();
    work.then(this.#letEnd, this.#letEnd);
    return work;
  }

  /** Keeps the process alive until {@linkcode LockConnection.letEnd}. */
  keepAlive(): void {
    if (this.#keepAlive++ === 0) this.#timer?.ref();
  }

  /** Ends a {@linkcode LockConnection.keepAlive}. */
  letEnd(): void {
    if (--this.#keepAlive === 0) this.#timer?.unref();
  }

  readonly #letEnd = (): void => this.letEnd();

  /**
   * Adds a user of the connection, and sends heartbeats while it has users. A
   * user is notified when its own `unavailableTimeout` is over, no matter what
   * the timeouts of others are.
   */
  addUser(timeout: number): void {
    const due = now() + heartbeatInterval(timeout);
    if (due < this.#due && !this.#failure) {
      if (this.#timer === undefined) this.#stall.start();
      else this.#stall.onRun(2 * this.#timeouts.shortest);
      this.#schedule(due);
    }
    this.#timeouts.add(timeout);
  }

  /** Removes a user of the connection. */
  removeUser(timeout: number): void {
    this.#timeouts.remove(timeout);
  }

  /** Closes the connection. Everything that depends on it is lost. */
  fail(error: unknown): void {
    if (this.#failure) return;
    this.#failure = { error };
    clearTimeout(this.#timer);
    this.replyTimer.clear();
    this.#onClosed();
    this.client.close();
    for (const settle of this.#echoes.values()) settle();
    this.listener?.onLost(error);
  }

  /** Sets the timer, unless it is set to an earlier time. */
  #schedule(due: number): void {
    if (due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    const delay = Math.max(1, due - now());
    this.#timer = setTimeout(() => this.#onTimer(), delay);
    if (this.#keepAlive === 0) this.#timer.unref();
  }

  #onTimer(): void {
    const due = this.#due;
    this.#timer = undefined;
    this.#due = Infinity;
    // The next user sets the timer.
    if (this.#timeouts.size === 0) return;
    this.#stall.onRun(2 * this.#timeouts.shortest);
    if (this.#asked === undefined) this.#ask();
    if (this.#silentTimeout(now()) !== undefined) this.#judge(now() - due);
    const next = now() + heartbeatInterval(this.#timeouts.shortest);
    this.#schedule(Math.min(next, this.#nextJudgement()));
  }

  async #ask(): Promise<void> {
    const asked = moment();
    this.#asked = asked.time;
    this.listener?.onHeartbeat();
    const echo = this.client.ordered ? undefined : this.#echo();
    const [hello] = await Promise.allSettled([this.send(["HELLO"]), echo]);
    if (this.#failure) return;
    this.#stall.onReply(asked);
    this.#asked = undefined;
    if (hello.status === "rejected") return;
    const { role } = toRecord(hello.value);
    if (role === "replica" || role === "slave") {
      const message = "the server has become a replica";
      this.fail(Object.assign(new Error(message), { code: "READONLY" }));
    }
  }

  /** Sends a message to this connection, and waits for it. */
  async #echo(): Promise<void> {
    const own = this.listener?.ownChannel();
    if (own === undefined) return;
    const { channel, sharded } = own;
    const receiver = this.#receivers.get(channel);
    const number = this.nextId();
    const received = new Promise<void>((resolve) =>
      this.#echoes.set(number, resolve)
    );
    const command = sharded ? "SPUBLISH" : "PUBLISH";
    const receivers = await this.send([command, channel, `echo ${number}`])
      .catch(() => undefined);
    if (Number(receivers) > 0) return await received;
    this.#echoes.delete(number);
    // In a cluster, this connection may have unsubscribed meanwhile.
    const isSubscribed = this.listener?.ownChannel()?.channel === channel &&
      this.#receivers.get(channel) === receiver;
    if (receivers === 0 && isSubscribed) {
      this.fail(new Error("the connection that subscribes has ended"));
    }
  }

  /** When the server was last heard of, by `now`. */
  get #lastHeard(): number {
    return this.client.ordered
      ? Math.max(this.#lastReply, this.#lastMessage)
      : Math.min(this.#lastReply, this.#lastMessage);
  }

  /** When silence lasts for this timeout, by `now`. */
  #judgedAt(timeout: number): number {
    return this.#asked === undefined ? Infinity : Math.max(
      this.#lastHeard + timeout,
      this.#asked + timeout * MIN_OPEN,
    );
  }

  #nextJudgement(): number {
    const time = now();
    let next = Infinity;
    for (const timeout of this.#timeouts.values()) {
      const judged = this.#judgedAt(timeout);
      if (judged > time) next = Math.min(next, judged);
    }
    return next;
  }

  /** The longest timeout for which the server has been silent. */
  #silentTimeout(time: number): number | undefined {
    let longest: number | undefined;
    for (const timeout of this.#timeouts.values()) {
      if (this.#judgedAt(timeout) <= time) {
        longest = Math.max(longest ?? 0, timeout);
      }
    }
    return longest;
  }

  /**
   * Judges after input that has already arrived is read. If the timer was late,
   * the thread may have been blocked before it could send the question.
   */
  async #judge(late: number): Promise<void> {
    if (this.#judging) return;
    this.#judging = true;
    const grace = this.#timeouts.shortest / LATE_FRACTION;
    await (late > grace ? sleep(grace) : turnOfInput());
    this.#judging = false;
    const timeout = this.#silentTimeout(now());
    if (timeout === undefined || this.#failure) return;
    if (timeout >= this.#timeouts.longest) return this.fail(silence(timeout));
    this.#retired = true;
    this.listener?.onSilent(timeout);
  }
}

/** Waits, without keeping the process alive. */
function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref());
}
