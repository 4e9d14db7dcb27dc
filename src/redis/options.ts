/** The options of locks in Redis: checked and explained once. */

import { inspect } from "node:util";
import {
  ACQUIRE_OPTIONS,
  DEFAULT_TIMEOUT_MS,
  resolveWait,
  WAIT_FOREVER,
} from "../options/acquire_options.ts";
import type {
  AcquireOptions,
  WaitSettings,
} from "../options/acquire_options.ts";
import { checkDuration, rejectUnknownOptions } from "../options/validate.ts";
import { LOCK_EX, LOCK_SH } from "../options/flags.ts";
import type { LockFlags } from "../options/flags.ts";
import { RESERVED } from "./protocol/keys.ts";
import { fromClient, fromUrl } from "./connection/client_adapter.ts";
import type {
  RedisClientArgument,
  RedisSource,
} from "./connection/client_adapter.ts";

/** How to wait for a lock in Redis. */
export type RedisAcquireOptions = Omit<AcquireOptions, "onWait">;

/** How to connect: what `createClient` of node-redis takes. */
export interface RedisConnectionOptions {
  /** The name of the user. */
  username?: string;
  /** The password of the user. */
  password?: string;
  /** The number of the database; it means nothing to locks. */
  database?: number;
  /** `host`, `port`, `path`, `tls` and whatever else node-redis knows. */
  socket?: object;
  /** Whatever else node-redis knows. */
  [option: string]: unknown;
}

/** Where the server is, and how to wait. */
export interface RedisSemaphoreOptions extends RedisAcquireOptions {
  /**
   * A client, a pool, a cluster or sentinels of node-redis 6, connected, whose
   * server and credentials are used. It is neither closed nor changed: the lock
   * opens a connection of its own. Without it there is `url`.
   */
  client?: RedisClientArgument;
  /**
   * The server, as `redis://user:password@host:port/database` or with
   * `rediss:` for TLS.
   *
   * @default {"redis://localhost:6379"}
   */
  url?: string;
  /**
   * Options of node-redis for the connection to `url`, or to the master that
   * the sentinels of `client` name. Locks share a connection if they are given
   * the same object.
   */
  clientOptions?: RedisConnectionOptions;
  /**
   * How long a connection may be silent, in milliseconds. A server that sends
   * nothing for so long is taken for lost, and with it the lock. Another holder
   * that does not answer twice in a row is disconnected.
   *
   * @default {5000}
   */
  unavailableTimeout?: number;
}

/** Where the server is, what to lock and how to wait. */
export interface RedisLockOptions extends RedisSemaphoreOptions {
  /**
   * `LOCK_EX` or `LOCK_SH`.
   *
   * @default {LOCK_EX}
   */
  flags?: LockFlags;
}

/** {@linkcode RedisSemaphoreOptions} with every option filled in. */
export interface RedisSettings {
  readonly source: RedisSource;
  readonly unavailableTimeout: number;
  readonly wait: WaitSettings;
}

const REDIS_ACQUIRE_OPTIONS = ACQUIRE_OPTIONS.filter((name) =>
  name !== "onWait"
);

const SEMAPHORE_OPTIONS = [
  ...REDIS_ACQUIRE_OPTIONS,
  "client",
  "url",
  "clientOptions",
  "unavailableTimeout",
];

const LOCK_OPTIONS = [...SEMAPHORE_OPTIONS, "flags"];

/** Checks the options of a lock and fills in the defaults. */
export function resolveRedisLockOptions(
  options: RedisLockOptions = {},
): RedisSettings & { readonly exclusive: boolean } {
  rejectUnknownOptions(options, LOCK_OPTIONS);
  const { flags = LOCK_EX, ...others } = options;
  if (flags !== LOCK_EX && flags !== LOCK_SH) {
    throw new RangeError(
      `flags must be LOCK_EX or LOCK_SH, not ${inspect(flags)}`,
    );
  }
  return { ...resolveRedisOptions(others), exclusive: flags === LOCK_EX };
}

/** Checks the options of a semaphore and fills in the defaults. */
export function resolveRedisOptions(
  options: RedisSemaphoreOptions = {},
): RedisSettings {
  rejectUnknownOptions(options, SEMAPHORE_OPTIONS);
  const { unavailableTimeout = DEFAULT_TIMEOUT_MS } = options;
  checkDuration(
    "unavailableTimeout",
    unavailableTimeout,
    unavailableTimeout > 0 && unavailableTimeout < Infinity,
    "more than 0 and finite",
  );
  const wait = resolveWait(options, {
    ...WAIT_FOREVER,
    timeout: DEFAULT_TIMEOUT_MS,
  });
  return { source: source(options), unavailableTimeout, wait };
}

/** Checks the options of one `acquire`; what they leave open is the lock's. */
export function resolveRedisWait(
  options: RedisAcquireOptions | undefined,
  defaults: WaitSettings,
): WaitSettings {
  if (options === undefined) return defaults;
  rejectUnknownOptions(options, REDIS_ACQUIRE_OPTIONS);
  return resolveWait(options, defaults);
}

/** Checks the name of a lock. */
export function checkChannel(channel: string): string {
  if (typeof channel !== "string") {
    throw new TypeError(`channel must be a string, not ${inspect(channel)}`);
  }
  if (channel === "") throw new RangeError("channel must not be empty");
  if (channel.startsWith(RESERVED)) {
    throw new RangeError(
      `channel must not begin with ${RESERVED}, which is how the keys of ` +
        `locks begin: ${inspect(channel)}`,
    );
  }
  return channel;
}

/** What stands for a URL wherever it is given without options. */
const byUrl = new Map<string, object>();

function source(options: RedisSemaphoreOptions): RedisSource {
  const { client, url, clientOptions } = options;
  if (
    clientOptions !== undefined &&
    (typeof clientOptions !== "object" || clientOptions === null)
  ) {
    throw new TypeError(
      `clientOptions must be an object, not ${inspect(clientOptions)}`,
    );
  }
  if (client !== undefined) {
    if (url !== undefined) {
      throw new TypeError("client and url exclude each other");
    }
    const known = typeof client === "object" && client !== null
      ? fromClient(client, clientOptions)
      : undefined;
    if (known) return known;
    throw new TypeError(
      "client must be a client, a pool, a cluster or sentinels of " +
        `node-redis 6, not ${client === null ? null : typeof client}`,
    );
  }
  if (url === undefined) {
    return fromUrl(clientOptions ?? named(""), clientOptions ?? {});
  }
  checkUrl(url);
  return clientOptions
    ? fromUrl(clientOptions, { ...clientOptions as object, url })
    : fromUrl(named(url), { url });
}

function named(url: string): object {
  const known = byUrl.get(url);
  if (known) return known;
  const identity = {};
  byUrl.set(url, identity);
  return identity;
}

function checkUrl(url: string): void {
  if (typeof url !== "string") {
    throw new TypeError(`url must be a string, not ${inspect(url)}`);
  }
  // Messages do not show it: it may contain a password.
  if (!/^(rediss?|unix):/.test(url)) {
    throw new RangeError("url must begin with redis:, rediss: or unix:");
  }
  if (!isReadable(url)) throw new RangeError("url cannot be read");
}

/** Whether node-redis, which is loaded only later, can read a URL. */
function isReadable(url: string): boolean {
  try {
    decodeURIComponent(url);
    // Before a path there is no host, which the class does not understand.
    if (url.startsWith("unix:")) {
      return /^unix:\/\/([^@/]*@)?\/[^?#]/.test(url);
    }
    return /^\/?\d*$/.test(new URL(url).pathname);
  } catch {
    return false;
  }
}
