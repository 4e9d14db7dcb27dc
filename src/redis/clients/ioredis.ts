/** Finds servers through the clients and clusters of ioredis. */

import process from "node:process";
import { Unsupported } from "../../../ffi/types.ts";
import { LockException } from "../../core/errors.ts";
import { keySlot } from "../protocol/key_slot.ts";
import { ClientConnection } from "./client_connection.ts";
import { importError } from "./import_error.ts";
import { withTwoConnections } from "./two_connections.ts";
import { hasMarks, singleServer } from "./types.ts";
import { parseUrl } from "./url.ts";
import type { ConnectionEvents, RedisSource, Server } from "./types.ts";

/** A client of ioredis 5 or 6, from `new Redis()`, also with `sentinels`. */
export interface IoredisLike {
  /** Returns a new client with the same options. */
  duplicate(overrides?: never): object;
  /** The options of the client. */
  readonly options: object;
  /** What the client does, such as `"ready"`. */
  readonly status: string;
  /** Closes the client. */
  disconnect(): void;
}

/** A cluster of ioredis 5 or 6, from `new Cluster()`. */
export interface IoredisClusterLike {
  /** Returns the clients of the nodes. */
  nodes(role?: never): readonly object[];
  /** What the client does, such as `"ready"`. */
  readonly status: string;
  /** Closes the client. */
  disconnect(): void;
}

/** A client of ioredis that a lock can use. */
export type IoredisArgument = IoredisLike | IoredisClusterLike;

/** The members of an ioredis client that a connection needs. */
interface Client extends IoredisLike {
  readonly options: Options;
  readonly stream?: Stream;
  connect(): Promise<unknown>;
  /** ioredis takes a list of arguments as it is, and copies others. */
  call(
    command: string,
    ...args: readonly (string | readonly string[])[]
  ): Promise<unknown>;
  on(event: string, listener: (...args: never[]) => void): unknown;
}

/** The members of its socket. */
interface Stream {
  ref?(): void;
  unref?(): void;
  cork(): void;
  uncork(): void;
}

interface Cluster {
  /** The addresses of the nodes that have each slot. The first is the master. */
  readonly slots: readonly (readonly string[] | undefined)[];
  nodes(role: string): Client[];
  call(command: string): Promise<unknown>;
  refreshSlotsCache(callback: (error?: unknown) => void): void;
}

interface Options {
  readonly host?: string;
  readonly port?: number;
  /** Only ioredis 6 has a default. ioredis 5 keeps options that it ignores. */
  readonly replyMapping?: unknown;
  readonly [option: string]: unknown;
}

/** Options that connections need, no matter what the caller's client has. */
const OVERRIDES: Options = {
  lazyConnect: true,
  protocol: 3,
  replyMapping: "legacy",
  // A connection that reconnected would not have its locks any more.
  retryStrategy: null,
  reconnectOnError: null,
  sentinelRetryStrategy: null,
  failoverDetector: false,
  autoResubscribe: false,
  autoResendUnfulfilledCommands: false,
  enableOfflineQueue: false,
  // The ready check waits until the server has loaded its data. The first
  // command says so, too.
  enableReadyCheck: false,
  enableAutoPipelining: false,
  role: "master",
  readOnly: false,
  db: 0,
  keyPrefix: "",
  stringNumbers: false,
  monitor: false,
  scripts: undefined,
  himportFieldsets: undefined,
  // Each would set a timer for each command.
  commandTimeout: undefined,
  blockingTimeout: undefined,
  // The user of the connection sends heartbeats.
  socketTimeout: undefined,
  // How long a closed socket may stay open for data that was not sent.
  disconnectTimeout: 0,
};

/** Whether a value is a client or a cluster of ioredis, of any version. */
export function isIoredis(client: object): client is IoredisArgument {
  return hasMarks(client, {
    methods: ["addBuiltinCommand", "call", "defineCommand", "disconnect"],
    properties: ["options", "status"],
  });
}

/**
 * Whether a value of {@linkcode isIoredis} is older than ioredis 5. Those had an
 * option for the time that scripts are cached.
 */
export function isOldIoredis(client: IoredisArgument): boolean {
  return "maxScriptsCachingTime" in (client as IoredisLike).options;
}

/** The command that installs the newest version that is tested. */
export const INSTALL = "npm install ioredis@6";

type Ioredis = Pick<typeof import("ioredis"), "Redis">;

/**
 * Imports the ioredis package. A caller that passes a client does not need it.
 *
 * @throws {LockException} If it is not installed.
 * @throws {Unsupported} If it is ioredis 4 or older, or fails.
 */
export async function importIoredis(): Promise<Ioredis> {
  const module = await loadIoredis();
  // ioredis 4 exports the class as the module.
  if (module.Redis !== undefined) return module;
  throw new Unsupported(
    `the installed ioredis package is ioredis 4 or older; update it (${INSTALL})`,
  );
}

/** Bundlers report a missing package as an error if nothing catches that. */
async function loadIoredis(): Promise<Ioredis> {
  try {
    return await import("ioredis");
  } catch (cause) {
    throw importError("ioredis", INSTALL, cause);
  }
}

/**
 * Returns the server that a URL, or other options of ioredis, name.
 *
 * @throws {LockException} If the options are those of node-redis.
 */
export function serverOfIoredis(
  { Redis }: Ioredis,
  url: string | undefined,
  options: Options,
): Server {
  const other = ["socket", "url"].find((name) => name in options);
  if (other !== undefined) {
    throw new LockException(
      `clientOptions.${other} is an option of node-redis, which is not ` +
        "installed; pass host and port for ioredis, or the URL as url",
      { code: "EINVAL" },
    );
  }
  const all = { ...options, ...url === undefined ? {} : addressOf(url) };
  const lazy = { ...all, lazyConnect: true } as object;
  const model = new Redis(lazy) as unknown as Client;
  return serverOf(model, url ?? "", false);
}

/** Returns the options of ioredis for a URL. */
function addressOf(url: string): Options {
  const { tls, ...address } = parseUrl(url);
  return tls ? { ...address, tls: {} } : { ...address };
}

/** Returns the servers of a client or a cluster of ioredis 5 or 6. */
export function fromIoredis(client: IoredisArgument): RedisSource {
  return hasMarks<Cluster>(client, {
      methods: ["nodes"],
      properties: ["slots"],
    })
    ? clusterSource(client)
    : singleServer(client, serverOf(client as Client, "", false));
}

function serverOf(client: Client, address: string, sharded: boolean): Server {
  const hasResp3 = client.options.replyMapping !== undefined;
  const server: Server = {
    address,
    create(name, events) {
      const overrides = { ...OVERRIDES, connectionName: name };
      const duplicate = client.duplicate(overrides as never) as Client;
      return new IoredisConnection(duplicate, events, sharded, hasResp3);
    },
  };
  return hasResp3 ? server : withTwoConnections(server);
}

function clusterSource(cluster: Cluster): RedisSource {
  const refreshSlots = () =>
    new Promise<void>((resolve, reject) => {
      cluster.refreshSlotsCache((error) => error ? reject(error) : resolve());
    });
  return {
    sharded: true,
    poolKey: cluster,
    async locate(key) {
      const slot = keySlot(key);
      // Connects if necessary. The key itself could get a prefix of the client.
      if (cluster.slots[slot] === undefined) await cluster.call("ping");
      if (cluster.slots[slot] === undefined) await refreshSlots();
      const [address = ""] = cluster.slots[slot] ?? [];
      const node = cluster.nodes("master").find(({ options: { host, port } }) =>
        `${host}:${port}` === address
      );
      if (node === undefined) {
        throw new Error("no node has the slot of the key");
      }
      return serverOf(node, address, true);
    },
    refreshSlots,
  };
}

/** How many commands are written together at most. */
const MAX_WRITTEN = 16;

/** A connection of ioredis. */
class IoredisConnection extends ClientConnection {
  readonly ordered = true;
  readonly #client: Client;
  readonly #moves: ShardedChannels;
  /** The number of commands in this turn. */
  #sent = 0;

  constructor(
    client: Client,
    events: ConnectionEvents,
    sharded: boolean,
    hasResp3: boolean,
  ) {
    super(events, { sharded, protocol: hasResp3 ? 3 : 2 });
    this.#client = client;
    this.#moves = new ShardedChannels(
      hasResp3 ? (args) => this.send(args) : undefined,
      (channel) => this.onMoved(channel),
    );
    const onMessage = (channel: string, message: string) =>
      this.onMessage(channel, message);
    client.on("message", onMessage);
    client.on("smessage", onMessage);
    // ioredis prints an "error" event without a listener.
    client.on("error", (error: Error) => {
      const moved = unsolicitedUnsubscribe(error);
      if (moved === undefined) this.onEnd(error);
      else this.#moves.moved(moved);
    });
    client.on("close", () => this.onEnd(new Error("the connection ended")));
    client.on("moved", () => this.#moves.onMoved());
  }

  send(args: readonly string[]): Promise<unknown> {
    const [command = ""] = args;
    // ioredis compares some names in lower case.
    const reply = this.#client.call(command.toLowerCase(), args.slice(1));
    this.#cork();
    return reply;
  }

  /**
   * Writes several commands of one turn together, because a system call takes
   * longer than a command. The first one is not held back, and the others are
   * not held back for long, so the server works meanwhile.
   */
  #cork(): void {
    const { stream } = this.#client;
    if (!stream) return;
    if (this.#sent++ === 0) {
      process.nextTick(() => {
        this.#sent = 0;
        stream.uncork();
      });
    } else if (this.#sent % MAX_WRITTEN === 0) stream.uncork();
    else return;
    stream.cork();
  }

  subscribe(channels: readonly string[], sharded: boolean): Promise<unknown> {
    if (!sharded) return this.#client.call("subscribe", ...channels);
    return this.#moves.subscribed(
      channels,
      this.#client.call("ssubscribe", ...channels),
    );
  }

  unsubscribe(channels: readonly string[], sharded: boolean): Promise<unknown> {
    if (!sharded) return this.#client.call("unsubscribe", ...channels);
    const left = this.#moves.unsubscribed(channels);
    if (left.length === 0) return Promise.resolve();
    return this.#client.call("sunsubscribe", ...left);
  }

  ref(): void {
    this.#client.stream?.ref?.();
  }

  unref(): void {
    this.#client.stream?.unref?.();
  }

  protected connect(): Promise<unknown> {
    return this.#client.connect();
  }

  protected destroy(): void {
    this.#client.disconnect();
  }
}

/**
 * The sharded subscriptions of one connection.
 *
 * The "moved" event of ioredis does not name a channel. It can mean:
 *
 * - In ioredis 6, that the server ended a subscription because the slot of its
 *   channel moved. The server knows which: it counts the subscribers. ioredis 5
 *   does not have this event, and could not send the question.
 * - That `SSUBSCRIBE` was refused with `MOVED`. ioredis 6 rejects the promise,
 *   and ioredis 5 never settles it. So the oldest one is rejected here.
 */
class ShardedChannels {
  readonly #send: Send | undefined;
  readonly #onMoved: (channel: string) => void;
  /** The channels that are subscribed, as far as is known. */
  readonly #channels = new Set<string>();
  /** Reject the promises of the subscriptions that are not confirmed. */
  readonly #pending = new Set<(error: Error) => void>();

  constructor(
    send: Send | undefined,
    onMoved: (channel: string) => void,
  ) {
    this.#send = send;
    this.#onMoved = onMoved;
  }

  /** Returns a promise that settles with the reply of `SSUBSCRIBE`. */
  async subscribed(
    channels: readonly string[],
    reply: Promise<unknown>,
  ): Promise<void> {
    let reject: (error: Error) => void = () => {};
    const refused = new Promise<never>((_, rejectRefused) => {
      reject = rejectRefused;
    });
    this.#pending.add(reject);
    try {
      await Promise.race([reply, refused]);
    } finally {
      this.#pending.delete(reject);
    }
    for (const channel of channels) this.#channels.add(channel);
  }

  /** Returns the channels for which `SUNSUBSCRIBE` has to be sent. */
  unsubscribed(channels: readonly string[]): string[] {
    return channels.filter((channel) => this.#channels.delete(channel));
  }

  /**
   * Handles that a subscription was ended by the server, which ends those of
   * all channels of the slot. The user may unsubscribe from all of them at the
   * first. ioredis 5 would take the end of the next one for the reply.
   */
  moved(ended: string): void {
    const slot = keySlot(ended);
    const all = [...this.#channels].filter((name) => keySlot(name) === slot);
    for (const channel of all) this.#channels.delete(channel);
    for (const channel of all) this.#onMoved(channel);
  }

  /** Handles the event of ioredis. */
  async onMoved(): Promise<void> {
    const [reject] = this.#pending;
    if (reject) {
      reject(new Error("MOVED the slot of the channel is on another node"));
    }
    const channels = [...this.#channels];
    if (channels.length === 0 || this.#send === undefined) return;
    const counts = await count(this.#send, channels);
    channels.forEach((channel, i) => {
      if (counts[2 * i + 1] === 0) this.moved(channel);
    });
  }
}

type Send = (args: readonly string[]) => Promise<unknown>;

/** Returns each channel, followed by the number of its subscribers. */
async function count(
  send: Send,
  channels: readonly string[],
): Promise<unknown[]> {
  try {
    const command = ["PUBSUB", "SHARDNUMSUB", ...channels];
    return await send(command) as unknown[];
  } catch {
    // Any of them may have moved.
    return channels.flatMap((channel) => [channel, 0]);
  }
}

/**
 * Returns the channel of a subscription that the server ended because its slot
 * moved. ioredis 5 does not expect that, and reports an error with the message
 * of the server. This is safe only because its connection is for subscriptions
 * alone: no reply to a command was mistaken for another one.
 */
function unsolicitedUnsubscribe({ message }: Error): string | undefined {
  return /Last reply: sunsubscribe,(.*),\d+$/s.exec(message)?.[1];
}
