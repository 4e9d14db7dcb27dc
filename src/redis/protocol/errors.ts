/** The errors of servers and connections, and what the caller can do. */

import { errorCode, Unsupported } from "../../../ffi/types.ts";
import {
  LockException,
  LockLostError,
  LockUnsupported,
  MAX_MESSAGE,
} from "../../core/errors.ts";
import {
  formatName,
  formatValue,
  printable,
  shorten,
} from "../../options/validate.ts";
import type { LockKeys } from "./keys.ts";

/**
 * Error codes of servers that refuse some commands for a while: a script runs,
 * replicas are away, the disk or the memory is full.
 */
const TEMPORARY = ["BUSY", "LOADING", "MISCONF", "NOREPLICAS", "OOM"];

/** These, and error codes of servers that are moving or failing over. */
const RETRYABLE = [
  ...TEMPORARY,
  "ASK",
  "CLUSTERDOWN",
  "MASTERDOWN",
  "MOVED",
  "READONLY",
  "TRYAGAIN",
  "UNSUBSCRIBED",
];

/** What a server says that refuses a connection. It does not have a code. */
const TOO_MANY_CLIENTS = /^ERR max number of clients reached/;

/** What a server says if a script runs a command that the user must not run. */
const DENIED_IN_SCRIPT =
  /^ERR (The user executing the script can't|ACL failure in script)/;

/** The message for servers and proxies without RESP3. */
export const NO_RESP3: string =
  "the server, or a proxy before it, does not support RESP3; use Redis 7 " +
  "or newer";

/** The message for a client of one server that is a node of a cluster. */
export const NODE_OF_CLUSTER: string =
  "the server is part of a cluster; pass a client from createCluster, or a " +
  "Cluster of ioredis";

/** What to do about an error code of the server. */
const HINTS: Record<string, string> = {
  BUSY: "a script blocks the server; end it with SCRIPT KILL",
  CROSSSLOT: NODE_OF_CLUSTER,
  LOADING: "the server is still loading its data",
  MISCONF: "the server refuses writes; see its log",
  NOREPLICAS: "the server refuses writes without its replicas",
  MOVED: NODE_OF_CLUSTER,
  NOAUTH: "pass a password",
  NOPERM: "the user needs the commands and channels listed in " +
    "https://github.com/x/portalock/blob/main/docs/redis.md#permissions",
  NOPROTO: NO_RESP3,
  NOSCRIPT: "the server does not keep scripts",
  OOM: "the server has reached its memory limit",
  READONLY: "the server is a replica; connect to its master",
  WRONGPASS: "the user name or the password is wrong",
};

/** Returns what to do about an error that concerns the names of a lock. */
function namesHint(
  code: string | undefined,
  { namespace, key, clock, shared }: LockKeys,
): string | undefined {
  if (code === "WRONGTYPE") {
    return `another program has written to ${formatName(clock)}, or to a key ` +
      `that begins with ${
        formatName(key)
      }; delete it, or set the option prefix`;
  }
  if (code !== "NOPERM") return undefined;
  const channel = shared === undefined ? "" : ` or ${formatName(shared)}`;
  return `${HINTS.NOPERM}, for keys and channels that begin with ` +
    `${formatName(namespace)}${channel}`;
}

/** Returns the word with which a server's error begins, such as `"NOPERM"`. */
export function replyCode(error: unknown): string | undefined {
  const message = errorMessage(error);
  if (DENIED_IN_SCRIPT.test(message)) return "NOPERM";
  return /^([A-Z][A-Z]+)( |$)/.exec(message)?.[1];
}

/** Returns the message of an error, which may be of another realm. */
function errorMessage(error: unknown): string {
  const message = (error as { message?: unknown } | null | undefined)?.message;
  return typeof message === "string" ? message : "";
}

/** Returns the name of the class of an error, which may be of another realm. */
function errorName(error: unknown): unknown {
  return (error as { name?: unknown } | null | undefined)?.name;
}

/** The wait ended before the server replied. */
export class ReplyTimeout extends Error {
  readonly code = "ETIMEDOUT";
}

/** Whether a key is moving, or has moved, to another node of a cluster. */
export function isRedirect(error: unknown): boolean {
  return ["ASK", "MOVED", "TRYAGAIN"].includes(replyCode(error) ?? "");
}

/** Whether the server refuses a command for a while, and has not lost data. */
export function isTemporary(error: unknown): boolean {
  return TEMPORARY.includes(replyCode(error) ?? "");
}

/** Whether a retry may succeed, perhaps on another connection. */
export function isRetryable(error: unknown): boolean {
  if (error instanceof LockException || error instanceof Unsupported) {
    return false;
  }
  if (error instanceof TypeError || error instanceof RangeError) return false;
  // Deno does not permit it.
  if (errorName(error) === "NotCapable") return false;
  const code = replyCode(error);
  return code === undefined || RETRYABLE.includes(code) ||
    TOO_MANY_CLIENTS.test(errorMessage(error));
}

/**
 * Converts an error of the server or of the connection to the one that the
 * caller gets.
 *
 * @param summary The beginning of the message, such as `"Cannot lock jobs"`.
 * @param error The error to convert, which becomes the `cause`.
 * @param waited How long the caller waited, in milliseconds.
 * @param keys The names of the lock, for errors that concern them.
 * @returns The error to throw.
 */
export function toLockException(
  summary: string,
  error: unknown,
  waited?: number,
  keys?: LockKeys,
): LockException {
  const { reason, code } = describe(error, keys);
  if (error instanceof Unsupported) {
    return new LockUnsupported(`${summary}: ${reason}`, { cause: error });
  }
  return new LockException(
    `${summary}: ${reason}` +
      (waited === undefined ? "" : ` (waited ${Math.round(waited)} ms)`),
    // The errors of node-redis for a connection that ended do not have a code.
    { code: code ?? "ECONNRESET", cause: error },
  );
}

/**
 * Returns the error of a holder that lost its lock.
 *
 * @param channel The name of the lock.
 * @param error Why it is lost, which becomes the `cause`.
 * @returns The reason with which the `signal` of the lease aborts.
 */
export function lockLost(channel: string, error: unknown): LockLostError {
  const { reason } = describe(error);
  return new LockLostError(
    `Lost the lock on ${formatName(channel)}: ${reason}`,
    {
      cause: error,
    },
  );
}

function describe(
  error: unknown,
  keys?: LockKeys,
): { reason: string; code?: string } {
  const message = errorMessage(error);
  const code = replyCode(error) ?? errorCode(error);
  const hint = /^ERR unknown command\W+HELLO\b/i.test(message)
    ? NO_RESP3
    : keys && namesHint(code, keys) || HINTS[code ?? ""];
  const details = printable(
    shorten(message || code || formatValue(error), MAX_MESSAGE),
  );
  const reason = details + (hint === undefined ? "" : ` (${hint})`);
  return code === undefined ? { reason } : { reason, code };
}
