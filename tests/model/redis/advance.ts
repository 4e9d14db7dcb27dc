/** The part of every script that grants the lock to waiters. */

import { isAlive, publish, pythonClients, reply } from "./server.ts";
import { type Configuration, operationOf, type State } from "./state.ts";

/** Returns the first waiter whose session is alive. */
export const firstAlive = (state: State) =>
  state.queue.find((member) => isAlive(state, member));

/**
 * Removes dead waiters at the head of the queue, and grants the lock to waiters
 * that may enter beside the holders, dead ones included. Only a caller that is
 * blocked at the head itself checks which holders are alive.
 */
export function advance(
  config: Configuration,
  state: State,
  caller: number,
): void {
  advanceQueue(config, state, caller);
  if (state.queue[0] !== caller) return;
  removeDead(config, state);
  advanceQueue(config, state, caller);
}

function advanceQueue(
  config: Configuration,
  state: State,
  caller: number,
): void {
  for (;;) {
    const [first] = state.queue;
    if (first === undefined) return;
    const alive = isAlive(state, first) ||
      first === caller && !countsOwn(config);
    if (!alive && config.without === "dead waiters stay") return;
    if (!alive && config.without !== "dead waiters get the lock") {
      state.queue.shift();
    } else if (canEnter(config, state, first)) {
      grant(config, state, first, caller);
    } else return;
  }
}

const countsOwn = ({ without }: Configuration) =>
  without !== "the script does not count the own subscription";

export function removeDead({ without }: Configuration, state: State): void {
  if (without === "dead holders stay") return;
  state.holders = state.holders.filter(([member]) => isAlive(state, member));
}

export function canEnter(
  config: Configuration,
  state: State,
  member: number,
): boolean {
  const { kind } = operationOf(config, member);
  const { holders } = state;
  if (typeof kind === "number") return holders.length < kind;
  const passes = kind === "s" &&
    config.without === "readers pass Python clients";
  if (pythonClients(config, state) > 0 && !passes) return false;
  return kind === "x" ? holders.length === 0 : allShare(config, state);
}

/** Reads at most one holder: an exclusive one is the only one. */
export function allShare(config: Configuration, { holders }: State): boolean {
  const [first] = holders;
  return holders.length !== 1 || first === undefined ||
    operationOf(config, first[0]).kind === "s";
}

/** Makes a member a holder. The caller learns of it by the reply. */
export function grant(
  config: Configuration,
  state: State,
  member: number,
  caller: number,
): void {
  const first = firstAlive(state);
  if (!isAlive(state, member)) {
    state.wrong = `${member} is granted the lock, but its session is dead`;
  } else if (first !== member) state.wrong = `${member} overtakes ${first}`;
  state.queue = state.queue.filter((other) => other !== member);
  const token = tracksTokens(config) ? nextToken(config, state, member) : 0;
  state.holders.push([member, token]);
  state.holders.sort(([a], [b]) => a - b);
  const shown = config.flush ? token : 0;
  if (member === caller) reply(config, state, member, "granted", shown);
  else publish(state, member, "granted", shown);
}

/** Without such faults, the key `clock` makes every token larger. */
const tracksTokens = ({ clock, flush }: Configuration) =>
  clock !== undefined || flush === true;

function nextToken(
  { without }: Configuration,
  state: State,
  member: number,
): number {
  const time = state.behind ? 0 : state.last + 1;
  const token = without === "tokens from the clock alone"
    ? time
    : Math.max(time, state.clock + 1);
  if (token <= state.last) state.wrong = `the token of ${member} is not larger`;
  state.clock = token;
  state.last = Math.max(state.last, token);
  return token;
}
