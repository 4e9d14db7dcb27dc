/** The subscriptions on the server, and what it sends to sessions. */

import {
  C,
  type Configuration,
  connectionAt,
  connectionOf,
  type MessageName,
  OWN,
  P,
  type State,
} from "./state.ts";

/** Returns `PUBSUB NUMSUB C`. */
export function subscribers({ connections, pythons }: State): number {
  return connections.filter(({ subscribed }) => subscribed & C).length +
    pythons.filter(({ subscribed }) => subscribed).length;
}

/** Returns the number of Python clients: the other subscribers. */
export function pythonClients(config: Configuration, state: State): number {
  if (config.without === "Python clients are not counted") return 0;
  const connections = state.connections.filter(({ subscribed }) =>
    subscribed & P
  );
  return subscribers(state) - connections.length;
}

/** Returns whether the session of a member is alive. */
export function isAlive(state: State, member: number): boolean {
  return (connectionAt(state, connectionOf(member)).subscribed & OWN) !== 0;
}

/** Publishes on the channel of a member's session, if its process reads it. */
export function publish(
  state: State,
  member: number,
  name: MessageName,
  count = 0,
): void {
  const session = connectionAt(state, connectionOf(member));
  const hears = session.process === "runs" && session.subscribed !== 0;
  if (hears) session.messages.push([name, member, count, "p"]);
}

/** Replies to a script. With one connection, replies are between messages. */
export function reply(
  config: Configuration,
  state: State,
  member: number,
  name: MessageName,
  count = 0,
): void {
  if (!config.twoConnections) return publish(state, member, name, count);
  const session = connectionAt(state, connectionOf(member));
  const hears = session.process === "runs" && !session.commandsEnded;
  if (hears) session.replies.push([name, member, count, "p"]);
}

/** Returns the requester number of a member. Those of Python clients are lower. */
export const requesterOf = (member: number) => 1000 + member;
