/**
 * Scenario: four processes change one JSON file without a pause. Each reads it,
 * adds one to its number and writes it back, under mutual exclusion. At the
 * end, the number has to equal the sum of what the four processes counted.
 * Meanwhile this process reads the file without a lock and counts how often the
 * content is broken.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { BASELINE, nameOf } from "../contenders/update.ts";
import { LABEL } from "../report/columns.ts";
import { short, whole } from "../report/format.ts";
import { start } from "../runner/child_process.ts";
import {
  assertNoLostUpdates,
  contend,
  CONTENTION_COLUMNS,
  LOST_UPDATES,
  summarizeContention,
} from "../runner/contention_runner.ts";
import type {
  ContentionFigures,
  Counted,
} from "../runner/contention_runner.ts";
import { beside, inRounds } from "../runner/rounds.ts";
import { freshPath } from "../runner/workspace.ts";
import type {
  Column,
  Command,
  Commands,
  Contender,
  ContenderInfo,
  Measured,
  RunOptions,
  Threshold,
} from "../types.ts";

export const title = "Four processes change one JSON file";
export const ROUNDS = 1;

const TIMEOUT_MS = 30_000;

/** A reader without a pause would keep one processor from the contenders. */
const READ_PAUSE_MS = 1;

/** How often this process read the file, and found it broken. */
interface Reads {
  readonly reads: number;
  readonly broken: number;
}

interface Round extends Reads {
  readonly reported: Counted[];
}

type Result = ContenderInfo & ContentionFigures & Reads & {
  readonly besidePython: number | null;
};

export const COLUMNS: readonly Column<Result>[] = [
  LABEL,
  { title: "updates/s", cell: ({ rate }) => whole(rate) },
  { title: "of Python's", cell: ({ besidePython }) => short(besidePython) },
  ...CONTENTION_COLUMNS,
  { title: "broken reads", cell: ({ broken }) => whole(broken) },
  { title: "of", cell: ({ reads }) => whole(reads) },
];

/** Resolves to the runtime of a command, or rejects if it cannot update. */
export async function probe(command: Command, folder: string): Promise<string> {
  const child = start(command, ["update", newFile(folder), 0], TIMEOUT_MS);
  try {
    child.send(0);
    const { runtime } = await child.end<{ runtime: string }>();
    return runtime;
  } finally {
    child.kill();
  }
}

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds, seconds }: RunOptions,
): Promise<Measured<Result>> {
  const { results, failed } = await inRounds(
    contenders,
    rounds,
    ({ commands }) => once(commands, newFile(folder), seconds),
    (all) => ({
      ...summarizeContention(all.map(({ reported }) => reported), seconds),
      reads: all.reduce((sum, { reads }) => sum + reads, 0),
      broken: all.reduce((sum, { broken }) => sum + broken, 0),
    }),
  );
  const compared = beside(
    results,
    ({ kind }) => nameOf(BASELINE, kind),
    (one, python) => one.rate / python.rate,
  );
  return {
    results: compared.map(({ result, ratio }) => ({
      ...result,
      besidePython: ratio,
    })),
    failed,
  };
}

export function method({ rounds, seconds }: RunOptions): string {
  return `rounds: ${rounds}, in each four processes per contender for ` +
    `${seconds} s; p50 and p99 are times of an update, including waits; ` +
    "of Python's: beside portalocker Lock of the same kind; broken reads: " +
    "unparsable or empty, without a lock";
}

/** A contender that lost an update has failed, so each result lost 0. */
export function thresholds(): Threshold<Result>[] {
  const common = { onlyWithFfi: true, atMost: 0, format: whole };
  return ["durable", "not durable"].flatMap((kind) => [
    {
      ...common,
      kind,
      text: "no update lost",
      figure: () => 0,
      refutedBy: LOST_UPDATES,
    },
    {
      ...common,
      kind,
      text: "readers never see half a file",
      figure: ({ broken }: Result) => broken,
    },
  ]);
}

async function once(
  commands: Commands,
  path: string,
  seconds: number,
): Promise<Round> {
  const { reported, observed } = await contend(
    commands,
    ["update", path, seconds],
    (startTime, ended) => keepReading(path, startTime, seconds * 1000, ended),
  );
  assertNoLostUpdates(reported, JSON.parse(readFileSync(path, "utf8")).number);
  return { reported, ...observed ?? { reads: 0, broken: 0 } };
}

/** Reads the file until the time is over or the processes have ended. */
async function keepReading(
  path: string,
  startTime: number,
  milliseconds: number,
  ended: AbortSignal,
): Promise<Reads> {
  await sleep(startTime - Date.now());
  let reads = 0;
  let broken = 0;
  while (!ended.aborted && Date.now() < startTime + milliseconds) {
    reads++;
    if (!isJson(readFileSync(path, "utf8"))) broken++;
    await sleep(READ_PAUSE_MS);
  }
  return { reads, broken };
}

function newFile(folder: string): string {
  const path = `${freshPath(folder)}.json`;
  writeFileSync(path, JSON.stringify({ number: 0 }));
  return path;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
