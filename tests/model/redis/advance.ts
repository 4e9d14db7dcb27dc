/** The step that is part of each script: who may enter does. */

import { foreigners, isAlive, send } from "./server.ts";
import { type Configuration, operationOf, type State } from "./state.ts";

/** The largest token of those who hold or held until this step. */
export interface Clock {
  largest: number;
  /** Entries that do not wait. */
  refused?: number[];
}

/** The first waiter that is there. */
export const firstAlive = (state: State) =>
  state.queue.find((entry) => isAlive(state, entry));

/** Removes the dead, and lets in who may enter. */
export function advance(
  config: Configuration,
  state: State,
  clock: Clock,
): void {
  if (Number.isNaN(clock.largest)) return;
  prune(config, state);
  while (state.queue.length > 0) {
    const [first] = state.queue;
    const alive = isAlive(state, first);
    if (!alive && config.without === "dead waiters stay") return;
    if (!alive && config.without !== "dead waiters get the lock") {
      state.queue.shift();
    } else if (mayEnter(config, state, first)) {
      grant(config, state, first, clock);
    } else return;
  }
}

export function prune({ without }: Configuration, state: State): void {
  if (without === "dead holders stay") return;
  state.holders = state.holders.filter(([entry]) => isAlive(state, entry));
}

export function mayEnter(
  config: Configuration,
  state: State,
  entry: number,
): boolean {
  const { kind } = operationOf(config, entry);
  const { holders } = state;
  if (typeof kind === "number") return holders.length < kind;
  const passes = kind === "s" && config.without === "readers pass foreigners";
  if (foreigners(config, state) > 0 && !passes) return false;
  return kind === "x" ? holders.length === 0 : allShare(config, state);
}

export function allShare(config: Configuration, { holders }: State): boolean {
  return holders.every(([entry]) => operationOf(config, entry).kind === "s");
}

/**
 * The clock is taken to stand still, or to be set back, while anybody holds.
 * While nobody does it passes every token.
 */
export function grant(
  config: Configuration,
  state: State,
  entry: number,
  clock: Clock,
): void {
  const more = config.without === "tokens from the clock alone" ? 0 : 1;
  const token = clock.largest > 0 ? clock.largest + more : state.largest + 1;
  clock.largest = token;
  const first = firstAlive(state);
  if (isAlive(state, entry) && first !== entry) {
    state.wrong = `${entry} overtakes ${first}`;
  }
  state.queue = state.queue.filter((other) => other !== entry);
  state.holders.push([entry, token]);
  const { kind } = operationOf(config, entry);
  if (kind === "x" || (kind !== "s" && config.allTokens)) {
    const before = config.allTokens ? state.largest : state.lastExclusive;
    if (token <= before) state.wrong = `the token of ${entry} is not larger`;
    state.lastExclusive = token;
  }
  state.largest = Math.max(state.largest, token);
  send(state, entry, "granted", config.flush ? token : 0);
}

/** Of tokens only the order matters to what comes. */
export function normalise(
  { allTokens, flush }: Configuration,
  state: State,
): void {
  state.holders.sort(([a], [b]) => a - b);
  if (allTokens || flush) return;
  const tokens = state.holders.map(([, token]) => token).sort((a, b) => a - b);
  const exclusive = tokens.indexOf(state.lastExclusive) + 1;
  for (const [at, [entry, token]] of state.holders.entries()) {
    state.holders[at] = [entry, tokens.indexOf(token) + 1];
  }
  if (state.wrong === undefined) {
    state.lastExclusive = exclusive;
    state.largest = tokens.length;
  }
}
