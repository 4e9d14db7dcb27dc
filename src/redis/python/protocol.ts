/** What Python's portalocker says on a channel, read and written. */

/** How a session takes part in a lock, as Python calls it. */
export type Role = "exclusive" | "shared" | "pending";

/** What a participant answers. */
export interface Peer {
  readonly id: string;
  readonly role: Role;
}

/** The version of the records; others count as exclusive. */
const PROTOCOL = 1;

/** The question who is there, to be answered on a channel of its own. */
export function pingMessage(replyTo: string): string {
  return JSON.stringify({ message: "ping", response_channel: replyTo });
}

/** Where to answer a message, if it is a question. */
export function replyChannel(message: string): string | undefined {
  const channel = parseJson(message)?.response_channel;
  return typeof channel === "string" && channel !== "" ? channel : undefined;
}

/**
 * The answer of a session. `!` sorts before all that Python's identifiers can
 * begin with, so nobody is elected before a session that is pending.
 */
export function pongMessage(connectionId: string, mode: Role): string {
  return JSON.stringify({
    holder_id: `!${connectionId}`,
    mode,
    protocol: PROTOCOL,
  });
}

/** Whether an answer is a session's. */
export function isPortalock({ id }: Peer): boolean {
  return id.startsWith("!");
}

/**
 * Reads an answer. What is none of this version's is an exclusive holder,
 * whose identifier is made up from `number`.
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
