/** What configurations are made of. */

import type { Configuration, Kind, Operation } from "./state.ts";

/** A session of one task that acquires once, or more often. */
export const session = (...kinds: Kind[]): Operation[][] => [task(...kinds)];
export const task = (...kinds: Kind[]): Operation[] =>
  kinds.map((kind) => ({ kind, waits: true }));
export const attempt = (
  kind: Kind,
): Operation[][] => [[{ kind, waits: false }]];

export const writer = session("x");
export const reader = session("s");
export const slot = session(2);
export const anything = { crash: true, kill: true, giveUp: true };

/** A configuration, how many states it has at least, what is seen in them. */
export interface Explored extends Configuration {
  atLeast: number;
  sees?: string[];
}

export const BESIDE = "a session and Python hold";
export const BELIEVES = "a session believes what is no more";
export const TWO = "two sessions hold";
