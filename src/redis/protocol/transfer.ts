/** The text with which a lease passes from one process to another. */

import { LockLostError } from "../../core/errors.ts";
import { formatName, throwInvalid } from "../../options/validate.ts";
import { parseMember } from "./keys.ts";
import type { LockKeys, LockType } from "./keys.ts";

/** A lease that its holder has transferred. */
export interface Transfer {
  /** The key of the lock. */
  readonly key: string;
  /** The record of the holder. */
  readonly member: string;
  /** The fencing token. */
  readonly token: string;
}

/** Of the protocol, as in the names of keys. */
const VERSION = 1;

/** Returns the text of a transfer. */
export function formatTransfer({ key, member, token }: Transfer): string {
  return JSON.stringify({ portalock: VERSION, key, member, token });
}

/**
 * Parses the text of a transfer, for a lock with these names and of this type.
 *
 * @throws {TypeError} If it is not a string.
 * @throws {RangeError} If it is not such a text, or one of another lock.
 */
export function parseTransfer(
  text: string,
  keys: LockKeys,
  lockType: LockType,
): Transfer {
  if (typeof text !== "string") throwInvalid("text", "a string", text);
  const transfer = parse(text);
  if (transfer === undefined) {
    throwInvalid("text", "what lease.transfer() returned", text, "string");
  }
  if (transfer.key !== keys.key) {
    throw new RangeError(
      `text is of the lock with the key ${formatName(transfer.key)}, not of ` +
        formatName(keys.key),
    );
  }
  const { lockType: other } = parseMember(transfer.member);
  if (other !== lockType) {
    throw new RangeError(`text is of ${kind(other)}, not of ${kind(lockType)}`);
  }
  return transfer;
}

function parse(text: string): Transfer | undefined {
  try {
    const { portalock, key, member, token } = JSON.parse(text);
    const valid = portalock === VERSION && typeof key === "string" &&
      /^(x|s|\d+):[0-9a-f]{32}:\d+:\d+$/.test(member) && /^\d+$/.test(token);
    return valid ? { key, member, token } : undefined;
  } catch {
    return undefined;
  }
}

function kind(lockType: LockType): string {
  if (lockType === "x") return "an exclusive lock";
  if (lockType === "s") return "a shared lock";
  return `a semaphore of ${lockType} places`;
}

/** Returns the reason with which a lease ends that was transferred. */
export function transferred(channel: string): LockLostError {
  return new LockLostError(
    `Transferred the lock on ${formatName(channel)}: it belongs to the ` +
      "process that adopts it",
    { code: "ERR_LOCK_TRANSFERRED" },
  );
}

/** Returns the error of an adoption that comes too late. */
export function notAdoptable(channel: string): LockLostError {
  return new LockLostError(
    `Cannot adopt ${formatName(channel)}: the lease is gone, because it was ` +
      "adopted before, its transfer timed out, or the connection of its " +
      "holder ended; acquire the lock instead",
  );
}
