/** The options of locks in Redis, and their checks. */

import {
  DEFAULT_TIMEOUT,
  resolveWait,
  WAIT_FOREVER,
} from "../options/acquire_options.ts";
import type {
  AcquireOptions,
  WaitSettings,
} from "../options/acquire_options.ts";
import type { RemoteHolder } from "../core/errors.ts";
import {
  checkPeriod,
  formatValue,
  rejectUnknownOptions,
  throwInvalid,
} from "../options/validate.ts";
import { LOCK_EX, LOCK_SH, resolveLockType } from "../options/flags.ts";
import type { LockFlags } from "../options/flags.ts";
import { RESERVED } from "./protocol/keys.ts";
import type { KeySpace } from "./protocol/keys.ts";
import { fromClient, fromUrl, isClient } from "./clients/mod.ts";
import type { RedisClientArgument, RedisSource } from "./clients/mod.ts";

const DEFAULT_UNAVAILABLE_TIMEOUT_MS = 5000;

const DEFAULT_TRANSFER_TIMEOUT_MS = 30_000;
const MAX_TRANSFER_TIMEOUT_MS = 3_600_000;

/** How long the text of an `info` may be, in bytes. */
const MAX_INFO_BYTES = 4096;

/** The options of {@linkcode RedisLock.acquire}. */
export interface RedisAcquireOptions extends Omit<AcquireOptions, "onWait"> {
  /**
   * Called once, when the wait for other holders has lasted 100 ms, for example
   * to report what holds the lock. If it throws, the wait ends and `acquire()`
   * rejects with that error.
   */
  onWait?: ((wait: LastingRedisWait) => void) | undefined;
}

/** The options of {@linkcode RedisLease.transfer}. */
export interface TransferOptions {
  /**
   * How long the other process has to adopt the lease, in milliseconds: at most
   * an hour. After that, the lock is released.
   *
   * @default {30000}
   */
  timeout?: number | undefined;
}

/** The argument of {@linkcode RedisAcquireOptions.onWait}. */
export interface LastingRedisWait {
  /** The name of the lock for which the caller waits. */
  channel: string;
  /** The duration of the wait so far, in milliseconds. */
  waited: number;
  /**
   * Holders of the lock: all of them, up to a hundred. Empty if Python's
   * portalocker holds the lock, or if the server does not answer.
   */
  holders: RemoteHolder[];
}

/**
 * How to connect: the options of `createClient` of node-redis or, if only
 * ioredis is installed, of `new Redis` of ioredis. Those of ioredis do not have
 * `socket`, but `host` and `port`.
 */
export interface RedisConnectionOptions {
  /** The user name. */
  username?: string | undefined;
  /** The password of the user. */
  password?: string | undefined;
  /** The number of the database. All locks are in database 0. */
  database?: number | undefined;
  /** `host`, `port`, `path`, `tls` and other socket options of node-redis. */
  socket?: object | undefined;
  /** Other options of the package. */
  [option: string]: unknown;
}

/** The options of a {@linkcode RedisSemaphore}. */
export interface RedisSemaphoreOptions extends RedisAcquireOptions {
  /**
   * A connected client, pool, cluster or sentinels of node-redis 5 or 6, a
   * client or cluster of ioredis 5 or 6, or a `RedisClient` of Bun. The lock
   * uses the server and the credentials of the client, but opens its own
   * connection, and neither closes nor changes the client. Without a client,
   * the lock connects to `url`.
   */
  client?: RedisClientArgument | undefined;
  /**
   * The address of the server, as `redis://user:password@host:port/database`.
   * Use `rediss:` for TLS. All locks are in database 0, no matter which database
   * the URL names.
   *
   * @default {"redis://localhost:6379"}
   */
  url?: string | undefined;
  /**
   * The options of the package for the connection to `url`, or of node-redis to
   * the master if `client` is sentinels. Locks with the same object share a
   * connection.
   */
  clientOptions?: RedisConnectionOptions | undefined;
  /**
   * Begins the names of all keys and channels, so that several environments can
   * share a server: locks with different prefixes are independent. Python's
   * portalocker needs the same prefix in the name of the lock. End it with a
   * separator, such as `"staging:"`.
   *
   * @default {""}
   */
  prefix?: string | undefined;
  /**
   * What other processes learn about this holder or waiter, by
   * {@linkcode AlreadyLocked.holder}, `onWait` and `probe()`. Any value that
   * JSON can express in 4,096 bytes, such as a host name and a PID.
   */
  info?: unknown;
  /**
   * How long a connection may be silent, in milliseconds. If the server sends
   * nothing for this time, the lock counts as lost. If another holder does not
   * answer twice in a row, a waiter has the server close its connection.
   *
   * @default {5000}
   */
  unavailableTimeout?: number | undefined;
}

/** The options of a {@linkcode RedisLock}. */
export interface RedisLockOptions extends RedisSemaphoreOptions {
  /**
   * Whether the lock is shared: several readers may hold it at the same time,
   * and no writer. Not together with `flags`.
   *
   * @default {false}
   */
  shared?: boolean | undefined;
  /**
   * The lock in the terms of Python's portalocker: `LOCK_EX` (exclusive) or
   * `LOCK_SH` (shared).
   *
   * @default {LOCK_EX}
   */
  flags?: LockFlags | undefined;
}

/** How to wait for a lock, with the defaults filled in. */
export type RedisWaitSettings = WaitSettings<LastingRedisWait>;

/** {@linkcode RedisSemaphoreOptions} with the defaults filled in. */
export interface RedisSettings {
  readonly source: RedisSource;
  readonly space: KeySpace;
  /** The text of the option `info`, or `""`. */
  readonly info: string;
  readonly unavailableTimeout: number;
  readonly wait: RedisWaitSettings;
}

const REDIS_ACQUIRE_OPTIONS: Record<keyof RedisAcquireOptions, true> = {
  timeout: true,
  checkInterval: true,
  failWhenLocked: true,
  signal: true,
  onWait: true,
};

const SEMAPHORE_OPTIONS: Record<keyof RedisSemaphoreOptions, true> = {
  ...REDIS_ACQUIRE_OPTIONS,
  client: true,
  url: true,
  clientOptions: true,
  prefix: true,
  info: true,
  unavailableTimeout: true,
};

const LOCK_OPTIONS: Record<keyof RedisLockOptions, true> = {
  ...SEMAPHORE_OPTIONS,
  shared: true,
  flags: true,
};

/**
 * Checks the options of a lock and fills in the defaults.
 *
 * @throws {TypeError} If an option is unknown or has a wrong type.
 * @throws {RangeError} If an option has a value that is not allowed.
 */
export function resolveRedisLockOptions(
  options: RedisLockOptions = {},
): RedisSettings & { readonly exclusive: boolean } {
  rejectClient(options);
  rejectUnknownOptions(options, LOCK_OPTIONS);
  const { flags, shared } = options;
  if (flags !== undefined && flags !== LOCK_EX && flags !== LOCK_SH) {
    throw new RangeError(
      `flags must be LOCK_EX or LOCK_SH, not ${formatValue(flags)}`,
    );
  }
  const { exclusive } = resolveLockType({ flags, shared });
  return { ...resolveChecked(options), exclusive };
}

/**
 * Checks the options of a semaphore and fills in the defaults.
 *
 * @throws {TypeError} If an option is unknown or has a wrong type.
 * @throws {RangeError} If an option has a value that is not allowed.
 */
export function resolveRedisOptions(
  options: RedisSemaphoreOptions = {},
): RedisSettings {
  rejectClient(options);
  rejectUnknownOptions(options, SEMAPHORE_OPTIONS);
  return resolveChecked(options);
}

/** Rejects a client in the place of the options, which has an `info()`. */
function rejectClient(options: object): void {
  if (!isClient(options)) return;
  throw new TypeError("options must not be a client: pass it as { client }");
}

/** Fills in the defaults of options whose names are known. */
function resolveChecked(options: RedisSemaphoreOptions): RedisSettings {
  const {
    prefix = "",
    unavailableTimeout = DEFAULT_UNAVAILABLE_TIMEOUT_MS,
  } = options;
  checkPrefix(prefix);
  checkPeriod("unavailableTimeout", unavailableTimeout);
  const wait = resolveWait(options, {
    ...WAIT_FOREVER,
    timeout: DEFAULT_TIMEOUT,
  });
  const source = resolveSource(options);
  const space = { prefix, sharded: source.sharded };
  const info = formatInfo(options.info);
  return { source, space, info, unavailableTimeout, wait };
}

/**
 * Checks the options of one `acquire` and fills in those of the lock.
 *
 * @throws {TypeError} If an option is unknown or has a wrong type.
 * @throws {RangeError} If an option has a value that is not allowed.
 */
export function resolveRedisWait(
  options: RedisAcquireOptions | undefined,
  defaults: RedisWaitSettings,
): RedisWaitSettings {
  if (options === undefined) return defaults;
  rejectUnknownOptions(options, REDIS_ACQUIRE_OPTIONS);
  return resolveWait(options, defaults);
}

/**
 * Checks the options of a transfer, and returns its timeout.
 *
 * @throws {TypeError} If an option is unknown or has a wrong type.
 * @throws {RangeError} If an option has a value that is not allowed.
 */
export function resolveTransferTimeout(options: TransferOptions = {}): number {
  rejectUnknownOptions(options, { timeout: true });
  const { timeout = DEFAULT_TRANSFER_TIMEOUT_MS } = options;
  checkPeriod("timeout", timeout);
  if (timeout <= MAX_TRANSFER_TIMEOUT_MS) return timeout;
  throwInvalid(
    "timeout",
    `at most ${MAX_TRANSFER_TIMEOUT_MS} ms`,
    timeout,
    "number",
  );
}

/**
 * Checks the name of a lock.
 *
 * @throws {TypeError} If the name is not a string.
 * @throws {RangeError} If the name is empty, reserved or not valid Unicode.
 */
export function checkChannel(channel: string, { prefix }: KeySpace): string {
  if (typeof channel !== "string") {
    throwInvalid("channel", "a string", channel);
  }
  if (channel === "") throw new RangeError("channel must not be empty");
  // Clients would replace it by U+FFFD, which is another channel.
  if (/\p{Surrogate}/u.test(channel)) {
    throw new RangeError(
      `channel must not contain a lone surrogate: ${formatValue(channel)}`,
    );
  }
  for (const name of [channel, prefix + channel]) {
    if (!name.startsWith(RESERVED)) continue;
    throw new RangeError(
      `channel must not begin with ${RESERVED}, the prefix of this package's ` +
        `keys: ${formatValue(name)}`,
    );
  }
  return channel;
}

/** What a prefix must not contain, and why. */
const BAD_PREFIXES: [RegExp, string][] = [
  [/\p{Cc}/u, "control characters"],
  // Clients would replace it by U+FFFD, which is another prefix.
  [/\p{Surrogate}/u, "a lone surrogate"],
  // The server would not find the hash tag that keeps a lock in one slot.
  [/^[^{]*\{\}/, "the empty hash tag {}"],
];

function checkPrefix(prefix: string): void {
  if (typeof prefix !== "string") throwInvalid("prefix", "a string", prefix);
  for (const [pattern, what] of BAD_PREFIXES) {
    if (pattern.test(prefix)) {
      throw new RangeError(
        `prefix must not contain ${what}, not ${formatValue(prefix)}`,
      );
    }
  }
  if (prefix.startsWith(RESERVED)) {
    throw new RangeError(
      `prefix must not begin with ${RESERVED}, which this package adds: ` +
        formatValue(prefix),
    );
  }
}

/** Returns the JSON text of an info, or `""` without one. */
function formatInfo(info: unknown): string {
  if (info === undefined) return "";
  let text: string | undefined;
  try {
    text = JSON.stringify(info);
  } catch (cause) {
    const message = "info must be a value that JSON.stringify() accepts";
    throw new TypeError(message, { cause });
  }
  if (text === undefined) throwInvalid("info", "a JSON value", info);
  const { length } = new TextEncoder().encode(text);
  if (length <= MAX_INFO_BYTES) return text;
  throw new RangeError(
    `info must have at most ${MAX_INFO_BYTES} bytes as JSON, not ${length}`,
  );
}

/** The pool keys of URLs without options, so that equal URLs share one. */
const keysByUrl = new Map<string, object>();

function resolveSource(options: RedisSemaphoreOptions): RedisSource {
  const { client, url, clientOptions } = options;
  if (
    clientOptions !== undefined &&
    (typeof clientOptions !== "object" || clientOptions === null)
  ) {
    throwInvalid("clientOptions", "an object", clientOptions);
  }
  if (client !== undefined) {
    if (url !== undefined) {
      throw new TypeError(
        "client and url exclude each other; pass one of them",
      );
    }
    return fromClient(client, clientOptions);
  }
  if (url !== undefined) checkUrl(url);
  return fromUrl(clientOptions ?? keyOf(url ?? ""), url, clientOptions);
}

function keyOf(url: string): object {
  let key = keysByUrl.get(url);
  if (key === undefined) keysByUrl.set(url, key = {});
  return key;
}

function checkUrl(url: string): void {
  if (typeof url !== "string") {
    throwInvalid("url", "a string", url);
  }
  // The messages do not contain the URL, because it may contain a password.
  if (!/^(rediss?|unix):/.test(url)) {
    throw new RangeError("url must begin with redis:, rediss: or unix:");
  }
  if (isReadable(url)) return;
  throw new RangeError(
    "url cannot be read; expected redis://user:password@host:port or " +
      "unix:///path, with percent-encoded special characters",
  );
}

/** Whether the library, which is imported later, can parse a URL. */
function isReadable(url: string): boolean {
  try {
    decodeURIComponent(url);
    // URL cannot parse a path without a host.
    if (url.startsWith("unix:")) {
      return /^unix:\/\/([^@/]*@)?\/[^?#]/.test(url);
    }
    return /^\/?\d*$/.test(new URL(url).pathname);
  } catch {
    return false;
  }
}
