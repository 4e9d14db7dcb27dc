/**
 * Scenario: one process in which many tasks wait for one lock, either through
 * one `Lock` that they share or through one each. The holder lets go, each
 * task acquires and releases, and the time until the last is through counts.
 * A separate run under strace(1) counts the calls of flock(2).
 */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { short } from "../format.mjs";
import { inRounds } from "../rounds.mjs";
import { run as runChild } from "../run.mjs";
import { freshPath } from "../workspace.mjs";

export const title = "Many tasks of one process wait for one lock, " +
  "which goes from one to the next";
export const ROUNDS = 1;

const SIZES = [250, 1000, 4000];
const REPEATS = 5;
const COUNTED = 1000;
const TIMEOUT = 60_000;

const FORMS = { shared: "one Lock", own: "a Lock each" };

/** What a process opens besides, generously. */
const OTHER_DESCRIPTORS = 100;

/** Lets a process open as many files as the system allows it. */
const UNLIMITED = ["sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh"];

export const COLUMNS = [
  { title: "µs per hand-over", cell: ({ label }) => label },
  ...SIZES.map((size, i) => ({
    title: `${size} tasks`,
    cell: ({ perHandOver }) => short(perHandOver[i]),
  })),
  { title: "ratio of totals", cell: ({ ratio }) => short(ratio) },
  {
    title: "flock calls each",
    cell: ({ calls }) =>
      typeof calls === "number" ? short(calls) : "NOT COUNTED",
  },
];

export async function run(contenders, folder, { rounds }) {
  const outcomes = [];
  for (const [form, words] of Object.entries(FORMS)) {
    const named = contenders.map((contender) => ({
      ...contender,
      label: `${contender.label}, ${words}`,
    }));
    const outcome = await inRounds(
      named,
      rounds,
      ({ command }) => once(command, folder, form),
      (runs) => ({ form, ...pooled(runs) }),
    );
    outcomes.push(outcome);
  }
  return {
    results: outcomes.flatMap(({ results }) => results),
    failed: outcomes.flatMap(({ failed }) => failed),
  };
}

export function method({ rounds }, results) {
  const [why] = results.map(({ calls }) => calls)
    .filter((calls) => typeof calls === "string");
  const sizes = sizesThatFit();
  return [
    `rounds: ${rounds}, in each every contender a process of its own with ` +
    `${REPEATS} crowds of each size, medians; ratio of totals: ` +
    `${SIZES.at(-1)} to ${SIZES.at(-2)} tasks, 4 is linear`,
    ...sizes.at(-1) === SIZES.at(-1) ? [] : [
      `NOT ENOUGH DESCRIPTORS: instead of ${SIZES.at(-1)} tasks there were ` +
      `${sizes.at(-1)}; the ratio is scaled`,
    ],
    ...why ? [`FLOCK CALLS NOT COUNTED: ${why}`] : [],
  ].join("\n");
}

export function aims() {
  return [
    {
      kind: "async",
      text: "linear: 4 times the tasks take less than 6 times as long",
      figure: ({ ratio }) => ratio,
      most: 6,
      shown: short,
    },
    {
      kind: "async",
      text: "at most 3 calls of flock per hand-over",
      figure: ({ calls }) => typeof calls === "number" ? calls : null,
      most: 3,
      shown: short,
    },
  ];
}

async function once(command, folder, form) {
  const sizes = sizesThatFit();
  const args = ["crowd", freshPath(folder), form, REPEATS, ...sizes];
  const { totals } = await runChild([...UNLIMITED, ...command], args, TIMEOUT);
  return { sizes, totals, calls: await countedCalls(command, folder, form) };
}

/** One descriptor per task has to be had. */
function sizesThatFit() {
  const { stdout } = spawnSync("sh", ["-c", "ulimit -Hn"], {
    encoding: "utf8",
  });
  const most = parseInt(stdout) - OTHER_DESCRIPTORS;
  return SIZES.map((size) => size > most ? most : size);
}

/** Per hand-over, or why they could not be counted. */
async function countedCalls(command, folder, form) {
  const summary = freshPath(folder);
  const strace = ["strace", "-f", "-c", "-e", "trace=flock", "-o", summary];
  try {
    const { acquisitions } = await runChild(
      [...UNLIMITED, ...strace, ...command],
      ["crowd", freshPath(folder), form, 1, COUNTED],
      TIMEOUT,
    );
    return callsIn(readFileSync(summary, "utf8")) / acquisitions;
  } catch ({ message }) {
    return message;
  }
}

/** Of the columns of `strace -c` the fourth has the number of calls. */
function callsIn(summary) {
  const lines = summary.split("\n").map((line) => line.trim().split(/\s+/));
  const calls = Number(lines.find((line) => line.at(-1) === "flock")?.[3]);
  if (calls > 0) return calls;
  throw new Error("strace saw no call");
}

/** Totals in milliseconds, `perHandOver` in microseconds. */
function pooled(runs) {
  const { sizes, calls } = runs[0];
  const totals = sizes.map((_, i) =>
    median(runs.flatMap((run) => run.totals[i]))
  );
  const perHandOver = totals.map((total, i) => total * 1000 / sizes[i]);
  const scale = SIZES.at(-1) / SIZES.at(-2);
  return {
    sizes,
    totals,
    perHandOver,
    ratio: scale * perHandOver.at(-1) / perHandOver.at(-2),
    calls,
  };
}

function median(values) {
  return values.sort((a, b) => a - b)[values.length >> 1];
}
