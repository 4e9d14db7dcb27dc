/** What goes wrong with a server, and what to do about it. */

import { LockException } from "../../core/errors.ts";

/** What servers say while they are being started, moved or replaced. */
const RETRYABLE = [
  "ASK",
  "CLUSTERDOWN",
  "LOADING",
  "MASTERDOWN",
  "MOVED",
  "READONLY",
  "TRYAGAIN",
];

const NO_RESP3 = "the server or a proxy before it speaks no RESP3, " +
  "which needs Redis 6";

/** What servers say, and what to do about it. */
const HINTS: Record<string, string> = {
  BUSY: "a script blocks the server; end it with SCRIPT KILL",
  CROSSSLOT: "the server is part of a cluster; give a cluster client",
  LOADING: "the server is still loading its data",
  MISCONF: "the server refuses to write; see its log",
  MOVED: "the server is part of a cluster; give a cluster client",
  NOAUTH: "give a password",
  NOPERM: "the user needs the commands and channels that " +
    "docs/redis.md names",
  NOPROTO: NO_RESP3,
  NOSCRIPT: "the server forgets scripts at once",
  OOM: "the server has no memory left",
  READONLY: "the server is a replica; connect to its master",
  WRONGPASS: "the user name or the password is wrong",
};

/** The word with which a server's error begins, such as `"NOPERM"`. */
export function replyCode(error: unknown): string | undefined {
  return /^([A-Z][A-Z]+)( |$)/.exec((error as Error)?.message)?.[1];
}

/** The wait was over before the server had answered. */
export class ReplyTimeout extends Error {}

/** Whether a key is, or is about to be, on another server of a cluster. */
export function isRedirect(error: unknown): boolean {
  return ["ASK", "MOVED", "TRYAGAIN"].includes(replyCode(error) ?? "");
}

/** Whether it is worth trying again, perhaps with another connection. */
export function isRetryable(error: unknown): boolean {
  if (error instanceof LockException) return false;
  if (error instanceof TypeError || error instanceof RangeError) return false;
  const code = replyCode(error);
  return code === undefined || RETRYABLE.includes(code);
}

/** What a user sees of an error of the server or of the connection. */
export function toLockException(
  what: string,
  error: unknown,
  waited?: number,
): LockException {
  const { message, code: system } = error as Error & { code?: unknown };
  const code = replyCode(error) ??
    (typeof system === "string" ? system : undefined);
  const advice = /^ERR unknown command\W+HELLO\b/i.test(message)
    ? NO_RESP3
    : HINTS[code ?? ""];
  const details = message || code || String(error);
  return new LockException(
    `${what}: ${details}` + (advice === undefined ? "" : ` (${advice})`) +
      (waited === undefined ? "" : ` (waited ${Math.round(waited)} ms)`),
    { code, cause: error },
  );
}
