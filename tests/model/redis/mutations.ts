/** The problem that appears without each guard, and in which configuration. */

import type { Mutation } from "./state.ts";

const HOLD_AT_ONCE = /hold at once/;
const LEFT_WAITING = /was left waiting/;
const LEFT_BEHIND = /left by a connection that is alive/;
const STUCK = /no final state is reachable/;
const DEAD = /is granted the lock, but its session is dead/;
const VALID = /ends a lease that is valid/;
const TOKEN = /token .* is not larger/;

/** Holders, waiters, and dead ones among them. */
const SERVER: [Mutation, string, RegExp][] = [
  ["dead holders stay", "two writers that may crash", LEFT_WAITING],
  ["dead waiters stay", "three writers of which two look", LEFT_WAITING],
  ["dead waiters get the lock", "three writers of which two look", DEAD],
  ["no advance in the release", "two writers", LEFT_WAITING],
  [
    "giving up without the script",
    "three writers that may give up",
    LEFT_BEHIND,
  ],
  [
    "a failed attempt stays in the queue",
    "a writer, and one that does not wait",
    LEFT_BEHIND,
  ],
  [
    "subscribing again",
    "a writer beside Python 2",
    HOLD_AT_ONCE,
  ],
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
  [
    "tokens from the clock alone",
    "a server whose clock is set back",
    TOKEN,
  ],
  [
    "tokens from the clock alone",
    "a replica that takes over, and whose clock is behind",
    TOKEN,
  ],
  [
    "a refused release is not repeated",
    "a session with two writers beside a writer, and a server that refuses",
    LEFT_BEHIND,
  ],
  [
    "a refused release ends the connection",
    "a session with two readers beside a writer, and a server that refuses",
    VALID,
  ],
];

/** Which waiters look, and which of them probe. */
const LOOKS: [Mutation, string, RegExp][] = [
  ["only the head looks", "three writers of which two look", STUCK],
  ["no look messages", "three writers of which one looks", STUCK],
  [
    "an old position replaces a look message",
    "two connections: three writers of which one looks",
    STUCK,
  ],
  [
    "only the head probes",
    "three writers whose processes may become silent",
    STUCK,
  ],
  [
    "only predecessors are probed",
    "two readers and a writer whose processes may become silent",
    STUCK,
  ],
];

/** What is not ordered on two connections. */
const TWO_CONNECTIONS: [Mutation, string, RegExp][] = [
  [
    "the script before SUBSCRIBE is confirmed",
    "two connections: a writer beside Python 4",
    HOLD_AT_ONCE,
  ],
  [
    "the script before SUBSCRIBE is confirmed",
    "two connections: a writer that acquires again beside Python 4",
    HOLD_AT_ONCE,
  ],
  [
    "the script does not count the own subscription",
    "two connections: two writers with any fault",
    DEAD,
  ],
  [
    "the end of the subscriber is not an end",
    "two connections: a writer beside Python 4",
    HOLD_AT_ONCE,
  ],
  ["an old reply ends the lease", "two connections: three writers", VALID],
  [
    "asking before listening",
    "two connections: a reader beside a reader of Python 4",
    /the reply to 0 is lost/,
  ],
  [
    "a request is not an acquisition",
    "two connections: a writer beside a reader of Python 4",
    HOLD_AT_ONCE,
  ],
];

/** What happens to a lease that is transferred. */
const TRANSFERS: [Mutation, string, RegExp][] = [
  [
    "unsubscribe at the transfer",
    "a lease for an adopter beside Python 2",
    HOLD_AT_ONCE,
  ],
  [
    "unsubscribe before an offer is removed",
    "two connections: a lease for an adopter beside Python 4",
    HOLD_AT_ONCE,
  ],
  [
    "unsubscribe before an offer is removed",
    "a lease for an adopter beside Python 4, and a server that refuses",
    HOLD_AT_ONCE,
  ],
  [
    "adopting from a dead session",
    "a lease for an adopter beside Python 2",
    HOLD_AT_ONCE,
  ],
  [
    "adopting a record that is gone",
    "a lease for an adopter, and a writer",
    HOLD_AT_ONCE,
  ],
  [
    "adopting without removing the record",
    "a lease for an adopter, and a writer",
    LEFT_BEHIND,
  ],
  [
    "the script before SUBSCRIBE is confirmed",
    "two connections: a lease for an adopter beside Python 4",
    HOLD_AT_ONCE,
  ],
];

/** What Python clients see. */
const PYTHON: [Mutation, string, RegExp][] = [
  ["subscribe after the script", "a writer beside Python 4", HOLD_AT_ONCE],
  ["subscribe after the script", "a writer beside Python 2", HOLD_AT_ONCE],
  ["Python clients are not counted", "a writer beside Python 4", HOLD_AT_ONCE],
  ["Python clients are not counted", "a writer beside Python 2", HOLD_AT_ONCE],
  ["subscribe to C, then to {C}", "two writers beside Python 2", HOLD_AT_ONCE],
  ["subscribe to {C}, then to C", "two writers beside Python 4", HOLD_AT_ONCE],
  [
    "the linger ends during an acquisition",
    "a writer that acquires again beside Python 4",
    HOLD_AT_ONCE,
  ],
  [
    "the linger ends during an acquisition",
    "a writer beside Python 2",
    HOLD_AT_ONCE,
  ],
  ["the linger does not end", "a writer beside Python 2", STUCK],
  [
    "a request is not an acquisition",
    "a writer beside Python 4",
    HOLD_AT_ONCE,
  ],
  [
    "shared for everything",
    "a writer beside a reader of Python 4",
    HOLD_AT_ONCE,
  ],
  [
    "pending with an ID that sorts high",
    "a connection that reads and writes at once beside Python 4",
    HOLD_AT_ONCE,
  ],
  ["no replies", "a writer beside Python 4", STUCK],
  [
    "no replies",
    "a writer beside two readers of Python 4, replying first",
    HOLD_AT_ONCE,
  ],
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
];

export const MUTATIONS: [Mutation, string, RegExp][] = [
  ...SERVER,
  ...LOOKS,
  ...TWO_CONNECTIONS,
  ...TRANSFERS,
  ...PYTHON,
];

/**
 * Guards without which no configuration has shown a problem. The second and
 * the third keep Python clients waiting longer; the first and the last let them
 * conclude from replies that are not true, but not anything that is wrong.
 */
export const UNNEEDED: Mutation[] = [
  "shared beside a request",
  "silent without an acquisition",
  "joining without a second count",
  "shared without an acquisition",
];
