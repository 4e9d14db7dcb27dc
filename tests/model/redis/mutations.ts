/** What happens without a guard, and in which configuration it is seen. */

import type { Mutation } from "./state.ts";

const HOLD_AT_ONCE = /hold at once/;
const LEFT_WAITING = /was left waiting/;
const LEFT_BEHIND = /left by a session that lives/;
const STUCK = /no way leads to an end/;

export const MUTATIONS: [Mutation, string, RegExp][] = [
  ["subscribe after the script", "a writer beside Python 4", HOLD_AT_ONCE],
  ["subscribe after the script", "a writer beside Python 2", HOLD_AT_ONCE],
  ["foreigners are not counted", "a writer beside Python 4", HOLD_AT_ONCE],
  ["foreigners are not counted", "a writer beside Python 2", HOLD_AT_ONCE],
  [
    "subscribe to C, then to portalock:{C}",
    "two writers beside Python 2",
    HOLD_AT_ONCE,
  ],
  ["subscribe to portalock:{C}, then to C", "two writers", STUCK],
  [
    "subscribe to portalock:{C}, then to C",
    "two writers beside Python 4",
    HOLD_AT_ONCE,
  ],
  ["dead holders stay", "two writers that may crash", LEFT_WAITING],
  [
    "dead waiters stay",
    "three writers to whom anything may happen",
    LEFT_WAITING,
  ],
  [
    "dead waiters get the lock",
    "three writers to whom anything may happen",
    LEFT_WAITING,
  ],
  [
    "giving up without the script",
    "three writers that may give up",
    LEFT_BEHIND,
  ],
  [
    "pending with an id that sorts high",
    "a session that reads and writes at once beside Python 4",
    HOLD_AT_ONCE,
  ],
  ["no answers", "a writer beside Python 4", STUCK],
  [
    "no answers",
    "a reader that asks nobody beside a reader of Python 4",
    /never: a session and Python hold/,
  ],
  [
    "pending for everything",
    "a reader that asks nobody beside a reader of Python 4",
    /never: a session and Python hold/,
  ],
  [
    "joining by the count alone",
    "a reader beside a writer of Python 4",
    HOLD_AT_ONCE,
  ],
  ["joining by the count alone", "a reader beside Python 2", HOLD_AT_ONCE],
  [
    "joining by the first answer",
    "a reader beside a reader of Python 4 and Python 2",
    HOLD_AT_ONCE,
  ],
  [
    "joining out of turn",
    "two readers beside a reader of Python 4",
    /overtakes/,
  ],
  [
    "joining whoever holds",
    "a writer and a reader beside a reader of Python 4",
    HOLD_AT_ONCE,
  ],
  ["readers pass foreigners", "a reader beside Python 2", HOLD_AT_ONCE],
  ["tokens from the clock alone", "two writers", /token .* is not larger/],
  [
    "subscribing again",
    "three writers to whom anything may happen",
    /hold at once|does not know of/,
  ],
  [
    "a refused attempt stays in the queue",
    "a writer, and one that does not wait",
    LEFT_BEHIND,
  ],
  ["no advance in the release", "two writers", LEFT_WAITING],
  [
    "whoever waits again still holds",
    "two writers, and a server that loses its data",
    /goes on with what was lost/,
  ],
  [
    "whoever lost it leaves its entry",
    "two writers, and a server that loses its data",
    LEFT_BEHIND,
  ],
];

/** What no configuration has shown to be needed. */
export const UNNEEDED: Mutation[] = [
  "unsubscribe before the script",
  "joining without a second count",
  "shared without an entry",
];
