/** What takes minutes. */

import {
  anything,
  BESIDE,
  type Explored,
  reader,
  writer,
} from "./participants.ts";

/** With `PORTALOCK_MODEL=large`, for minutes. */
export const LARGE: Record<string, Explored> = {
  "four writers that may give up": {
    sessions: [writer, writer, writer, writer],
    giveUp: true,
    noChecks: true,
    atLeast: 22_000,
  },
  "a writer and two readers, and a server that loses its data": {
    sessions: [writer, reader, reader],
    flush: true,
    atLeast: 31_000,
  },
  "two readers beside a reader of Python 4, to whom anything may happen": {
    sessions: [reader, reader],
    pythons: ["4 reader"],
    kill: true,
    atLeast: 200_000,
    sees: [BESIDE],
  },
  "a reader beside a reader and a writer of Python 4 that may be killed": {
    sessions: [reader],
    pythons: ["4 reader", "4 writer"],
    ...anything,
    atLeast: 240_000,
    sees: [BESIDE],
  },
  "a reader beside a reader and a writer of Python 4": {
    sessions: [reader],
    pythons: ["4 reader", "4 writer"],
    atLeast: 100_000,
    sees: [BESIDE],
  },
  "two writers beside a reader and a writer of Python 4": {
    sessions: [writer, writer],
    pythons: ["4 reader", "4 writer"],
    atLeast: 170_000,
  },
  "a writer and a reader beside a reader of Python 4 and Python 2": {
    sessions: [writer, reader],
    pythons: ["4 reader", "2 writer"],
    atLeast: 110_000,
    sees: [BESIDE],
  },
  "writer and reader that trust pending beside Python 4": {
    sessions: [writer, reader],
    pythons: ["4 writer"],
    kill: true,
    trustsPending: true,
    atLeast: 260_000,
  },
  "a writer that trusts pending beside two writers of Python 4": {
    sessions: [writer],
    pythons: ["4 writer", "4 writer"],
    answerFirst: true,
    trustsPending: true,
    atLeast: 86_000,
  },
  "a reader that trusts pending beside a reader and a writer of Python 4": {
    sessions: [reader],
    pythons: ["4 reader", "4 writer"],
    trustsPending: true,
    atLeast: 125_000,
    sees: [BESIDE],
  },
};
