/**
 * Configurations for what sessions do besides acquiring: two connections,
 * subscriptions that linger, refusals, looks, probes, and tokens.
 */

import {
  adopter,
  anyFault,
  BOTH_HOLD,
  type ExploredConfiguration,
  giver,
  reader,
  readerAndWriter,
  readerThenWriter,
  slot,
  STALE_HOLDER,
  task,
  TWO_HOLD,
  writer,
  writerTwice,
} from "./participants.ts";

const PYTHON_HOLDS = "Python holds";

/** Scripts, and subscriptions with their messages, are not ordered. */
const TWO_CONNECTIONS: Record<string, ExploredConfiguration> = {
  "two writers with any fault": {
    connections: [writer, writer],
    ...anyFault,
    atLeast: 4900,
    witnesses: [STALE_HOLDER],
  },
  "three writers": {
    connections: [writer, writer, writer],
    noLooks: true,
    atLeast: 750,
  },
  "a writer that acquires again, and a writer": {
    connections: [writerTwice, writer],
    giveUp: true,
    noLooks: true,
    atLeast: 1700,
  },
  "a session that reads and writes at once, and a writer": {
    connections: [[task("x"), task("s")], writer],
    giveUp: true,
    noLooks: true,
    atLeast: 1700,
  },
  "three for two slots": {
    connections: [slot, slot, slot],
    noLooks: true,
    atLeast: 500,
    witnesses: [TWO_HOLD],
  },
  "two writers, and a server that loses its data": {
    connections: [writer, writer],
    flush: true,
    atLeast: 280,
  },
  "a writer that acquires again, and a server that refuses": {
    connections: [writer, writerTwice],
    refuses: true,
    noLooks: true,
    atLeast: 550,
  },
  "three writers of which one looks": {
    connections: [writer, writer, writer],
    lookers: 1,
    crash: "holders",
    atLeast: 2100,
  },
  "a writer beside Python 4": {
    connections: [writer],
    pythons: ["4 writer"],
    ...anyFault,
    atLeast: 1900,
    witnesses: [PYTHON_HOLDS],
  },
  "a writer beside a reader of Python 4": {
    connections: [writer],
    pythons: ["4 reader"],
    ...anyFault,
    atLeast: 1300,
    witnesses: [PYTHON_HOLDS],
  },
  "a reader beside a reader of Python 4": {
    connections: [reader],
    pythons: ["4 reader"],
    ...anyFault,
    atLeast: 4500,
    witnesses: [BOTH_HOLD],
  },
  "a reader beside a writer of Python 4": {
    connections: [reader],
    pythons: ["4 writer"],
    ...anyFault,
    atLeast: 4800,
  },
  "a reader beside Python 2": {
    connections: [reader],
    pythons: ["2 writer"],
    ...anyFault,
    atLeast: 1500,
    witnesses: [PYTHON_HOLDS],
  },
  "a writer that acquires again beside Python 4": {
    connections: [writerTwice],
    pythons: ["4 writer"],
    giveUp: true,
    atLeast: 3000,
    witnesses: [PYTHON_HOLDS],
  },
  "a reader that becomes a writer beside a reader of Python 4": {
    connections: [readerThenWriter],
    pythons: ["4 reader"],
    atLeast: 1100,
    witnesses: [BOTH_HOLD],
  },
  "a session that reads and writes at once beside a reader of Python 4": {
    connections: [readerAndWriter],
    pythons: ["4 reader"],
    atLeast: 2800,
    witnesses: [BOTH_HOLD],
  },
  "two writers beside Python 4": {
    connections: [writer, writer],
    pythons: ["4 writer"],
    atLeast: 6500,
  },
  "two writers beside Python 2": {
    connections: [writer, writer],
    pythons: ["2 writer"],
    atLeast: 1800,
  },
};

const ONE_CONNECTION: Record<string, ExploredConfiguration> = {
  "a writer that acquires again beside Python 4": {
    connections: [writerTwice],
    pythons: ["4 writer"],
    giveUp: true,
    atLeast: 1200,
    witnesses: [PYTHON_HOLDS],
  },
  "a writer that acquires again beside Python 2": {
    connections: [writerTwice],
    pythons: ["2 writer"],
    ...anyFault,
    atLeast: 1000,
    witnesses: [PYTHON_HOLDS],
  },
  "a reader that becomes a writer beside a reader of Python 4": {
    connections: [readerThenWriter],
    pythons: ["4 reader"],
    giveUp: true,
    atLeast: 2400,
    witnesses: [BOTH_HOLD],
  },
  "a writer that acquires again beside a reader and a writer of Python 4, replying first":
    {
      connections: [writerTwice],
      pythons: ["4 writer", "4 reader"],
      repliesFirst: true,
      atLeast: 17_000,
      witnesses: [PYTHON_HOLDS],
    },
  "a writer that acquires again, and a server that refuses": {
    connections: [writer, writerTwice],
    refuses: true,
    atLeast: 230,
  },
  "a session with two writers beside a writer, and a server that refuses": {
    connections: [[task("x"), task("x")], writer],
    refuses: true,
    noLooks: true,
    atLeast: 320,
  },
  "a session with two readers beside a writer, and a server that refuses": {
    connections: [[task("s"), task("s")], writer],
    refuses: true,
    noLooks: true,
    atLeast: 380,
    witnesses: [TWO_HOLD],
  },
  "a writer that acquires again beside Python 4, and a server that refuses": {
    connections: [writerTwice],
    pythons: ["4 writer"],
    refuses: true,
    atLeast: 650,
    witnesses: [PYTHON_HOLDS],
  },
  // A waiter that looks can always look, because only holders crash.
  "three writers of which one looks": {
    connections: [writer, writer, writer],
    lookers: 1,
    crash: "holders",
    giveUp: true,
    atLeast: 6300,
  },
  "three writers of which two look": {
    connections: [writer, writer, writer],
    lookers: 2,
    crash: true,
    atLeast: 2700,
  },
  "three writers whose processes may become silent": {
    connections: [writer, writer, writer],
    crash: true,
    silent: true,
    atLeast: 1100,
  },
  "two readers and a writer whose processes may become silent": {
    connections: [reader, reader, writer],
    crash: true,
    silent: true,
    atLeast: 1000,
    witnesses: [TWO_HOLD],
  },
  "three for two slots whose processes may become silent": {
    connections: [slot, slot, slot],
    crash: true,
    silent: true,
    atLeast: 900,
    witnesses: [TWO_HOLD],
  },
  "a server whose clock is set back": {
    connections: [writer, reader, writer],
    clock: "set back",
    atLeast: 350,
  },
  "a replica that takes over, and whose clock is behind": {
    connections: [writer, reader, writer],
    clock: "failover",
    lastIsLate: true,
    atLeast: 340,
  },
};

/** One session transfers its lease, and another one adopts it. */
const TRANSFERS: Record<string, ExploredConfiguration> = {
  "a lease for an adopter, and a writer": {
    connections: [giver, adopter, writer],
    giveUp: true,
    noLooks: true,
    atLeast: 650,
  },
  "a lease for two adopters": {
    connections: [giver, adopter, adopter],
    kill: true,
    atLeast: 1000,
    witnesses: [STALE_HOLDER],
  },
  "a lease for an adopter beside Python 2": {
    connections: [giver, adopter],
    pythons: ["2 writer"],
    kill: true,
    atLeast: 1700,
    witnesses: [PYTHON_HOLDS, STALE_HOLDER],
  },
  "a lease for an adopter beside Python 4, and a server that refuses": {
    connections: [giver, adopter],
    pythons: ["4 writer"],
    refuses: true,
    atLeast: 1000,
    witnesses: [PYTHON_HOLDS],
  },
  "two connections: a lease for an adopter beside Python 4": {
    connections: [giver, adopter],
    pythons: ["4 writer"],
    twoConnections: true,
    atLeast: 4400,
    witnesses: [PYTHON_HOLDS],
  },
};

/** Sessions with one connection, and with two. */
export const SESSIONS: Record<string, ExploredConfiguration> = {
  ...ONE_CONNECTION,
  ...TRANSFERS,
  ...Object.fromEntries(
    Object.entries(TWO_CONNECTIONS).map(([name, config]) => [
      `two connections: ${name}`,
      { ...config, twoConnections: true },
    ]),
  ),
};
