/** The subscriptions on the server, and messages to connections. */

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

/** Returns whether the connection of a member is alive. */
export function isAlive(state: State, member: number): boolean {
  return (connectionAt(state, connectionOf(member)).subscribed & OWN) !== 0;
}

/** Sends a message to the connection of a member, if its process reads it. */
export function send(
  state: State,
  member: number,
  name: Exclude<MessageName, "ping" | "reply">,
  count = 0,
): void {
  const connection = connectionAt(state, connectionOf(member));
  const hears = connection.process === "runs" && connection.subscribed !== 0;
  if (hears) connection.messages.push([name, member, count, "p"]);
}

/** Returns the requester number of a member. Those of Python clients are lower. */
export const requesterOf = (member: number) => 1000 + member;
