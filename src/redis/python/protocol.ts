/** What Python's portalocker says on a channel, read and written. */

/** How a session takes part in a lock, as Python calls it. */
export type Mode = "exclusive" | "shared" | "pending";

/** What a participant answers. */
export interface Participant {
  readonly id: string;
  readonly mode: Mode;
}

/** The version of the records; others count as exclusive. */
const PROTOCOL = 1;

/** The question who is there, to be answered on a channel of its own. */
export function question(responses: string): string {
  return JSON.stringify({ message: "ping", response_channel: responses });
}

/** Where to answer a message, if it is a question. */
export function responseChannel(message: string): string | undefined {
  const channel = parsed(message)?.response_channel;
  return typeof channel === "string" && channel !== "" ? channel : undefined;
}

/**
 * The answer of a session. `!` sorts before all that Python's identifiers can
 * begin with, so nobody is elected before a session that is pending.
 */
export function answer(session: string, mode: Mode): string {
  return JSON.stringify({ holder_id: `!${session}`, mode, protocol: PROTOCOL });
}

/** Whether an answer is a session's. */
export function isSession({ id }: Participant): boolean {
  return id.startsWith("!");
}

/**
 * Reads an answer. What is none of this version's is an exclusive holder,
 * whose identifier is made up from `number`.
 */
export function participant(message: string, number: number): Participant {
  const { holder_id: id, mode, protocol } = parsed(message) ?? {};
  const known = protocol === PROTOCOL && typeof id === "string" &&
    (mode === "exclusive" || mode === "shared" || mode === "pending");
  return known ? { id, mode } : { id: `unknown ${number}`, mode: "exclusive" };
}

function parsed(message: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(message);
    return typeof value === "object" && value !== null
      ? value as Record<string, unknown>
      : undefined;
  } catch {
    return undefined;
  }
}
