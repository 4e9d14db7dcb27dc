/** Configurations whose exploration takes minutes. */

import {
  anyFault,
  BOTH_HOLD,
  type ExploredConfiguration,
  reader,
  STALE_HOLDER,
  task,
  TWO_HOLD,
  writer,
} from "./participants.ts";

/** Explored with `PORTALOCK_MODEL=large`. */
export const LARGE: Record<string, ExploredConfiguration> = {
  "four writers that may give up": {
    connections: [writer, writer, writer, writer],
    giveUp: true,
    noLooks: true,
    atLeast: 11_000,
  },
  "a writer and two readers, and a server that loses its data": {
    connections: [writer, reader, reader],
    flush: true,
    atLeast: 16_900,
  },
  "two readers beside a reader of Python 4, with any fault": {
    connections: [reader, reader],
    pythons: ["4 reader"],
    kill: true,
    atLeast: 200_000,
    witnesses: [BOTH_HOLD],
  },
  "a reader beside a reader and a writer of Python 4 that may be killed": {
    connections: [reader],
    pythons: ["4 reader", "4 writer"],
    ...anyFault,
    atLeast: 240_000,
    witnesses: [BOTH_HOLD],
  },
  "a reader beside a reader and a writer of Python 4": {
    connections: [reader],
    pythons: ["4 reader", "4 writer"],
    atLeast: 100_000,
    witnesses: [BOTH_HOLD],
  },
  "a reader beside a reader and a writer of Python 4, replying first": {
    connections: [reader],
    pythons: ["4 reader", "4 writer"],
    repliesFirst: true,
    atLeast: 63_000,
    witnesses: [BOTH_HOLD],
  },
  "two writers beside a reader and a writer of Python 4": {
    connections: [writer, writer],
    pythons: ["4 reader", "4 writer"],
    atLeast: 170_000,
  },
  "a writer and a reader beside a reader of Python 4 and Python 2": {
    connections: [writer, reader],
    pythons: ["4 reader", "2 writer"],
    atLeast: 110_000,
    witnesses: [BOTH_HOLD],
  },
  "writer and reader that trust pending beside Python 4": {
    connections: [writer, reader],
    pythons: ["4 writer"],
    kill: true,
    trustsPending: true,
    atLeast: 260_000,
  },
  "a writer that trusts pending beside two writers of Python 4": {
    connections: [writer],
    pythons: ["4 writer", "4 writer"],
    repliesFirst: true,
    trustsPending: true,
    atLeast: 86_000,
  },
  "a reader that trusts pending beside a reader and a writer of Python 4": {
    connections: [reader],
    pythons: ["4 reader", "4 writer"],
    trustsPending: true,
    atLeast: 125_000,
    witnesses: [BOTH_HOLD],
  },
  "two connections: a writer and a reader beside a reader of Python 4": {
    connections: [writer, reader],
    pythons: ["4 reader"],
    twoConnections: true,
    atLeast: 36_000,
    witnesses: [BOTH_HOLD],
  },
  "two connections: two readers beside a reader of Python 4": {
    connections: [reader, reader],
    pythons: ["4 reader"],
    twoConnections: true,
    atLeast: 230_000,
    witnesses: [BOTH_HOLD, TWO_HOLD],
  },
  "two connections: three writers with any fault": {
    connections: [writer, writer, writer],
    twoConnections: true,
    ...anyFault,
    atLeast: 550_000,
    witnesses: [STALE_HOLDER],
  },
  "a session with two writers that may give up, and a server that refuses": {
    connections: [[task("x"), task("x")], writer],
    refuses: true,
    giveUp: true,
    atLeast: 7800,
  },
  "four writers of which two look, and holders that crash": {
    connections: [writer, writer, writer, writer],
    lookers: 2,
    crash: "holders",
    atLeast: 20_000,
  },
};
