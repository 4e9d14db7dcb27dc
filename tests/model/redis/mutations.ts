/** The problem that appears without each guard, and in which configuration. */

import type { Mutation } from "./state.ts";

const HOLD_AT_ONCE = /hold at once/;
const LEFT_WAITING = /was left waiting/;
const LEFT_BEHIND = /left by a connection that is alive/;
const STUCK = /no final state is reachable/;

export const MUTATIONS: [Mutation, string, RegExp][] = [
  ["subscribe after the script", "a writer beside Python 4", HOLD_AT_ONCE],
  ["subscribe after the script", "a writer beside Python 2", HOLD_AT_ONCE],
  ["Python clients are not counted", "a writer beside Python 4", HOLD_AT_ONCE],
  ["Python clients are not counted", "a writer beside Python 2", HOLD_AT_ONCE],
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
    "three writers with any fault",
    LEFT_WAITING,
  ],
  [
    "dead waiters get the lock",
    "three writers with any fault",
    LEFT_WAITING,
  ],
  [
    "giving up without the script",
    "three writers that may give up",
    LEFT_BEHIND,
  ],
  [
    "pending with an ID that sorts high",
    "a connection that reads and writes at once beside Python 4",
    HOLD_AT_ONCE,
  ],
  ["no replies", "a writer beside Python 4", STUCK],
  [
    "no replies",
    "a reader that never asks beside a reader of Python 4",
    /never: a connection and Python hold/,
  ],
  [
    "pending for everything",
    "a reader that never asks beside a reader of Python 4",
    /never: a connection and Python hold/,
  ],
  [
    "joining by the count alone",
    "a reader beside a writer of Python 4",
    HOLD_AT_ONCE,
  ],
  ["joining by the count alone", "a reader beside Python 2", HOLD_AT_ONCE],
  [
    "joining by the first reply",
    "a reader beside a reader of Python 4 and Python 2",
    HOLD_AT_ONCE,
  ],
  [
    "joining out of turn",
    "two readers beside a reader of Python 4",
    /overtakes/,
  ],
  [
    "joining beside any holder",
    "a writer and a reader beside a reader of Python 4",
    HOLD_AT_ONCE,
  ],
  ["readers pass Python clients", "a reader beside Python 2", HOLD_AT_ONCE],
  ["tokens from the clock alone", "two writers", /token .* is not larger/],
  [
    "subscribing again",
    "three writers with any fault",
    /hold at once|has not recorded/,
  ],
  [
    "a failed attempt stays in the queue",
    "a writer, and one that does not wait",
    LEFT_BEHIND,
  ],
  ["no advance in the release", "two writers", LEFT_WAITING],
  [
    "a holder that waits again still holds",
    "two writers, and a server that loses its data",
    /continues with a lost lock/,
  ],
  [
    "a holder that lost the lock leaves its member",
    "two writers, and a server that loses its data",
    LEFT_BEHIND,
  ],
];

/** Guards without which no configuration has shown a problem. */
export const UNNEEDED: Mutation[] = [
  "unsubscribe before the script",
  "joining without a second count",
  "shared without a member",
];
