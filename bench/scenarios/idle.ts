/**
 * Scenario: what a process pays while it waits. Its processor time over some
 * seconds beside that of one that wakes up every 250 ms to do nothing, and of
 * one that only sleeps; and how long reading a small file takes while 64 locks
 * are waited for, in the same process before and meanwhile. Another process
 * holds all the locks.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { short } from "../format.mjs";
import { inRounds, progress } from "../rounds.mjs";
import { start } from "../run.mjs";
import { freshPath } from "../workspace.mjs";

export const title = "What waiting costs";
export const ROUNDS = 1;

const WAITERS = 64;
const TIMEOUT = 60_000;

/** Milliseconds, so that starting up is no part of the figures. */
const SETTLING = 2000;

export const COLUMNS = [
  { title: "", cell: ({ label }) => label },
  { title: "CPU ms waiting", cell: ({ waiting }) => short(waiting) },
  { title: "CPU ms waking", cell: ({ waking }) => short(waking) },
  { title: "CPU ms asleep", cell: ({ asleep }) => short(asleep) },
  { title: "readFile µs alone", cell: ({ alone }) => short(alone.median) },
  { title: "max", cell: ({ alone }) => short(alone.max) },
  {
    title: `beside ${WAITERS} waits`,
    cell: ({ beside }) => beside ? short(beside.median) : "NO ANSWER",
  },
  { title: "max", cell: ({ beside }) => beside ? short(beside.max) : "in 2 s" },
];

export async function run(contenders, folder, { rounds, seconds }) {
  progress(`Everybody waits for ${seconds} s`);
  const spent = new Map(
    await Promise.all(contenders.map(async (contender) => [
      contender,
      await processorTime(contender.command, folder, seconds)
        .catch((error) => ({ error })),
    ])),
  );
  return await inRounds(contenders, rounds, async (contender) => {
    const { error, ...times } = spent.get(contender);
    if (error) throw error;
    return { ...times, ...await readings(contender.command, folder) };
  }, pooled);
}

export function method({ rounds, seconds }) {
  return `user and system time over ${seconds} s, of a process that waits for ` +
    "one lock, one that wakes up as often and one that sleeps, everybody at " +
    "once; then, rounds: " +
    `${rounds}, one at a time, readFile 100 times`;
}

export function aims() {
  return [
    {
      kind: "async",
      text: "waits with less than 20 ms of processor time",
      figure: ({ waiting }) => waiting,
      most: 20,
      shown: (value) => `${short(value)} ms`,
    },
    {
      kind: "async",
      text: `readFile beside ${WAITERS} waits within 3 times alone`,
      figure: ({ alone, beside }) =>
        beside ? beside.median / alone.median : Infinity,
      most: 3,
      shown: short,
    },
  ];
}

/** Who is measured: what it does, and for how many locks it waits. */
const SPENDERS = {
  waiting: ["spend", 1],
  waking: ["wake", 0],
  asleep: ["spend", 0],
};

/** Resolves to what each of the {@linkcode SPENDERS} took, in milliseconds. */
async function processorTime(command, folder, seconds) {
  const milliseconds = seconds * 1000;
  return await holding(command, folder, 1, async (path, letGo) => {
    const children = Object.values(SPENDERS).map(([role, waiters]) =>
      start(
        command,
        ["idle", path, role, waiters, milliseconds],
        TIMEOUT + milliseconds,
      )
    );
    try {
      for (const child of children) await child.hear();
      await sleep(SETTLING);
      for (const child of children) child.say("measure");
      for (const child of children) await child.hear();
      letGo();
      const spent = await Promise.all(children.map((child) => child.end()));
      return Object.fromEntries(
        Object.keys(SPENDERS).map((name, i) => [name, spent[i].milliseconds]),
      );
    } finally {
      for (const child of children) child.kill();
    }
  });
}

/** Resolves to `alone` and `beside`: milliseconds, or `null` when stuck. */
async function readings(command, folder) {
  return await holding(command, folder, WAITERS, async (path, letGo) => {
    const child = start(command, ["idle", path, "read", WAITERS], TIMEOUT);
    try {
      await child.hear();
      letGo();
      const { alone, beside } = await child.end();
      return { alone, beside };
    } finally {
      child.kill();
    }
  });
}

/** Lets another process hold locks meanwhile, or until `letGo` is called. */
async function holding(command, folder, locks, body) {
  const path = freshPath(folder);
  const holder = start(command, ["idle", path, "hold", locks], 2 * TIMEOUT);
  try {
    await holder.hear();
    const result = await body(path, () => holder.say("release"));
    await holder.end();
    return result;
  } finally {
    holder.kill();
  }
}

/** Readings become microseconds; of those the worst round counts. */
function pooled(runs) {
  const worst = (figure) => Math.max(...runs.map(figure));
  const kind = (name) =>
    runs.some((run) => run[name] === null) ? null : {
      median: worst((run) => run[name][run[name].length >> 1]) * 1000,
      max: worst((run) => run[name].at(-1)) * 1000,
    };
  return {
    waiting: runs[0].waiting,
    waking: runs[0].waking,
    asleep: runs[0].asleep,
    alone: kind("alone"),
    beside: kind("beside"),
  };
}
