/** The messages of Python's portalocker, written and parsed. */

/** How a client takes part in a lock, in Python's words. */
export type Role = "exclusive" | "shared" | "pending";

/** A client that replied to a ping. */
export interface Peer {
  readonly id: string;
  readonly role: Role;
}

/** The version of the replies. Replies of other versions count as exclusive. */
const PROTOCOL = 1;

/** Returns a ping, which all subscribers answer on the channel `replyTo`. */
export function pingMessage(replyTo: string): string {
  return JSON.stringify({ message: "ping", response_channel: replyTo });
}

/** Returns the channel for the reply to a message, if the message is a ping. */
export function replyChannel(message: string): string | undefined {
  const channel = parseJson(message)?.response_channel;
  return typeof channel === "string" && channel !== "" ? channel : undefined;
}

/**
 * Returns the reply of a connection to a ping. `!` sorts before every
 * hexadecimal digit, with which Python's identifiers begin. So Python never
 * elects one of its clients before a connection that is pending.
 */
export function pongMessage(connectionId: string, mode: Role): string {
  return JSON.stringify({
    holder_id: `!${connectionId}`,
    mode,
    protocol: PROTOCOL,
  });
}

/** Whether a reply came from this package, not from Python's. */
export function isPortalock({ id }: Peer): boolean {
  return id.startsWith("!");
}

/**
 * Parses a reply to a ping. A reply of another version, or one that cannot be
 * parsed, counts as an exclusive holder, whose identifier is made from
 * `number`.
 */
export function parsePong(message: string, number: number): Peer {
  const { holder_id: id, mode, protocol } = parseJson(message) ?? {};
  const known = protocol === PROTOCOL && typeof id === "string" &&
    (mode === "exclusive" || mode === "shared" || mode === "pending");
  return known
    ? { id, role: mode }
    : { id: `unknown ${number}`, role: "exclusive" };
}

function parseJson(message: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(message);
    return typeof value === "object" && value !== null
      ? value as Record<string, unknown>
      : undefined;
  } catch {
    return undefined;
  }
}
