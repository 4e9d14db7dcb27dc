/**
 * Scenario: many tasks of one process wait for one lock, through one `Lock`
 * that they share or through one `Lock` each. The holder releases, each task
 * acquires and releases, and the sample is the time until the last task has
 * released. A separate run under strace(1) counts the calls of flock(2).
 */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { short } from "../report/format.ts";
import { run as runChild } from "../runner/child_process.ts";
import { inRounds } from "../runner/rounds.ts";
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

export const title = "Many tasks of one process wait for one lock, " +
  "which goes from one to the next";
export const ROUNDS = 1;

/** The ratio of totals compares the last two sizes. */
const MEDIUM = 1000;
const LARGE = 4000;
const SIZES = [250, MEDIUM, LARGE];
const REPEATS = 5;
/** How many tasks wait while strace counts. */
const COUNTED = 1000;
const TIMEOUT_MS = 60_000;

const FORMS = { shared: "one Lock", own: "a Lock each" };

/** More descriptors than a process has open in addition. */
const OTHER_DESCRIPTORS = 100;

/** Raises the limit of descriptors as far as the system allows. */
const UNLIMITED: Command = [
  "sh",
  "-c",
  'ulimit -n "$(ulimit -Hn)"; exec "$@"',
  "sh",
];

/** What the child prints. */
interface Reported {
  /** Milliseconds by size and repeat. */
  readonly totals: number[][];
  readonly acquisitions: number;
}

interface Round {
  readonly sizes: number[];
  readonly totals: number[][];
  readonly calls: number | string;
}

interface Figures {
  readonly form: string;
  readonly sizes: readonly number[];
  /** Milliseconds. */
  readonly totals: readonly number[];
  /** Microseconds. */
  readonly perHandOver: readonly number[];
  readonly ratio: number;
  /** Calls of flock(2) per hand-over, or why they are not counted. */
  readonly calls: number | string;
}

type Result = ContenderInfo & Figures;

export const COLUMNS: readonly Column<Result>[] = [
  { title: "µs per hand-over", cell: ({ label }) => label },
  ...SIZES.map((size, i): Column<Result> => ({
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

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds }: RunOptions,
): Promise<Measured<Result>> {
  const outcomes: Measured<Result>[] = [];
  for (const [form, words] of Object.entries(FORMS)) {
    const labeled = contenders.map((contender) => ({
      ...contender,
      label: `${contender.label}, ${words}`,
    }));
    const outcome = await inRounds(
      labeled,
      rounds,
      ({ command }) => once(command, folder, form),
      (all) => ({ form, ...summarize(all) }),
    );
    outcomes.push(outcome);
  }
  return {
    results: outcomes.flatMap(({ results }) => results),
    failed: outcomes.flatMap(({ failed }) => failed),
  };
}

export function method(
  { rounds }: RunOptions,
  results: readonly Result[],
): string {
  const reason = results.map(({ calls }) => calls)
    .find((calls) => typeof calls === "string");
  const largest = sizesThatFit().at(-1);
  return [
    `rounds: ${rounds}, in each one process per contender, with ${REPEATS} ` +
    "crowds of each size, medians; ratio of totals: " +
    `${LARGE} to ${MEDIUM} tasks, 4 is linear`,
    ...largest === LARGE ? [] : [
      `NOT ENOUGH DESCRIPTORS: ${largest} tasks instead of ${LARGE}; the ` +
      "ratio is scaled",
    ],
    ...reason ? [`FLOCK CALLS NOT COUNTED: ${reason}`] : [],
  ].join("\n");
}

export function thresholds(): Threshold<Result>[] {
  return [
    {
      kind: "async",
      text: "linear: 4 times the tasks take less than 6 times as long",
      figure: ({ ratio }) => ratio,
      atMost: 6,
      format: short,
    },
    {
      kind: "async",
      text: "at most 3 calls of flock per hand-over",
      figure: ({ calls }) => typeof calls === "number" ? calls : null,
      atMost: 3,
      format: short,
    },
  ];
}

async function once(
  command: Command,
  folder: string,
  form: string,
): Promise<Round> {
  const sizes = sizesThatFit();
  const { totals } = await runChild<Reported>(
    [...UNLIMITED, ...command],
    ["crowd", freshPath(folder), form, REPEATS, ...sizes],
    TIMEOUT_MS,
  );
  return { sizes, totals, calls: await countCalls(command, folder, form) };
}

/** Each task may need its own descriptor. */
function sizesThatFit(): number[] {
  const { stdout } = spawnSync("sh", ["-c", "ulimit -Hn"], {
    encoding: "utf8",
  });
  const most = parseInt(stdout) - OTHER_DESCRIPTORS;
  return SIZES.map((size) => size > most ? most : size);
}

/** Resolves to the calls per hand-over, or to why they are not counted. */
async function countCalls(
  command: Command,
  folder: string,
  form: string,
): Promise<number | string> {
  const summary = freshPath(folder);
  const strace = ["strace", "-f", "-c", "-e", "trace=flock", "-o", summary];
  try {
    const { acquisitions } = await runChild<Reported>(
      [...UNLIMITED, ...strace, ...command],
      ["crowd", freshPath(folder), form, 1, COUNTED],
      TIMEOUT_MS,
    );
    return parseCalls(readFileSync(summary, "utf8")) / acquisitions;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The fourth column of `strace -c` is the number of calls. */
function parseCalls(summary: string): number {
  const lines = summary.split("\n").map((line) => line.trim().split(/\s+/));
  const calls = Number(lines.find((line) => line.at(-1) === "flock")?.[3]);
  if (calls > 0) return calls;
  throw new Error("strace did not report a call");
}

function summarize(rounds: readonly Round[]): Omit<Figures, "form"> {
  const sizes = rounds[0]?.sizes ?? [];
  const calls = rounds[0]?.calls ?? NaN;
  const totals = sizes.map((_, i) =>
    median(rounds.flatMap((round) => round.totals[i] ?? []))
  );
  const perHandOver = totals.map((total, i) =>
    total * 1000 / (sizes[i] ?? NaN)
  );
  const [medium = NaN, large = NaN] = perHandOver.slice(-2);
  return {
    sizes,
    totals,
    perHandOver,
    ratio: LARGE / MEDIUM * large / medium,
    calls,
  };
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? NaN;
}
