/**
 * Scenario: what waiting costs a process. One part compares its processor time
 * over some seconds with that of a process that wakes every 250 ms to do
 * nothing, and of one that only sleeps. The other part measures how long
 * reading a small file takes while 64 locks are waited for, and without
 * waiting, in the same process. Another process holds all the locks.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { LABEL } from "../report/columns.ts";
import { short } from "../report/format.ts";
import { start } from "../runner/child_process.ts";
import { inRounds, progress } from "../runner/rounds.ts";
import { freshPath } from "../runner/workspace.ts";
import type {
  Column,
  Command,
  Contender,
  ContenderInfo,
  Measured,
  RunOptions,
  Threshold,
} from "../types.ts";

export const title = "What waiting costs";
export const ROUNDS = 1;

const WAITERS = 64;
const TIMEOUT_MS = 60_000;

/** Keeps the start of the processes out of the figures. */
const SETTLE_MS = 2000;

/** What the processor times are measured of: a role and its waiters. */
const SPENDERS = {
  waiting: ["spend", 1],
  waking: ["wake", 0],
  asleep: ["spend", 0],
} as const;

/** Milliseconds. */
type ProcessorTimes = Readonly<Record<keyof typeof SPENDERS, number>>;

/** Milliseconds in ascending order, or `null` if a reading was stuck. */
interface Readings {
  readonly alone: readonly number[] | null;
  readonly beside: readonly number[] | null;
}

/** Microseconds. */
interface ReadingFigures {
  readonly median: number;
  readonly max: number;
}

type Result = ContenderInfo & ProcessorTimes & {
  readonly alone: ReadingFigures | null;
  readonly beside: ReadingFigures | null;
};

export const COLUMNS: readonly Column<Result>[] = [
  LABEL,
  { title: "CPU ms waiting", cell: ({ waiting }) => short(waiting) },
  { title: "CPU ms waking", cell: ({ waking }) => short(waking) },
  { title: "CPU ms asleep", cell: ({ asleep }) => short(asleep) },
  { title: "readFile µs alone", cell: ({ alone }) => short(alone?.median) },
  { title: "max", cell: ({ alone }) => short(alone?.max) },
  {
    title: `beside ${WAITERS} waits`,
    cell: ({ beside }) => beside ? short(beside.median) : "NO ANSWER",
  },
  { title: "max", cell: ({ beside }) => beside ? short(beside.max) : "in 2 s" },
];

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds, seconds }: RunOptions,
): Promise<Measured<Result>> {
  progress(`All contenders wait for ${seconds} s`);
  const times = new Map<Contender, ProcessorTimes | Error>(
    await Promise.all(contenders.map(async (contender) =>
      [
        contender,
        await measureProcessorTimes(contender.command, folder, seconds)
          .catch((error: Error) => error),
      ] as const
    )),
  );
  return await inRounds(contenders, rounds, async (contender) => {
    const spent = times.get(contender);
    if (spent === undefined || spent instanceof Error) throw spent;
    return { ...spent, ...await measureReadings(contender.command, folder) };
  }, summarize);
}

export function method({ rounds, seconds }: RunOptions): string {
  return `user and system time over ${seconds} s, of a process that waits ` +
    "for one lock, one that wakes as often and one that sleeps, all " +
    `contenders at once; then, rounds: ${rounds}, one at a time, readFile ` +
    "100 times";
}

export function thresholds(): Threshold<Result>[] {
  return [
    {
      kind: "async",
      text: "waits with less than 20 ms of processor time",
      figure: ({ waiting }) => waiting,
      atMost: 20,
      format: (value) => `${short(value)} ms`,
    },
    {
      kind: "async",
      text: `readFile beside ${WAITERS} waits within 3 times alone`,
      figure: ({ alone, beside }) =>
        alone && beside ? beside.median / alone.median : Infinity,
      atMost: 3,
      format: short,
    },
  ];
}

/** Measures the {@linkcode SPENDERS} at the same time. */
async function measureProcessorTimes(
  command: Command,
  folder: string,
  seconds: number,
): Promise<ProcessorTimes> {
  const milliseconds = seconds * 1000;
  return await whileHeld(command, folder, 1, async (path, release) => {
    const startOne = ([role, waiters]: readonly [string, number]) =>
      start(
        command,
        ["idle", path, role, waiters, milliseconds],
        TIMEOUT_MS + milliseconds,
      );
    const children = {
      waiting: startOne(SPENDERS.waiting),
      waking: startOne(SPENDERS.waking),
      asleep: startOne(SPENDERS.asleep),
    };
    const all = Object.values(children);
    try {
      for (const child of all) await child.receive();
      await sleep(SETTLE_MS);
      for (const child of all) child.send("measure");
      for (const child of all) await child.receive();
      release();
      const [waiting, waking, asleep] = await Promise.all([
        children.waiting.end<{ milliseconds: number }>(),
        children.waking.end<{ milliseconds: number }>(),
        children.asleep.end<{ milliseconds: number }>(),
      ]);
      return {
        waiting: waiting.milliseconds,
        waking: waking.milliseconds,
        asleep: asleep.milliseconds,
      };
    } finally {
      for (const child of all) child.kill();
    }
  });
}

async function measureReadings(
  command: Command,
  folder: string,
): Promise<Readings> {
  return await whileHeld(command, folder, WAITERS, async (path, release) => {
    const child = start(command, ["idle", path, "read", WAITERS], TIMEOUT_MS);
    try {
      await child.receive();
      release();
      const { alone, beside } = await child.end<Readings>();
      return { alone, beside };
    } finally {
      child.kill();
    }
  });
}

/** Runs `body` while another process holds locks, until it is released. */
async function whileHeld<Outcome>(
  command: Command,
  folder: string,
  locks: number,
  body: (path: string, release: () => void) => Promise<Outcome>,
): Promise<Outcome> {
  const path = freshPath(folder);
  const holder = start(command, ["idle", path, "hold", locks], 2 * TIMEOUT_MS);
  try {
    await holder.receive();
    const result = await body(path, () => holder.send("release"));
    await holder.end();
    return result;
  } finally {
    holder.kill();
  }
}

/** Converts readings to microseconds; the worst round counts. */
function summarize(
  rounds: readonly (ProcessorTimes & Readings)[],
): Omit<Result, keyof ContenderInfo> {
  const [first] = rounds;
  if (first === undefined) throw new Error("measured nothing");
  const readings = (name: keyof Readings): ReadingFigures | null => {
    const medians: number[] = [];
    const longest: number[] = [];
    for (const { [name]: taken } of rounds) {
      if (taken === null) return null;
      medians.push(taken[taken.length >> 1] ?? NaN);
      longest.push(taken.at(-1) ?? NaN);
    }
    return {
      median: Math.max(...medians) * 1000,
      max: Math.max(...longest) * 1000,
    };
  };
  return {
    waiting: first.waiting,
    waking: first.waking,
    asleep: first.asleep,
    alone: readings("alone"),
    beside: readings("beside"),
  };
}
