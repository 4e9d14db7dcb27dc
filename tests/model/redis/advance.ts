/** The part of every script that grants the lock to waiters. */

import { isAlive, pythonClients, send } from "./server.ts";
import { type Configuration, operationOf, type State } from "./state.ts";

/** The largest token of the holders before this step. */
export interface Clock {
  largest: number;
  /** Members that do not wait. */
  failed?: number[];
}

/** Returns the first waiter whose connection is alive. */
export const firstAlive = (state: State) =>
  state.queue.find((member) => isAlive(state, member));

/** Removes dead members, and grants the lock to waiters that may enter. */
export function advance(
  config: Configuration,
  state: State,
  clock: Clock,
): void {
  if (Number.isNaN(clock.largest)) return;
  removeDead(config, state);
  for (;;) {
    const [first] = state.queue;
    if (first === undefined) return;
    const alive = isAlive(state, first);
    if (!alive && config.without === "dead waiters stay") return;
    if (!alive && config.without !== "dead waiters get the lock") {
      state.queue.shift();
    } else if (canEnter(config, state, first)) {
      grant(config, state, first, clock);
    } else return;
  }
}

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

export function allShare(config: Configuration, { holders }: State): boolean {
  return holders.every(([member]) => operationOf(config, member).kind === "s");
}

/**
 * Makes a member a holder. While a member holds, the clock is assumed to stop
 * or to be set back. While no member holds, it passes every token.
 */
export function grant(
  config: Configuration,
  state: State,
  member: number,
  clock: Clock,
): void {
  const more = config.without === "tokens from the clock alone" ? 0 : 1;
  const token = clock.largest > 0 ? clock.largest + more : state.largest + 1;
  clock.largest = token;
  const first = firstAlive(state);
  if (isAlive(state, member) && first !== member) {
    state.wrong = `${member} overtakes ${first}`;
  }
  state.queue = state.queue.filter((other) => other !== member);
  state.holders.push([member, token]);
  const { kind } = operationOf(config, member);
  if (kind === "x" || (kind !== "s" && config.allTokens)) {
    const before = config.allTokens ? state.largest : state.lastExclusive;
    if (token <= before) state.wrong = `the token of ${member} is not larger`;
    state.lastExclusive = token;
  }
  state.largest = Math.max(state.largest, token);
  send(state, member, "granted", config.flush ? token : 0);
}

/** Replaces tokens by their ranks, because only their order has effects. */
export function normalize(
  { allTokens, flush }: Configuration,
  state: State,
): void {
  state.holders.sort(([a], [b]) => a - b);
  if (allTokens || flush) return;
  const tokens = state.holders.map(([, token]) => token).sort((a, b) => a - b);
  const exclusive = tokens.indexOf(state.lastExclusive) + 1;
  for (const [at, [member, token]] of state.holders.entries()) {
    state.holders[at] = [member, tokens.indexOf(token) + 1];
  }
  if (state.wrong === undefined) {
    state.lastExclusive = exclusive;
    state.largest = tokens.length;
  }
}
