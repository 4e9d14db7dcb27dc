/** Functions and constants for configurations. */

import type { Configuration, Kind, Operation } from "./state.ts";

/** A session with one task that acquires once or several times. */
export const connection = (...kinds: Kind[]): Operation[][] => [task(...kinds)];
export const task = (...kinds: Kind[]): Operation[] =>
  kinds.map((kind) => ({ kind, waits: true }));
export const attempt = (
  kind: Kind,
): Operation[][] => [[{ kind, waits: false }]];

export const giver = [[{ kind: "x" as const, waits: true, gives: true }]];
export const adopter = [[{ kind: "x" as const, waits: false, adopts: true }]];

export const writer = connection("x");
export const reader = connection("s");
export const slot = connection(2);
export const writerTwice = connection("x", "x");
export const readerThenWriter = connection("s", "x");
export const readerAndWriter = [task("s"), task("x")];
export const anyFault = { crash: true, kill: true, giveUp: true };

/** A configuration, its minimum of states, and the witnesses to reach. */
export interface ExploredConfiguration extends Configuration {
  atLeast: number;
  witnesses?: string[];
}

export const BOTH_HOLD = "a connection and Python hold";
export const STALE_HOLDER = "a connection assumes a lock that it has lost";
export const TWO_HOLD = "two connections hold";
