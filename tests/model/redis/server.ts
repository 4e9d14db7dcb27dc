/** What the server knows of connections, and sends to them. */

import {
  C,
  type Configuration,
  type MessageName,
  OWN,
  P,
  sessionOf,
  type State,
} from "./state.ts";

/** `PUBSUB NUMSUB C`. */
export function subscribers({ sessions, pythons }: State): number {
  return sessions.filter(({ subscribed }) => subscribed & C).length +
    pythons.filter(({ subscribed }) => subscribed).length;
}

/** Subscribers that are no sessions. */
export function foreigners(config: Configuration, state: State): number {
  if (config.without === "foreigners are not counted") return 0;
  const sessions = state.sessions.filter(({ subscribed }) => subscribed & P);
  return subscribers(state) - sessions.length;
}

/** Whether the session of an entry is there. */
export function isAlive({ sessions }: State, entry: number): boolean {
  return (sessions[sessionOf(entry)].subscribed & OWN) !== 0;
}

/** Tells a session, unless nobody listens any more. */
export function send(
  { sessions }: State,
  entry: number,
  name: Exclude<MessageName, "ping" | "answer">,
  count = 0,
): void {
  const session = sessions[sessionOf(entry)];
  const hears = session.process === "runs" && session.subscribed !== 0;
  if (hears) session.messages.push([name, entry, count, "p"]);
}

/** Participants of Python's have small numbers, entries that ask large ones. */
export const asker = (entry: number) => 1000 + entry;
