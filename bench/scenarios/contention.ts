/**
 * Scenario: four processes contend for one lock. Whoever has it adds one to a
 * number in a file beside it, and starts over without a pause. At the end the
 * number has to be what the four say that they counted.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { short, whole } from "../format.mjs";
import { COLUMNS as OF_FOUR, four, mustAddUp, pooled } from "../four.mjs";
import { besideC, inRounds } from "../rounds.mjs";
import { freshPath } from "../workspace.mjs";

export const title = "Four processes contend, read-add-write under the lock";
export const ROUNDS = 1;

export const COLUMNS = [
  { title: "", cell: ({ label }) => label },
  { title: "sections/s", cell: ({ rate }) => whole(rate) },
  { title: "of C's", cell: ({ besideC }) => short(besideC) },
  ...OF_FOUR,
  { title: "longest ms", cell: ({ longest }) => short(longest / 1000) },
];

export async function run(contenders, folder, { rounds, seconds }) {
  const { results, failed } = await inRounds(
    contenders,
    rounds,
    (contender) => once(contender, folder, seconds),
    (runs) => pooled(runs, seconds),
  );
  return { results: besideC(results, (one, c) => one.rate / c.rate), failed };
}

export function method({ rounds, seconds }) {
  return `rounds: ${rounds}, in each every contender four processes for ` +
    `${seconds} s; p50, p99 and longest are times to acquire`;
}

export function aims() {
  return ["sync", "async"].flatMap((kind) => [
    {
      kind,
      text: "at least a third of C's rate",
      figure: ({ besideC }) => besideC,
      least: 1 / 3,
      shown: short,
    },
    {
      kind,
      text: "least / most of the four above 0.6",
      figure: ({ share }) => share,
      least: 0.6,
      shown: short,
    },
  ]);
}

async function once({ commands }, folder, seconds) {
  const path = freshPath(folder);
  const counter = `${path}.count`;
  writeFileSync(counter, new Int32Array(1));
  const { told } = await four(commands, ["contention", path, seconds]);
  const [number] = new Int32Array(new Uint8Array(readFileSync(counter)).buffer);
  mustAddUp(told, number);
  return told;
}
