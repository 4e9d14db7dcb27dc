/**
 * Scenario: four processes contend for one lock. Whoever has it adds one to a
 * number in a file beside it, and starts over without a pause. At the end the
 * number has to be what the four say that they counted.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { short, whole } from "../format.mjs";
import { merged, quantile } from "../histogram.mjs";
import { besideC, inRounds } from "../rounds.mjs";
import { start } from "../run.mjs";
import { freshPath } from "../workspace.mjs";

export const title = "Four processes contend, read-add-write under the lock";
export const ROUNDS = 1;

const PROCESSES = 4;

/** Milliseconds: for the start to reach everybody, and for stragglers. */
const HEAD_START = 100;
const PATIENCE = 60_000;

export const COLUMNS = [
  { title: "", cell: ({ label }) => label },
  { title: "sections/s", cell: ({ rate }) => whole(rate) },
  { title: "of C's", cell: ({ besideC }) => short(besideC) },
  { title: "least/most", cell: ({ share }) => short(share) },
  { title: "p50 µs", cell: ({ median }) => short(median) },
  { title: "p99 µs", cell: ({ p99 }) => short(p99) },
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
  const args = ["contention", path, seconds * 1000];
  const children = Array.from({ length: PROCESSES }, (_, i) => {
    const command = commands[i % commands.length];
    return start(command, args, seconds * 1000 + PATIENCE);
  });
  try {
    for (const child of children) await child.hear();
    const moment = Date.now() + HEAD_START;
    for (const child of children) child.say(moment);
    const told = await Promise.all(children.map((child) => child.end()));
    mustAddUp(told.map(({ count }) => count), readFileSync(counter));
    return told;
  } finally {
    for (const child of children) child.kill();
  }
}

function mustAddUp(counts, counter) {
  const sum = counts.reduce((a, b) => a + b);
  const [number] = new Int32Array(new Uint8Array(counter).buffer);
  if (number !== sum) {
    throw new Error(`LOST UPDATES: ${sum} sections, but ${number} in the file`);
  }
  if (sum === 0) throw new Error("measured nothing");
}

/** Times in microseconds. The fairness is that of the worst round. */
function pooled(runs, seconds) {
  const counts = runs.map((told) => told.map(({ count }) => count));
  const waits = merged(runs.flat().map(({ samples }) => samples));
  return {
    rate: counts.flat().reduce((a, b) => a + b) / runs.length / seconds,
    share: Math.min(
      ...counts.map((four) => Math.min(...four) / Math.max(...four)),
    ),
    median: quantile(waits, 0.5) / 1000,
    p99: quantile(waits, 0.99) / 1000,
    longest: waits.at(-1)[0] / 1000,
    counts,
  };
}
