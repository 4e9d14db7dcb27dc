/**
 * Scenario: four processes contend for one lock without a pause. The holder
 * adds one to a number in another file. At the end, the number has to equal the
 * sum of what the four processes counted.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { LABEL } from "../report/columns.ts";
import { short, whole } from "../report/format.ts";
import {
  assertNoLostUpdates,
  contend,
  CONTENTION_COLUMNS,
  summarizeContention,
} from "../runner/contention_runner.ts";
import type {
  ContentionFigures,
  Counted,
} from "../runner/contention_runner.ts";
import { besideC, inRounds } from "../runner/rounds.ts";
import type { BesideC } from "../runner/rounds.ts";
import { freshPath } from "../runner/workspace.ts";
import type {
  Column,
  Contender,
  ContenderInfo,
  Measured,
  RunOptions,
  Threshold,
} from "../types.ts";

export const title = "Four processes contend, read-add-write under the lock";
export const ROUNDS = 1;

type Result = BesideC<ContenderInfo & ContentionFigures>;

export const COLUMNS: readonly Column<Result>[] = [
  LABEL,
  { title: "sections/s", cell: ({ rate }) => whole(rate) },
  { title: "of C's", cell: ({ besideC }) => short(besideC) },
  ...CONTENTION_COLUMNS,
  { title: "longest ms", cell: ({ longest }) => short(longest / 1000) },
];

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds, seconds }: RunOptions,
): Promise<Measured<Result>> {
  const { results, failed } = await inRounds(
    contenders,
    rounds,
    (contender) => once(contender, folder, seconds),
    (all) => summarizeContention(all, seconds),
  );
  return { results: besideC(results, (one, c) => one.rate / c.rate), failed };
}

export function method({ rounds, seconds }: RunOptions): string {
  return `rounds: ${rounds}, in each four processes per contender for ` +
    `${seconds} s; p50, p99 and longest are times to acquire`;
}

export function thresholds(): Threshold<Result>[] {
  return ["sync", "async"].flatMap((kind) => [
    {
      kind,
      text: "at least a third of C's rate",
      figure: ({ besideC }) => besideC,
      atLeast: 1 / 3,
      format: short,
    },
    {
      kind,
      text: "least / most of the four above 0.6",
      figure: ({ share }) => share,
      atLeast: 0.6,
      format: short,
    },
  ]);
}

async function once(
  { commands }: Contender,
  folder: string,
  seconds: number,
): Promise<Counted[]> {
  const path = freshPath(folder);
  const counter = `${path}.count`;
  writeFileSync(counter, new Int32Array(1));
  const { reported } = await contend(commands, ["contention", path, seconds]);
  const [number = NaN] = new Int32Array(
    new Uint8Array(readFileSync(counter)).buffer,
  );
  assertNoLostUpdates(reported, number);
  return reported;
}
